#include "errors.h"

#include <stdarg.h>
#include <stdio.h>

hipcommResult_t prefix_error(hipcommResult_t result, const char* format, ...) {
    char before[256];
    const KeptError kept = keep_error(result);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(before, sizeof before, format, arguments);
    va_end(arguments);
    return set_error(NULL, result, "%s%s", before, kept.message);
}

KeptError keep_error(hipcommResult_t result) {
    KeptError kept = {.result = result};
    if (result != hipcommSuccess) snprintf(kept.message, sizeof kept.message, "%s", hipcommGetLastError(NULL));
    return kept;
}

hipcommResult_t first_error(const KeptError* kept, hipcommResult_t later) {
    return kept->result == hipcommSuccess ? later : set_error(NULL, kept->result, "%s", kept->message);
}

hipcommResult_t hand_out(hipcommComm_t comm, hipcommResult_t result) {
    if (result != hipcommSuccess) set_error(comm, result, "%s", hipcommGetLastError(NULL));
    return result;
}
