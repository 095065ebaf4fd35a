#include "frames.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sockets.h"

void append(Bytes* bytes, const void* data, size_t size) {
    if (bytes->incomplete || size == 0) return;
    if (size > bytes->capacity - bytes->size) {
        const size_t capacity = 2 * bytes->capacity + size;
        char* grown = realloc(bytes->data, capacity);
        if (!grown) {
            bytes->incomplete = true;
            return;
        }
        bytes->data = grown;
        bytes->capacity = capacity;
    }
    memcpy(bytes->data + bytes->size, data, size);
    bytes->size += size;
}

/* The bytes of a text up to a limit; no character is cut in two. */
static size_t whole_characters(const char* text, size_t size, size_t limit) {
    if (size <= limit) return size;
    while (limit > 0 && ((unsigned char)text[limit] & 0xc0) == 0x80) --limit;
    return limit;
}

void append_text(Bytes* bytes, const char* text) {
    append(bytes, text, whole_characters(text, strlen(text), HIPCOMM_WIRE_MAX_TEXT));
}

void free_bytes(Bytes* bytes) {
    free(bytes->data);
    *bytes = (Bytes){0};
}

void begin_frame(Bytes* bytes, hipcommWireType type) {
    hipcommWireHeader header = {.version = HIPCOMM_WIRE_VERSION, .type = (uint16_t)type};
    memcpy(header.magic, HIPCOMM_WIRE_MAGIC, sizeof header.magic);
    append(bytes, &header, sizeof header);
}

void end_frame(Bytes* bytes) {
    if (bytes->incomplete) return;
    hipcommWireHeader* header = (hipcommWireHeader*)bytes->data;
    header->length = (uint32_t)(bytes->size - sizeof *header);
}

const char* problem_with_header(const hipcommWireHeader* header, size_t limit) {
    if (memcmp(header->magic, HIPCOMM_WIRE_MAGIC, sizeof header->magic) != 0) return "it does not speak this protocol";
    if (header->version != HIPCOMM_WIRE_VERSION) return "it speaks another version of the protocol";
    return header->length > limit ? "it sent a frame that is too long" : "";
}

bool receive_frame(int socket, hipcommWireHeader* header, char** payload, size_t limit, double deadline) {
    *payload = NULL;
    if (!receive_bytes(socket, header, sizeof *header, deadline)) return false;
    if (*problem_with_header(header, limit)) {
        errno = EPROTO;
        return false;
    }
    if (header->length == 0) return true;
    *payload = malloc(header->length);
    if (!*payload) {
        errno = ENOMEM;
        return false;
    }
    if (receive_bytes(socket, *payload, header->length, deadline)) return true;
    const int error = errno;
    free(*payload);
    *payload = NULL;
    errno = error;
    return false;
}

void copy_text(char* to, size_t capacity, const char* text, size_t size) {
    const size_t taken = whole_characters(text, size, capacity - 1);
    if (taken) memcpy(to, text, taken);
    to[taken] = '\0';
}
