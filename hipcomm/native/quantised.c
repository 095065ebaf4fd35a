#include "quantised.h"

#include <stdarg.h>
#include <stdio.h>

#include "failure.h"
#include "tables.h"

/* ---- the tables ------------------------------------------------------------------------------------------------ */

enum { kCodeNone, kCodeFp8, kCodeFp4 };
enum { kGroupNone = 0, kGroup16 = 16, kGroup32 = 32, kGroupRow = -1, kGroupChosen = -2 };
enum { kScaleNone = 0, kScaleByte = 1, kScaleFloat32 = 4 };

/* Sets of layouts: the least bit is the one that is taken where none is named. */
enum {
#define LAYOUT(Name, name, number, ...) k##Name = 1 << number,
    HIPCOMM_SCALE_LAYOUTS(LAYOUT)
};

typedef struct Format {
    const char* name;
    int code, group, scale_bytes, layouts;
} Format;
static const Format formats[hipcommNumFormats] = {
#define FORMAT(Name, name, number, code, group, scale, layouts, ...) \
    [number] = {#name, kCode##code, kGroup##group, kScale##scale, layouts},
    HIPCOMM_FORMATS(FORMAT)
};

#define NAME(Name, name, number, ...) [number] = #name,
static const char* const layout_names[hipcommNumScaleLayouts] = {HIPCOMM_SCALE_LAYOUTS(NAME)};

bool format_is_valid(int format) { return format >= 0 && format < hipcommNumFormats; }
bool is_fp8_format(hipcommFormat_t format) { return formats[format].code == kCodeFp8; }
static bool layout_is_valid(int layout) { return layout >= 0 && layout < hipcommNumScaleLayouts; }

const char* hipcommFormatName(hipcommFormat_t format) {
    return format_is_valid((int)format) ? formats[format].name : "unknown format";
}
const char* hipcommScaleLayoutName(hipcommScaleLayout_t layout) {
    return layout_is_valid((int)layout) ? layout_names[layout] : "unknown layout of scales";
}

/* ---- descriptions ---------------------------------------------------------------------------------------------- */

static uint64_t ceil_div(uint64_t a, uint64_t b) { return (a + b - 1) / b; }
static uint64_t round_up(uint64_t a, uint64_t b) { return ceil_div(a, b) * b; }

__attribute__((format(printf, 3, 4))) static bool is_wrong(char* problem, size_t size, const char* text, ...) {
    va_list arguments;
    va_start(arguments, text);
    vsnprintf(problem, size, text, arguments);
    va_end(arguments);
    return false;
}

static bool is_group(uint64_t group) {
    return group >= 32 && group <= 512 && (group & (group - 1)) == 0;
}

static uint32_t layout_of(const Format* format, hipcommScaleLayout_t asked) {
    if (asked != hipcommScalesDefault) return asked;
    return (uint32_t)__builtin_ctz((unsigned)format->layouts);
}

/* Bytes of all scales; the stride is that of columns, where there is one. */
static uint64_t bytes_of_scales(uint32_t layout, uint64_t scale_bytes, uint64_t tokens, uint64_t groups, uint64_t stride) {
    switch (layout) {
        case hipcommScalesColumnMajor: return groups * stride * scale_bytes;
        case hipcommScalesPacked: return ceil_div(groups, 4) * stride * 4;
        case hipcommScalesSwizzled: return ceil_div(tokens, 128) * ceil_div(groups, 4) * 512;
        default: return tokens * groups * scale_bytes;
    }
}

bool describe_quantised(const hipcommQuantised* q, uint64_t tokens, uint64_t hidden, QuantisedShape* shape,
                        char* problem, size_t size) {
    if (q->size != sizeof *q)
        return is_wrong(problem, size, "size %zu is not that of this library's hipcommQuantised, %zu: was the program "
                        "compiled with another hipcomm.h?", q->size, sizeof *q);
    if (!format_is_valid((int)q->format) || q->format == hipcommFormatNone)
        return is_wrong(problem, size, "quantised: format %d is none that outputs have", (int)q->format);
    const Format* format = &formats[q->format];
    const bool is_fp8 = format->code == kCodeFp8;
    if (is_fp8 && q->codes_dtype != hipcommFloat8E4M3FN && q->codes_dtype != hipcommFloat8E4M3FNUZ)
        return is_wrong(problem, size, "codes of dtype %s: those of %s are float8_e4m3fn or float8_e4m3fnuz",
                        dtype_name((uint32_t)q->codes_dtype), format->name);
    if (format->group == kGroupChosen ? !is_group(q->group) : q->group && (int64_t)q->group != format->group)
        return is_wrong(problem, size, format->group == kGroupChosen ? "%s in groups of %zu: they are of 32, 64, 128, 256 or 512"
                                     : "%s in groups of %zu: its groups cannot be chosen", format->name, q->group);
    const uint32_t layout = layout_of(format, q->layout);
    if (!layout_is_valid((int)q->layout) || !(format->layouts & 1 << layout))
        return is_wrong(problem, size, "scales of %s are not %s", format->name,
                        hipcommScaleLayoutName(q->layout));

    *shape = (QuantisedShape){.layout = layout, .alignment = 4, .writes_scales = format->group != kGroupNone};
    shape->code_bytes = is_fp8 ? hidden : ceil_div(hidden, 2);
    shape->codes_stride = q->codes_stride ? q->codes_stride : shape->code_bytes;
    if (shape->codes_stride < shape->code_bytes)
        return is_wrong(problem, size, "codes: rows of %llu bytes lie %zu apart", (unsigned long long)shape->code_bytes,
                        q->codes_stride);
    if (tokens > HIPCOMM_MAX_MESSAGE_BYTES / shape->codes_stride)
        return is_wrong(problem, size, "codes: %llu rows are not possible", (unsigned long long)tokens);
    if (!shape->writes_scales) {
        shape->scale_bytes = 4;
        return true;
    }
    shape->group = format->group == kGroupRow      ? HIPCOMM_MAX_HIDDEN
                   : format->group == kGroupChosen ? q->group
                                                   : (uint64_t)format->group;
    const uint64_t groups = ceil_div(hidden, shape->group);
    const bool has_columns = layout == hipcommScalesColumnMajor;
    if (q->scales_stride && !has_columns)
        return is_wrong(problem, size, "scales_stride %zu: only column_major scales have one", q->scales_stride);
    if (q->scales_stride && q->scales_stride < tokens)
        return is_wrong(problem, size, "scales_stride %zu is less than %llu tokens", q->scales_stride,
                        (unsigned long long)tokens);
    shape->scales_stride = layout == hipcommScalesPacked ? round_up(tokens, 4) : q->scales_stride ? q->scales_stride : tokens;
    if (shape->scales_stride > HIPCOMM_MAX_MESSAGE_BYTES / (4 * groups + 16) || tokens > HIPCOMM_MAX_MESSAGE_BYTES / (4 * groups + 16) / 4)
        return is_wrong(problem, size, "scales: %llu rows are not possible", (unsigned long long)tokens);
    shape->row_scale_bytes = groups * (uint64_t)format->scale_bytes;
    shape->scale_bytes = bytes_of_scales(layout, (uint64_t)format->scale_bytes, tokens, groups, shape->scales_stride);
    if (format->scale_bytes == kScaleByte && layout == hipcommScalesRowMajor) shape->alignment = 1;
    return true;
}

hipcommQuantisedArgs quantised_args(const hipcommQuantised* q, const QuantisedShape* shape) {
    return (hipcommQuantisedArgs){
        .codes = q->codes,
        .codes_stride = shape->codes_stride,
        .scales = q->scales,
        .scales_stride = shape->scales_stride,
        .global_scale = q->global_scale,
        .format = q->format,
        .layout = shape->layout,
        .group = (uint32_t)shape->group,
        .is_fnuz = q->codes_dtype == hipcommFloat8E4M3FNUZ,
    };
}

hipcommResult_t hipcommQuantisedBytes(const hipcommQuantised* quantised, size_t tokens, size_t hidden,
                                      uint64_t* code_bytes, uint64_t* scale_bytes) {
    QuantisedShape shape;
    char problem[320] = "hipcommQuantisedBytes: an argument is NULL";
    if (!quantised || !code_bytes || !scale_bytes) return set_error(NULL, hipcommInvalidArgument, "%s", problem);
    if (hidden < 1 || hidden > HIPCOMM_MAX_HIDDEN)
        return set_error(NULL, hipcommInvalidArgument, "rows of %zu elements: hidden is 1 to %u", hidden, HIPCOMM_MAX_HIDDEN);
    if (!describe_quantised(quantised, tokens, hidden, &shape, problem, sizeof problem))
        return set_error(NULL, hipcommInvalidArgument, "%s", problem);
    *code_bytes = shape.code_bytes;
    *scale_bytes = shape.scale_bytes;
    return hipcommSuccess;
}
