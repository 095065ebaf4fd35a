#include "settings.h"

#include <ctype.h>
#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../abi/algorithms.def"
#include "../../abi/launchers.def"
#include "../../abi/limits.h"
#include "../../abi/platforms.def"
#include "../../abi/settings.def"
#include "../failure.h"

/* ---- the table of settings -------------------------------------------------------------------------------------- */

enum {
#define NUMBER(keyword, ...) kSetting_##keyword,
    HIPCOMM_SETTINGS(NUMBER)
#undef NUMBER
    kSettings
};

static const struct {
    const char *variable, *fallback;
} rows[kSettings] = {
#define ROW(keyword, variable, kind, fallback, ...) {variable, fallback},
    HIPCOMM_SETTINGS(ROW)
#undef ROW
};

/* A text, and what it is called in messages. */
typedef struct Text {
    const char *name, *value; /* "": there is none */
} Text;

static const char* variable(const char* name) {
    const char* value = getenv(name);
    return value ? value : "";
}

/* The argument's text, else the variable's, else the default. */
static Text text_of(int setting, const char* keyword, const char* given) {
    if (given && *given) return (Text){keyword, given};
    const char* value = variable(rows[setting].variable);
    return (Text){rows[setting].variable, *value ? value : rows[setting].fallback};
}

static hipcommResult_t refuse(Text text, const char* why) {
    return set_error(NULL, hipcommInvalidArgument, "%s='%s': %s", text.name, text.value, why);
}

/* ---- kinds of texts --------------------------------------------------------------------------------------------- */

static bool is_decimal(const char* text, size_t length) {
    if (length == 0) return false;
    for (size_t i = 0; i < length; ++i)
        if (!isdigit((unsigned char)text[i])) return false;
    return true;
}

static hipcommResult_t read_count(Text text, long minimum, int* value) {
    char why[64];
    const bool is_number = is_decimal(text.value, strlen(text.value));
    const long number = is_number ? strtol(text.value, NULL, 10) : -1;
    snprintf(why, sizeof why, "not a whole number of at least %ld", minimum);
    if (number < minimum || number > INT32_MAX) return refuse(text, why);
    *value = (int)number;
    return hipcommSuccess;
}

static hipcommResult_t read_seconds(Text text, double* value) {
    /* a program may have set a locale in which 0.5 is written 0,5 */
    const locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (plain == (locale_t)0) return set_error(NULL, hipcommPlatformError, "newlocale failed: %s", strerror(errno));
    char* end;
    *value = strtod_l(text.value, &end, plain);
    freelocale(plain);
    if (*text.value && !*end && *value > 0 && *value <= HIPCOMM_MAX_TIMEOUT_SECONDS) return hipcommSuccess;
    return refuse(text, "not a positive number of seconds up to 1000000");
}

static hipcommResult_t read_truth(Text text, bool* value) {
    *value = text.value[0] == '1';
    const bool is_digit = (text.value[0] == '0' || text.value[0] == '1') && !text.value[1];
    return is_digit ? hipcommSuccess : refuse(text, "neither 0 nor 1");
}

/* "33554432", "512K", "32MiB" */
static hipcommResult_t read_bytes(Text text, uint64_t* value) {
    char digits[32];
    size_t length = strlen(text.value);
    if (length >= sizeof digits) return refuse(text, "more than 64G");
    for (size_t i = 0; i <= length; ++i) digits[i] = (char)toupper((unsigned char)text.value[i]);
    if (length && digits[length - 1] == 'B') length -= length > 1 && digits[length - 2] == 'I' ? 2 : 1;
    int shift = 0;
    const char* const units = "KMG";
    const char* unit = length ? strchr(units, digits[length - 1]) : NULL;
    if (unit) {
        shift = 10 * (int)(unit - units + 1);
        --length;
    }
    digits[length] = '\0';
    if (!is_decimal(digits, length) || strspn(digits, "0") == length)
        return refuse(text, "not a positive number of bytes such as 33554432, 512K or 32M");
    const unsigned long long number = length > 20 ? UINT64_MAX : strtoull(digits, NULL, 10);
    if (number > (uint64_t)HIPCOMM_MAX_STAGING_BYTES >> shift) return refuse(text, "more than 64G");
    *value = number << shift;
    return hipcommSuccess;
}

static hipcommResult_t read_algorithm(Text text, hipcommAlgorithm_t* value) {
    static const struct {
        const char* name;
        hipcommAlgorithm_t number;
        bool asked;
    } algorithms[] = {
#define ALGORITHM(Name, name, number, asked, ...) {#name, hipcommAlgorithm##Name, asked},
        HIPCOMM_ALGORITHMS(ALGORITHM)
#undef ALGORITHM
    };
    for (size_t i = 0; i < sizeof algorithms / sizeof algorithms[0]; ++i) {
        if (!algorithms[i].asked || strcmp(text.value, algorithms[i].name) != 0) continue;
        *value = algorithms[i].number;
        return hipcommSuccess;
    }
    return refuse(text, "not the name of an algorithm that can be asked for");
}

