/* Quantised outputs of norms: formats.def, as calls see it. */
#ifndef HIPCOMM_NATIVE_QUANTISED_H
#define HIPCOMM_NATIVE_QUANTISED_H

#include <stdbool.h>

#include "../abi/norm_args.h"
#include "hipcomm.h"

bool format_is_valid(int format);
bool is_fp8_format(hipcommFormat_t format); /* of valid ones */

/* Where the codes and the scales of `tokens` rows of `hidden` elements lie. */
typedef struct QuantisedShape {
    uint64_t code_bytes;   /* of a row */
    uint64_t codes_stride; /* bytes from a row to the next */
    uint64_t group;        /* elements that share a scale; 0: it is given */
    uint64_t scale_bytes;  /* of all scales, the padding included; */
    uint64_t row_scale_bytes; /* of a row's, without it */
    uint64_t scales_stride;
    uint64_t alignment;    /* of the scales */
    uint32_t layout;
    bool writes_scales;
} QuantisedShape;

/* False, and in `problem` (`size` bytes) what is wrong with the description; hidden and tokens are possible ones. */
bool describe_quantised(const hipcommQuantised* quantised, uint64_t tokens, uint64_t hidden, QuantisedShape* shape,
                        char* problem, size_t size);

/* What kernels are told of it. */
hipcommQuantisedArgs quantised_args(const hipcommQuantised* quantised, const QuantisedShape* shape);

#endif
