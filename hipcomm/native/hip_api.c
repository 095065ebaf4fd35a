#include "hip_api.h"

#include <dlfcn.h>
#include <string.h>

const char* hip_api_open(HipApi* api, const char* path) {
    memset(api, 0, sizeof *api);
    api->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!api->library) return dlerror();
    const struct {
        const char* name;
        void* slot;
    } symbols[] = {
        {"hipGetDevice", &api->GetDevice},
        {"hipSetDevice", &api->SetDevice},
        {"hipModuleLaunchKernel", &api->ModuleLaunchKernel},
        {"hipMemcpy", &api->Memcpy},
        {"hipMemcpyAsync", &api->MemcpyAsync},
        {"hipMemset", &api->Memset},
        {"hipDeviceGetAttribute", &api->DeviceGetAttribute},
        {"hipDeviceSynchronize", &api->DeviceSynchronize},
        {"hipStreamCreateWithFlags", &api->StreamCreateWithFlags},
        {"hipStreamDestroy", &api->StreamDestroy},
        {"hipStreamSynchronize", &api->StreamSynchronize},
        {"hipStreamQuery", &api->StreamQuery},
        {"hipStreamIsCapturing", &api->StreamIsCapturing},
        {"hipStreamWaitEvent", &api->StreamWaitEvent},
        {"hipEventCreateWithFlags", &api->EventCreateWithFlags},
        {"hipEventRecord", &api->EventRecord},
        {"hipEventDestroy", &api->EventDestroy},
        {"hipGetErrorName", &api->GetErrorName},
        {"hipGetErrorString", &api->GetErrorString},
    };
    for (size_t i = 0; i < sizeof symbols / sizeof symbols[0]; ++i) {
        void* address = dlsym(api->library, symbols[i].name);
        if (!address) return dlerror();
        memcpy(symbols[i].slot, &address, sizeof address); /* ISO C has no object-to-function cast */
    }
    return NULL;
}

void hip_api_close(HipApi* api) {
    if (api->library) dlclose(api->library);
    api->library = NULL;
}
