#include "compressed.h"

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* zlib, opened when a file has to be unpacked: no build needs its header, and no machine without NVIDIA's GPUs the
 * library. These functions have been the same since its first version. */
typedef struct Zlib {
    void* library;
    void* (*open)(const char* path, const char* mode);
    int (*read)(void* file, void* data, unsigned length);
    int (*close)(void* file);
} Zlib;

static hipcommResult_t open_zlib(Zlib* zlib) {
    zlib->library = dlopen("libz.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!zlib->library)
        return set_error(NULL, hipcommPlatformError, "zlib, which unpacks PTX, cannot be loaded: %.300s", dlerror());
    void* const functions[] = {dlsym(zlib->library, "gzopen"), dlsym(zlib->library, "gzread"),
                               dlsym(zlib->library, "gzclose")};
    memcpy(&zlib->open, &functions[0], sizeof zlib->open);
    memcpy(&zlib->read, &functions[1], sizeof zlib->read);
    memcpy(&zlib->close, &functions[2], sizeof zlib->close);
    if (zlib->open && zlib->read && zlib->close) return hipcommSuccess;
    dlclose(zlib->library);
    return set_error(NULL, hipcommPlatformError, "libz.so.1 lacks gzopen, gzread or gzclose");
}

static hipcommResult_t read_all(const Zlib* zlib, const char* path, void* file, char** data) {
    size_t capacity = 1 << 20, size = 0;
    char* text = malloc(capacity);
    for (int more = 1; text && more != 0;) {
        if (capacity - size < 2) {
            char* const larger = realloc(text, capacity *= 2);
            if (!larger) free(text);
            if (!(text = larger)) break;
        }
        const size_t room = capacity - size - 1; /* of the zero byte */
        more = zlib->read(file, text + size, room < INT32_MAX ? (unsigned)room : INT32_MAX);
        if (more < 0) {
            free(text);
            return set_error(NULL, hipcommPlatformError, "%.900s cannot be read or is damaged", path);
        }
        size += (size_t)more;
    }
    if (!text) return set_error(NULL, hipcommOutOfMemory, "no memory to unpack %.900s", path);
    text[size] = '\0';
    *data = text;
    return hipcommSuccess;
}

hipcommResult_t read_compressed(const char* path, char** data) {
    Zlib zlib = {NULL};
    hipcommResult_t result = open_zlib(&zlib);
    if (result != hipcommSuccess) return result;
    void* const file = zlib.open(path, "rb");
    result = file ? read_all(&zlib, path, file, data)
                  : set_error(NULL, hipcommPlatformError, "cannot open %.900s", path);
    if (file && zlib.close(file) != 0 && result == hipcommSuccess) { /* it ends too early */
        free(*data);
        *data = NULL;
        result = set_error(NULL, hipcommPlatformError, "%.900s is damaged: it is not whole", path);
    }
    dlclose(zlib.library);
    return result;
}