static hipcommResult_t read_platform(Text text, char* value, size_t size) {
    static const char* const names[] = {
        "auto",
#define PLATFORM(name, ...) name,
        HIPCOMM_PLATFORMS(PLATFORM)
#undef PLATFORM
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; ++i) {
        if (strcmp(text.value, names[i]) != 0) continue;
        snprintf(value, size, "%s", text.value);
        return hipcommSuccess;
    }
    return refuse(text, "not the name of a platform");
}

static hipcommResult_t read_text(Text text, char* value, size_t size) {
    if (strlen(text.value) >= size) return refuse(text, "too long");
    snprintf(value, size, "%s", text.value);
    return hipcommSuccess;
}

/* "127.0.0.1:4000", "[::1]:4000" */
static hipcommResult_t read_endpoint(Text text, Endpoint* endpoint) {
    if (!*text.value) return hipcommSuccess;
    const char* colon = strrchr(text.value, ':');
    const char* begin = text.value + (text.value[0] == '[');
    const char* end = colon && colon > begin && colon[-1] == ']' ? colon - 1 : colon;
    const bool has_port = colon && is_decimal(colon + 1, strlen(colon + 1)) && strlen(colon + 1) <= 5;
    const long port = has_port ? strtol(colon + 1, NULL, 10) : 0;
    if (port < 1 || port > 65535 || end <= begin || (size_t)(end - begin) >= sizeof endpoint->host)
        return refuse(text, "not of the form host:port");
    memcpy(endpoint->host, begin, (size_t)(end - begin));
    endpoint->host[end - begin] = '\0';
    endpoint->port = (int)port;
    return hipcommSuccess;
}

/* The value is a secret and in no message. */
static hipcommResult_t read_token(Text text, Endpoint* endpoint) {
    if (!*endpoint->host) return hipcommSuccess;
    if (!*text.value)
        return set_error(NULL, hipcommInvalidArgument, "%s='': %s is set, so it must be too", text.name,
                         rows[kSetting_rendezvous].variable);
    if (strlen(text.value) > HIPCOMM_WIRE_MAX_TOKEN)
        return set_error(NULL, hipcommInvalidArgument, "%s=(hidden): longer than 128 bytes", text.name);
    snprintf(endpoint->token, sizeof endpoint->token, "%s", text.value);
    return hipcommSuccess;
}

/* ---- settings --------------------------------------------------------------------------------------------------- */

/* A number that the caller has given, as the text that a variable would have; "": it is not given. */
typedef struct Number {
    char text[32];
} Number;
static Number real(double value) {
    Number number = {""};
    if (value == 0) return number;
    /* in thousandths, because the decimal point of printf depends on the locale */
    if (value > 0 && value <= HIPCOMM_MAX_TIMEOUT_SECONDS)
        snprintf(number.text, sizeof number.text, "%llue-6", (unsigned long long)(value * 1e6 + 0.5));
    else
        snprintf(number.text, sizeof number.text, "%g", value);
    return number;
}
static Number whole(unsigned long long value) {
    Number number = {""};
    if (value) snprintf(number.text, sizeof number.text, "%llu", value);
    return number;
}
static Number truth(int value) {
    Number number = {""};
    if (value >= 0) snprintf(number.text, sizeof number.text, "%d", value);
    return number;
}

