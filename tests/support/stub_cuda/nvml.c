/* libnvidia-ml: GPUs by their place on the bus, whatever CUDA_VISIBLE_DEVICES says, as the real library. */

#include "state.h"

#include <stdio.h>
#include <string.h>

int nvmlInit_v2(void) { return SUCCESS; }
int nvmlInitWithFlags(unsigned flags) { return (void)flags, SUCCESS; }
int nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(int code) { return code ? "failed" : "success"; }
int nvmlSystemGetCudaDriverVersion(int *version) { return *version = 13020, SUCCESS; }
int nvmlSystemGetCudaDriverVersion_v2(int *version) { return *version = 13020, SUCCESS; }
int nvmlSystemGetDriverVersion(char *text, unsigned size) { return snprintf(text, size, "580.65.06"), SUCCESS; }

int nvmlDeviceGetCount_v2(unsigned *count) { return *count = stub_installed_count(), SUCCESS; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, const Gpu **gpu) {
    *gpu = stub_installed(index);
    return *gpu ? SUCCESS : 2; /* NVML_ERROR_INVALID_ARGUMENT */
}
int nvmlDeviceGetName(const Gpu *gpu, char *text, unsigned size) {
    return snprintf(text, size, "Stub GPU %d.%d", gpu->major, gpu->minor), SUCCESS;
}
int nvmlDeviceGetCudaComputeCapability(const Gpu *gpu, int *major, int *minor) {
    return *major = gpu->major, *minor = gpu->minor, SUCCESS;
}
int nvmlDeviceGetUUID(const Gpu *gpu, char *text, unsigned size) {
    snprintf(text, size, "GPU-%08x-0000-0000-0000-000000000000", gpu->bus);
    return SUCCESS;
}
int nvmlDeviceGetMemoryInfo(const Gpu *gpu, unsigned long long *memory) {
    (void)gpu;
    unsigned long long used = stub_counts.live, total = stub_memory();
    memory[0] = total, memory[1] = total - used, memory[2] = used;
    return SUCCESS;
}
