/* SHA-256, for the name of the endpoint file; and random bytes. */
#ifndef HIPCOMM_NATIVE_JOIN_DIGEST_H
#define HIPCOMM_NATIVE_JOIN_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void sha256(const void* data, size_t size, uint8_t digest[32]);

/* 2 * size digits in lower case, and a zero. */
void write_hexadecimal(const uint8_t* data, size_t size, char* text);

/* False: the system has none; errno says why. */
bool draw_random(void* data, size_t size);

#endif
