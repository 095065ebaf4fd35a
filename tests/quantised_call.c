/* A quantised norm, called as a C program calls it: tests/test_quantised.py compiles this. */
#include <hipcomm.h>

hipcommResult_t quantised_bytes(size_t tokens, size_t hidden, size_t group, uint64_t* codes, uint64_t* scales) {
    const hipcommQuantised quantised = {.size = sizeof quantised,
                                        .format = hipcommFormatFp8PerGroup,
                                        .codes_dtype = hipcommFloat8E4M3FN,
                                        .group = group,
                                        .layout = hipcommScalesColumnMajor};
    return hipcommQuantisedBytes(&quantised, tokens, hidden, codes, scales);
}

hipcommResult_t quantised_norm(hipcommComm_t comm, const float* x, size_t tokens, size_t hidden, void* codes,
                               void* scales, size_t size) {
    const hipcommQuantised quantised = {.size = size ? size : sizeof quantised,
                                        .format = hipcommFormatFp8PerGroup,
                                        .codes_dtype = hipcommFloat8E4M3FN,
                                        .group = 32,
                                        .layout = hipcommScalesColumnMajor,
                                        .codes = codes,
                                        .scales = scales};
    const hipcommNorm norm = {.size = sizeof norm,
                              .tokens = tokens,
                              .hidden = hidden,
                              .dtype = hipcommFloat32,
                              .eps = 1e-6,
                              .x = x,
                              .quantised = &quantised};
    return hipcommAllReduceRmsNorm(&norm, comm, NULL);
}
