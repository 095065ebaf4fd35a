#include "platform.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../abi/platforms.def"
#include "../failure.h"

static HipControl functions;
const HipControl* hip = &functions;

static pthread_mutex_t choosing = PTHREAD_MUTEX_INITIALIZER;
static Platform chosen; /* no name: none yet */

hipcommResult_t hip_problem(const char* function, hipError_t error) {
    return set_error(NULL, error == hipErrorOutOfMemory ? hipcommOutOfMemory : hipcommPlatformError,
                     "%s failed with %s (%d): %s", function, hip->GetErrorName(error), (int)error,
                     hip->GetErrorString(error));
}

hipcommResult_t hip_check(const char* function, hipError_t error) {
    return error == hipSuccess ? hipcommSuccess : hip_problem(function, error);
}

/* The directory above the one that has this library: of hipcomm, wherever it is installed. */
static hipcommResult_t find_package(char* package) {
    Dl_info info;
    char own[PATH_MAX];
    if (!dladdr((void*)(uintptr_t)&find_package, &info) || !info.dli_fname || !realpath(info.dli_fname, own))
        return set_error(NULL, hipcommPlatformError, "cannot find out where libhipcomm.so lies");
    for (int level = 0; level < 2; ++level) {
        char* slash = strrchr(own, '/');
        if (slash) *slash = '\0';
    }
    snprintf(package, PATH_MAX, "%s", own);
    return hipcommSuccess;
}

/* ---- libraries -----------------------------------------------------------------------------------------------------*/

static bool is_file(const char* path) { return access(path, R_OK) == 0; }

/* The path of a platform's library; "": there is none. ROCm's own is where ROCM_PATH says, or in its usual place. */
static void find_library(const char* package, const char* directory, char* path) {
    if (*directory) {
        if (snprintf(path, PATH_MAX, "%s/platforms/%s/lib/libamdhip64.so", package, directory) >= PATH_MAX) *path = '\0';
    } else {
        const char* rocm = getenv("ROCM_PATH");
        const int length = snprintf(path, PATH_MAX, "%s/lib/libamdhip64.so", rocm && *rocm ? rocm : "/opt/rocm");
        if (length >= PATH_MAX) *path = '\0';
    }
    if (*path && !is_file(path)) *path = '\0';
}

static const char* load_functions(void* library) {
    static const struct {
        const char* name;
        void* slot;
    } symbols[] = {
#define SYMBOL(name, arguments) {"hip" #name, &functions.name},
        HIP_CONTROL_FUNCTIONS(SYMBOL)
#undef SYMBOL
        {"hipGetErrorName", &functions.GetErrorName},
        {"hipGetErrorString", &functions.GetErrorString},
    };
    for (size_t i = 0; i < sizeof symbols / sizeof symbols[0]; ++i) {
        void* address = dlsym(library, symbols[i].name);
        if (!address) return symbols[i].name;
        memcpy(symbols[i].slot, &address, sizeof address); /* ISO C has no object-to-function cast */
    }
    return NULL;
}

/* Open a library that has a device; else say why not. It stays open: threads of its own may run. */
static bool open_library(const char* path, char* why, size_t size) {
    void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        snprintf(why, size, "%s", dlerror());
        return false;
    }
    const char* missing = load_functions(library);
    if (missing) {
        snprintf(why, size, "%.300s has no %s", path, missing);
        dlclose(library);
        return false;
    }
    int count = 0;
    hipError_t error = hip->Init(0); /* ROCm 7.2 returns error 303 from later calls without it */
    if (error == hipSuccess) error = hip->GetDeviceCount(&count);
    if (error == hipSuccess && count > 0) return true;
    snprintf(why, size, "no device (hipGetDeviceCount returned %d)", (int)error);
    dlclose(library);
    return false;
}

/* ---- the choice ----------------------------------------------------------------------------------------------------*/

static const struct {
    const char *name, *directory;
    bool is_automatic;
} platforms[] = {
#define PLATFORM(name, directory, automatic, ...) {name, directory, automatic},
    HIPCOMM_PLATFORMS(PLATFORM)
#undef PLATFORM
};

static hipcommResult_t choose(const char* asked) {
    const bool is_auto = strcmp(asked, "auto") == 0;
    Platform found = {.name = ""};
    char reasons[900] = "";
    size_t used = 0;
    const hipcommResult_t result = find_package(found.package);
    if (result != hipcommSuccess) return result;
    for (size_t i = 0; i < sizeof platforms / sizeof platforms[0]; ++i) {
        const char* name = platforms[i].name;
        char why[512];
        if (is_auto ? !platforms[i].is_automatic : strcmp(asked, name) != 0) continue;
        find_library(found.package, platforms[i].directory, found.library);
        if (!*found.library)
            snprintf(why, sizeof why, "no libamdhip64.so found (%s)",
                     *platforms[i].directory ? "it belongs next to libhipcomm.so" : "looked for ROCm in ROCM_PATH and "
                                                                                   "/opt/rocm");
        else if (open_library(found.library, why, sizeof why)) {
            snprintf(found.name, sizeof found.name, "%s", name);
            chosen = found;
            return hipcommSuccess;
        }
        if (used < sizeof reasons)
            used += (size_t)snprintf(reasons + used, sizeof reasons - used, "%s%s: %s", used ? "; " : "", name, why);
    }
    return set_error(NULL, hipcommPlatformError, "%s %s", is_auto ? "no platform has a device:" : "HIPCOMM_PLATFORM:",
                     reasons);
}

hipcommResult_t choose_platform(const char* asked, const Platform** platform) {
    hipcommResult_t result = hipcommSuccess;
    pthread_mutex_lock(&choosing);
    if (!*chosen.name)
        result = choose(asked);
    else if (strcmp(asked, "auto") != 0 && strcmp(asked, chosen.name) != 0)
        result = set_error(NULL, hipcommInvalidArgument, "HIPCOMM_PLATFORM='%s': this process already runs on %s", asked,
                           chosen.name);
    pthread_mutex_unlock(&choosing);
    *platform = &chosen;
    return result;
}
