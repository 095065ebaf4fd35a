/* The frames of hipcomm/abi/wire.h, built and received. */
#ifndef HIPCOMM_NATIVE_JOIN_FRAMES_H
#define HIPCOMM_NATIVE_JOIN_FRAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../abi/wire.h"

/* A text of a frame as what one can print: at most so many bytes. */
#define MAX_SHOWN_TEXT 900

/* Bytes that grow. Once memory has run out `incomplete` stays true, and nothing is added any more. */
typedef struct Bytes {
    char* data;
    size_t size, capacity;
    bool incomplete;
} Bytes;
void append(Bytes* bytes, const void* data, size_t size);
void append_text(Bytes* bytes, const char* text); /* of which the protocol takes MAX_TEXT bytes */
void free_bytes(Bytes* bytes);

/* A frame's header, then append() its payload; end_frame() fills in its length. */
void begin_frame(Bytes* bytes, hipcommWireType type);
void end_frame(Bytes* bytes);

/* "" where the header is one of this protocol with a payload of at most `limit` bytes; otherwise what is wrong. */
const char* problem_with_header(const hipcommWireHeader* header, size_t limit);

/* Receive a frame: its payload is malloc'ed (NULL where it is empty). False: errno, EPROTO for what is no frame. */
bool receive_frame(int socket, hipcommWireHeader* header, char** payload, size_t limit, double deadline);

/* Copy a text, which need not end in a zero, so that it does; what does not fit is cut off, between two characters. */
void copy_text(char* to, size_t capacity, const char* text, size_t size);

#endif