hipcommResult_t read_settings(const hipcommSettings* given, Settings* settings) {
    static const hipcommSettings nothing = HIPCOMM_SETTINGS_INITIALIZER;
    if (!given) given = &nothing;
    *settings = (Settings){0};
    if (given->size != sizeof *given)
        return set_error(NULL, hipcommInvalidArgument,
                         "settings: size is %zu, not %zu: begin with HIPCOMM_SETTINGS_INITIALIZER", given->size,
                         sizeof *given);
#define READ(keyword, argument, read, ...) \
    if (result == hipcommSuccess) result = read(text_of(kSetting_##keyword, #keyword, argument), __VA_ARGS__)
    hipcommResult_t result = hipcommSuccess;
    READ(rendezvous, NULL, read_endpoint, &settings->rendezvous);
    READ(token, NULL, read_token, &settings->rendezvous);
    READ(platform, given->platform, read_platform, settings->platform, sizeof settings->platform);
    READ(device, given->device, read_text, settings->device, sizeof settings->device);
    READ(share_devices, truth(given->share_devices).text, read_truth, &settings->share_devices);
    READ(timeout, real(given->timeout).text, read_seconds, &settings->timeout);
    READ(join_timeout, real(given->join_timeout).text, read_seconds, &settings->join_timeout);
    READ(algorithm, given->algorithm, read_algorithm, &settings->algorithm);
    READ(check, truth(given->check).text, read_truth, &settings->check);
#undef READ
    if (result != hipcommSuccess) return result;
    const Number bytes = whole(given->staging_bytes);
    const Text staging = text_of(kSetting_staging_bytes, "staging_bytes", bytes.text);
    return *staging.value ? read_bytes(staging, &settings->staging_bytes) : hipcommSuccess;
}

/* ---- identity --------------------------------------------------------------------------------------------------- */

typedef struct Launcher {
    const char *name, *rank, *world, *local_rank, *local_size, *job;
} Launcher;

static const Launcher launchers[] = {
#define LAUNCHER(name, rank, world, local_rank, local_size, job, ...) {name, rank, world, local_rank, local_size, job},
    HIPCOMM_LAUNCHERS(LAUNCHER)
#undef LAUNCHER
};

/* Batch scripts and interactive shells carry SLURM_PROCID=0 and a task count as well. */
static bool is_slurm_task(void) {
    const char* step = variable("SLURM_STEP_ID");
    if (!*step) return !*variable("SLURM_JOB_ID");
    const size_t length = strlen(step);
    for (const char* next = HIPCOMM_SLURM_SPECIAL_STEPS; *next; next += strspn(next, " ")) {
        const size_t each = strcspn(next, " ");
        if (each == length && memcmp(next, step, length) == 0) return false;
        next += each;
    }
    return true;
}

/* False: there is none. */
static bool find_launcher(Launcher* launcher) {
    for (size_t i = 0; i < sizeof launchers / sizeof launchers[0]; ++i) {
        const bool is_slurm = strcmp(launchers[i].name, "Slurm") == 0;
        *launcher = launchers[i];
        if (is_slurm && !is_slurm_task()) continue;
        if (is_slurm && *variable(HIPCOMM_SLURM_STEP_TASKS)) launcher->world = HIPCOMM_SLURM_STEP_TASKS;
        if (*variable(launcher->rank) || (i == 0 && *variable(launcher->world))) return true;
    }
    return false;
}

/* What names the job: HIPCOMM_JOB_ID, or those of the launcher's variables that are set, or the process that has started
 * all ranks of this machine. */
static void name_job(const Launcher* launcher, char* job, size_t size) {
    const char* id = variable(rows[kSetting_job_id].variable);
    if (*id) {
        snprintf(job, size, "job=%s", id);
        return;
    }
    size_t used = 0;
    job[0] = '\0';
    for (const char* next = launcher->job; *next && used < size;) {
        char name[64];
        const size_t length = strcspn(next, " ");
        snprintf(name, sizeof name, "%.*s", (int)length, next);
        const char* value = variable(name);
        if (*value) used += (size_t)snprintf(job + used, size - used, "%s%s=%s", used ? " " : "", name, value);
        next += length + (next[length] == ' ');
    }
    if (!used) snprintf(job, size, "parent=%d", (int)getppid());
}

static hipcommResult_t read_number(const char* name, long minimum, int* value) {
    return read_count((Text){name, variable(name)}, minimum, value);
}

hipcommResult_t read_identity(Identity* identity) {
    *identity = (Identity){.world = 1};
    Launcher found;
    const Launcher* const launcher = &found;
    if (!find_launcher(&found)) return hipcommSuccess;
    if (!*variable(launcher->rank) || !*variable(launcher->world)) {
        const char* missing = *variable(launcher->rank) ? launcher->world : launcher->rank;
        const char* present = *variable(launcher->rank) ? launcher->rank : launcher->world;
        return set_error(NULL, hipcommInvalidArgument, "%s='': not set, but %s='%s' is", missing, present,
                         variable(present));
    }
    hipcommResult_t result = read_number(launcher->rank, 0, &identity->rank);
    if (result == hipcommSuccess) result = read_number(launcher->world, 1, &identity->world);
    if (result != hipcommSuccess) return result;
    if (identity->world > HIPCOMM_MAX_RANKS)
        return set_error(NULL, hipcommInvalidArgument, "%s='%s': hipcomm joins %d ranks at most", launcher->world,
                         variable(launcher->world), HIPCOMM_MAX_RANKS);
    if (identity->rank >= identity->world)
        return set_error(NULL, hipcommInvalidArgument, "%s='%s': not below %s='%s'", launcher->rank,
                         variable(launcher->rank), launcher->world, variable(launcher->world));
    identity->local_rank = identity->rank;
    if (*variable(launcher->local_rank)) result = read_number(launcher->local_rank, 0, &identity->local_rank);
    int local_size = identity->world, nodes = 1;
    if (result == hipcommSuccess && strcmp(launcher->name, "Slurm") == 0) {
        const char* const name = *variable("SLURM_STEP_NUM_NODES") ? "SLURM_STEP_NUM_NODES" : "SLURM_NNODES";
        if (*variable(name)) result = read_number(name, 1, &nodes);
        if (result == hipcommSuccess && nodes > 1)
            return set_error(NULL, hipcommInvalidArgument,
                             "%s='%d': ranks in C are those of one machine; Python's may be on several", name, nodes);
    }
    if (result == hipcommSuccess && *launcher->local_size && *variable(launcher->local_size))
        result = read_number(launcher->local_size, 1, &local_size);
    if (result != hipcommSuccess) return result;
    if (local_size != identity->world)
        return set_error(NULL, hipcommInvalidArgument,
                         "%s='%s' but %s='%s': ranks in C are those of one machine; Python's may be on several", launcher->world,
                         variable(launcher->world), launcher->local_size, variable(launcher->local_size));
    name_job(launcher, identity->job, sizeof identity->job);
    return hipcommSuccess;
}
