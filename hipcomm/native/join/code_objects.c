#include "code_objects.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "compressed.h"
#include "errors.h"

/* The code objects of an architecture on a device; on GPUs a module is one device's. */
typedef struct CodeObjects {
    char arch[64];
    int device; /* -1: any, where the host is the device */
    void** functions;
    struct LoadedModule* modules;
    int count;
    struct CodeObjects* next;
} CodeObjects;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static CodeObjects* loaded; /* whole ones */

typedef struct LoadedModule {
    const char* file; /* of the kernel table */
    hipModule_t module;
} LoadedModule;

/* Where an architecture's objects are. */
typedef struct Directory {
    char path[PATH_MAX];
    bool is_exact; /* for this very chip: machine code fits no other */
} Directory;

static bool is_directory(const char* path) {
    struct stat status;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

/* Objects for a feature that the device has come first: "x86_64_avx2" for "x86_64:avx2+". */
static bool find_exact(const char* root, const char* arch, Directory* directory) {
    char features[64];
    snprintf(features, sizeof features, "%s", arch);
    char* place = NULL;
    const char* base = strtok_r(features, ":", &place);
    directory->is_exact = true;
    for (char* feature; (feature = strtok_r(NULL, ":", &place));) {
        const size_t length = strlen(feature);
        if (feature[length - 1] != '+') continue;
        snprintf(directory->path, sizeof directory->path, "%s/%s_%.*s", root, base, (int)length - 1, feature);
        if (is_directory(directory->path)) return true;
    }
    snprintf(directory->path, sizeof directory->path, "%s/%s", root, base);
    return is_directory(directory->path);
}

/* The newest PTX that an NVIDIA device can run; `built`: all that there is, for a message. */
static bool find_older(const char* root, const char* arch, Directory* directory, char* built, size_t size) {
    const int own = strncmp(arch, "sm_", 3) == 0 ? atoi(arch + 3) : 0;
    int best = 0;
    size_t used = 0;
    DIR* list = opendir(root);
    if (!list) return false;
    for (const struct dirent* entry; (entry = readdir(list));) {
        if (entry->d_name[0] == '.') continue;
        if (used < size) used += (size_t)snprintf(built + used, size - used, "%s%s", used ? ", " : "", entry->d_name);
        const int theirs = strncmp(entry->d_name, "sm_", 3) == 0 ? atoi(entry->d_name + 3) : 0;
        if (theirs > best && theirs <= own) best = theirs;
    }
    closedir(list);
    directory->is_exact = false;
    snprintf(directory->path, sizeof directory->path, "%s/sm_%d", root, best);
    return best > 0;
}

static hipcommResult_t find_directory(const Platform* platform, const char* arch, Directory* directory) {
    char root[PATH_MAX - 80], built[256] = "";
    if (snprintf(root, sizeof root, "%s/code_objects", platform->package) >= (int)sizeof root)
        return set_error(NULL, hipcommPlatformError, "%s is too long a path", platform->package);
    if (find_exact(root, arch, directory) || find_older(root, arch, directory, built, sizeof built))
        return hipcommSuccess;
    return set_error(NULL, hipcommPlatformError, "no code objects for %.*s in %.500s; there are: %s",
                     (int)strcspn(arch, ":"), arch, root, *built ? built : "none");
}

/* A file and a zero byte, in which PTX, a text, has to end. NULL: errno says why. */
static char* read_file(const char* path) {
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return NULL;
    struct stat status;
    char* data = fstat(file, &status) == 0 ? malloc((size_t)status.st_size + 1) : NULL;
    size_t size = 0;
    while (data && size < (size_t)status.st_size) {
        const ssize_t more = read(file, data + size, (size_t)status.st_size - size);
        if (more > 0) {
            size += (size_t)more;
        } else if (more == 0 || errno != EINTR) {
            if (more == 0) errno = EIO; /* it has become shorter */
            free(data);
            data = NULL;
        }
    }
    if (data) data[size] = '\0';
    const int error = errno;
    close(file);
    errno = error;
    return data;
}

static hipcommResult_t load_module(const Directory* directory, const char* file, hipModule_t* module) {
    static const char* const endings[] = {"so", "co", "cubin", "ptx", "ptx.gz"};
    enum { kPtx = 3, kCompressed, kEndings };
    char path[PATH_MAX + 128];
    for (size_t i = directory->is_exact ? 0 : kPtx; i < kEndings; ++i) {
        snprintf(path, sizeof path, "%s/%s.%s", directory->path, file, endings[i]);
        if (access(path, R_OK) != 0) continue;
        char* image = NULL;
        hipcommResult_t result = hipcommSuccess;
        if (i == kCompressed) {
            result = read_compressed(path, &image);
        } else if (!(image = read_file(path))) {
            result = set_error(NULL, hipcommPlatformError, "cannot read %.900s: %s", path, strerror(errno));
        }
        if (result == hipcommSuccess) result = HIP_CALL(ModuleLoadData, module, image);
        free(image);
        return result;
    }
    return set_error(NULL, hipcommPlatformError, "%.800s has no code object for %s", directory->path, file);
}

/* The module of a file, loaded once. */
static hipcommResult_t get_module(const Directory* directory, CodeObjects* objects, const char* file,
                                  hipModule_t* module) {
    for (int i = objects->count - 1; i >= 0; --i) {
        if (strcmp(objects->modules[i].file, file) != 0) continue;
        *module = objects->modules[i].module;
        return hipcommSuccess;
    }
    const hipcommResult_t result = load_module(directory, file, module);
    if (result == hipcommSuccess) objects->modules[objects->count++] = (LoadedModule){file, *module};
    return result;
}

static hipcommResult_t load_code_objects(const Platform* platform, const char* arch, CodeObjects* objects) {
    const int count = hipcommKernelCount();
    Directory directory;
    hipcommResult_t result = find_directory(platform, arch, &directory);
    if (result != hipcommSuccess) return result;
    objects->functions = calloc((size_t)count, sizeof *objects->functions);
    objects->modules = calloc((size_t)count, sizeof *objects->modules);
    if (!objects->functions || !objects->modules)
        return set_error(NULL, hipcommOutOfMemory, "no memory for the kernel table");
    for (int index = 0; index < count && result == hipcommSuccess; ++index) {
        const char *file, *name;
        hipModule_t module;
        hipFunction_t function;
        if (!hipcommKernelIsFor(arch, index)) continue;
        result = hipcommKernelInfo(index, &file, &name);
        if (result == hipcommSuccess) result = get_module(&directory, objects, file, &module);
        if (result == hipcommSuccess) result = HIP_CALL(ModuleGetFunction, &function, module, name);
        if (result == hipcommSuccess) objects->functions[index] = function;
    }
    return result;
}

/* Where one kernel cannot be loaded none is. */
static hipcommResult_t unload_code_objects(CodeObjects* objects) {
    KeptError first = keep_error(hipcommSuccess);
    while (objects->count > 0)
        first = keep_error(first_error(&first, HIP_CALL(ModuleUnload, objects->modules[--objects->count].module)));
    free(objects->modules);
    free(objects->functions);
    free(objects);
    return first_error(&first, hipcommSuccess);
}

hipcommResult_t find_kernels(const Platform* platform, const Device* device, void* const** functions) {
    const int number = device->is_host ? -1 : device->ordinal;
    hipcommResult_t result = hipcommSuccess;
    pthread_mutex_lock(&lock);
    CodeObjects* found = loaded;
    while (found && (found->device != number || strcmp(found->arch, device->arch) != 0)) found = found->next;
    if (!found) {
        found = calloc(1, sizeof *found);
        result = found ? load_code_objects(platform, device->arch, found)
                       : set_error(NULL, hipcommOutOfMemory, "no memory for the kernel table");
        if (result == hipcommSuccess) {
            snprintf(found->arch, sizeof found->arch, "%s", device->arch);
            found->device = number;
            found->next = loaded;
            loaded = found;
        } else if (found) {
            const KeptError first = keep_error(result);
            result = first_error(&first, unload_code_objects(found));
        }
    }
    if (result == hipcommSuccess) *functions = found->functions;
    pthread_mutex_unlock(&lock);
    return result;
}
