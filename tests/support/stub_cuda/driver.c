/* libcuda: the driver API that cuda.core asks for. What needs a current context is refused without one. */

#define _GNU_SOURCE
#include "state.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long long Place;

static int contexts[16]; /* the primary ones, by GPU; a context is an address in here */

static int need(const char *what) { return stub_current() < 0 ? stub_violation(INVALID_CONTEXT, what) : SUCCESS; }
#define NEED(what)                                                                                                 \
    if (need(what)) return INVALID_CONTEXT

int cuInit(unsigned flags) { return (void)flags, stub_visible_count() ? SUCCESS : NO_DEVICE; }
int cuDriverGetVersion(int *version) { return *version = 13020, SUCCESS; }

int cuGetErrorName(int code, const char **name) {
    *name = code == OUT_OF_MEMORY         ? "CUDA_ERROR_OUT_OF_MEMORY"
            : code == INVALID_CONTEXT     ? "CUDA_ERROR_INVALID_CONTEXT"
            : code == INVALID_DEVICE      ? "CUDA_ERROR_INVALID_DEVICE"
            : code == CAPTURE_UNSUPPORTED ? "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"
            : code == CAPTURE_INVALIDATED ? "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"
            : code                        ? "CUDA_ERROR_UNKNOWN"
                                          : "CUDA_SUCCESS";
    return SUCCESS;
}
int cuGetErrorString(int code, const char **text) {
    *text = code == OUT_OF_MEMORY ? "out of memory" : code ? "failed" : "no error";
    return SUCCESS;
}

/* GPUs and contexts. */

int cuDeviceGetCount(int *count) { return *count = stub_visible_count(), SUCCESS; }
int cuDeviceGet(int *device, int index) {
    *device = index;
    return stub_visible(index) ? SUCCESS : INVALID_DEVICE;
}
int cuDeviceGetName(char *text, int size, int device) {
    const Gpu *gpu = stub_visible(device);
    if (!gpu) return INVALID_DEVICE;
    return snprintf(text, size, "Stub GPU %d.%d", gpu->major, gpu->minor), SUCCESS;
}
int cuDeviceGetUuid_v2(unsigned char *uuid, int device) {
    const Gpu *gpu = stub_visible(device);
    if (!gpu) return INVALID_DEVICE;
    memset(uuid, 0, 16);
    uuid[3] = gpu->bus;
    return SUCCESS;
}
int cuDeviceGetPCIBusId(char *text, int size, int device) {
    const Gpu *gpu = stub_visible(device);
    if (!gpu) return INVALID_DEVICE;
    return snprintf(text, size, "0000:%02X:00.0", gpu->bus), SUCCESS;
}
int cuDeviceTotalMem_v2(size_t *size, int device) { return (void)device, *size = stub_memory(), SUCCESS; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    const Gpu *gpu = stub_visible(device);
    if (!gpu) return INVALID_DEVICE;
    switch (attribute) { /* CUdevice_attribute */
    case 33: *value = gpu->bus; break;
    case 34: case 50: *value = 0; break;
    case 75: *value = gpu->major; break;
    case 76: *value = gpu->minor; break;
    default: *value = 1;
    }
    return SUCCESS;
}

int cuDevicePrimaryCtxRetain(void **context, int device) {
    if (!stub_visible(device)) return INVALID_DEVICE;
    return *context = &contexts[device], SUCCESS;
}
int cuDevicePrimaryCtxRelease_v2(int device) { return (void)device, SUCCESS; }
int cuCtxSetCurrent(int *context) {
    stub_set_current(context ? (int)(context - contexts) : -1);
    return SUCCESS;
}
int cuCtxGetCurrent(void **context) {
    *context = stub_current() < 0 ? NULL : &contexts[stub_current()];
    return SUCCESS;
}
int cuCtxPushCurrent_v2(int *context) { return cuCtxSetCurrent(context); }
int cuCtxPopCurrent_v2(void **context) {
    if (context) cuCtxGetCurrent(context);
    return cuCtxSetCurrent(NULL);
}
int cuCtxGetDevice(int *device) {
    NEED("cuCtxGetDevice");
    return *device = stub_current(), SUCCESS;
}
int cuCtxGetDevice_v2(int *device, int *context) { return *device = (int)(context - contexts), SUCCESS; }
int cuCtxGetId(void *context, Place *id) { return (void)context, *id = 1, SUCCESS; }
int cuCtxGetStreamPriorityRange(int *least, int *greatest) { return *least = 0, *greatest = -5, SUCCESS; }
int cuCtxSynchronize(void) {
    NEED("cuCtxSynchronize");
    return stub_synchronise(NULL);
}

/* Streams, events and graphs. */

int cuStreamCreateWithPriority(void **stream, unsigned flags, int priority) {
    (void)priority;
    NEED("cuStreamCreateWithPriority");
    return *stream = stub_stream_new(flags), SUCCESS;
}
int cuStreamCreate(void **stream, unsigned flags) { return cuStreamCreateWithPriority(stream, flags, 0); }
int cuStreamDestroy_v2(void *stream) { return stub_stream_delete(stream), SUCCESS; }
int cuStreamSynchronize(void *stream) { return stub_synchronise(stream ? stream : (void *)1); }
int cuStreamQuery(void *stream) { return stub_status(stream) ? CAPTURE_UNSUPPORTED : SUCCESS; }
int cuStreamGetCtx(void *stream, void **context) { return (void)stream, cuCtxGetCurrent(context); }
int cuStreamGetCtx_v2(void *stream, void **context, void **green) {
    if (green) *green = NULL;
    return cuStreamGetCtx(stream, context);
}
int cuStreamGetDevice(void *stream, int *device) { return (void)stream, cuCtxGetDevice(device); }
int cuStreamGetFlags(void *stream, unsigned *flags) { return (void)stream, *flags = 1, SUCCESS; }
int cuStreamGetPriority(void *stream, int *priority) { return (void)stream, *priority = 0, SUCCESS; }
int cuStreamGetId(void *stream, Place *id) { return *id = (Place)(size_t)stream, SUCCESS; }
int cuStreamWaitEvent(void *stream, Event *event, unsigned flags) {
    (void)flags;
    return stub_event_wait(stream, event), SUCCESS;
}
int cuEventCreate(Event **event, unsigned flags) {
    (void)flags;
    NEED("cuEventCreate");
    return *event = stub_event_new(), SUCCESS;
}
int cuEventRecord(Event *event, void *stream) { return stub_event_record(event, stream), SUCCESS; }
int cuEventSynchronize(Event *event) { return stub_synchronise_event(event); }
int cuEventQuery(Event *event) { return (void)event, SUCCESS; }
int cuEventDestroy_v2(Event *event) { return free(event), SUCCESS; }

int cuThreadExchangeStreamCaptureMode(int *mode) { return stub_exchange_mode(mode); }
int cuStreamBeginCapture_v2(void *stream, int mode) { return stub_begin(stream, mode); }
int cuStreamEndCapture(void *stream, Graph **graph) { return stub_end(stream, graph); }
int cuStreamIsCapturing(void *stream, int *status) { return *status = stub_status(stream), SUCCESS; }
int cuStreamGetCaptureInfo_v2(void *stream, int *status, Place *id, void **graph, void **nodes, size_t *count) {
    (void)id, (void)graph, (void)nodes, (void)count;
    return cuStreamIsCapturing(stream, status);
}
int cuStreamGetCaptureInfo_v3(void *stream, int *status, Place *id, void **graph, void **nodes, void **edges,
                              size_t *count) {
    (void)edges;
    return cuStreamGetCaptureInfo_v2(stream, status, id, graph, nodes, count);
}
typedef struct {
    Place flags;
    void *upload_stream, *error_node;
    int result;
} InstantiateParams;
int cuGraphInstantiateWithParams(Graph **ready, Graph *graph, InstantiateParams *params) {
    params->result = 0;
    return *ready = stub_graph_copy(graph), SUCCESS;
}
int cuGraphInstantiateWithFlags(Graph **ready, Graph *graph, Place flags) {
    (void)flags;
    return *ready = stub_graph_copy(graph), SUCCESS;
}
int cuGraphLaunch(Graph *graph, void *stream) { return stub_launch(graph, stream); }
int cuGraphUpload(Graph *graph, void *stream) { return (void)graph, (void)stream, SUCCESS; }
int cuGraphDestroy(Graph *graph) { return stub_graph_delete(graph), SUCCESS; }
int cuGraphExecDestroy(Graph *graph) { return stub_graph_delete(graph), SUCCESS; }
/* cuda.core ties objects to a graph so that they live as long; here they live on. */
int cuUserObjectCreate(void **made) { return *made = malloc(1), SUCCESS; }
int cuUserObjectRelease(void) { return SUCCESS; }
int cuGraphRetainUserObject(void) { return SUCCESS; }

/* Memory. */

int cuMemPoolCreate(void **pool, const void *properties) {
    (void)properties;
    return *pool = malloc(1), SUCCESS;
}
int cuMemPoolDestroy(void *pool) { return free(pool), SUCCESS; }
int cuMemPoolSetAttribute(void) { return SUCCESS; }
int cuMemPoolGetAttribute(void *pool, int attribute, Place *value) {
    (void)pool, (void)attribute;
    return *value = 0, SUCCESS;
}
int cuMemPoolSetAccess(void) { return SUCCESS; }
int cuMemPoolGetAccess(int *flags, void *pool, void *location) {
    (void)pool, (void)location;
    return *flags = 3, SUCCESS;
}
int cuMemPoolTrimTo(void) { return SUCCESS; }
int cuDeviceGetMemPool(void **pool, int device) { return (void)device, *pool = contexts, SUCCESS; }
int cuDeviceGetDefaultMemPool(void **pool, int device) { return cuDeviceGetMemPool(pool, device); }

int cuMemAllocFromPoolAsync(Place *place, size_t size, void *pool, void *stream) {
    (void)pool;
    NEED("cuMemAllocFromPoolAsync");
    return stub_allocate((void **)place, size, 1, stream);
}
int cuMemAllocAsync(Place *place, size_t size, void *stream) {
    return cuMemAllocFromPoolAsync(place, size, NULL, stream);
}
int cuMemAlloc_v2(Place *place, size_t size) {
    NEED("cuMemAlloc");
    return stub_allocate((void **)place, size, 0, NULL);
}
int cuMemFreeAsync(Place place, void *stream) {
    (void)stream;
    return stub_release((void *)place, 1);
}
int cuMemFree_v2(Place place) { return stub_release((void *)place, 0); }
int cuMemGetInfo_v2(size_t *free_bytes, size_t *total) {
    NEED("cuMemGetInfo");
    *total = stub_memory();
    *free_bytes = *total > (size_t)stub_counts.live ? *total - stub_counts.live : 0;
    return SUCCESS;
}
int cuMemcpyAsync(Place to, Place from, size_t size, void *stream) {
    NEED("cuMemcpyAsync");
    return stub_copy((void *)to, (void *)from, size, stream, 0);
}
int cuMemcpyDtoDAsync_v2(Place to, Place from, size_t size, void *stream) {
    return cuMemcpyAsync(to, from, size, stream);
}
int cuMemsetD8Async(Place to, unsigned char value, size_t size, void *stream) {
    return stub_set((void *)to, value, size, stream);
}
int cuPointerGetAttributes(unsigned count, const int *attributes, void **values, Place place) {
    for (unsigned i = 0; i < count; i++) {
        int device = stub_is_device((void *)place);
        if (attributes[i] == 2) *(int *)values[i] = device ? 2 : 0; /* memory type */
        else *(int *)values[i] = 0;
    }
    return SUCCESS;
}
int cuPointerGetAttribute(void *value, int attribute, Place place) {
    return cuPointerGetAttributes(1, &attribute, &value, place);
}
int cuTensorMapEncodeTiled(void) { return SUCCESS; }

/* The newest version of a function that this library has. */
int cuGetProcAddress_v2(const char *name, void **found, int version, Place flags, int *status) {
    (void)version, (void)flags;
    static const char *const suffixes[] = {"_v3", "_v2", ""};
    Dl_info own;
    dladdr((void *)cuInit, &own);
    void *library = dlopen(own.dli_fname, RTLD_NOW | RTLD_NOLOAD);
    *found = NULL;
    for (int i = 0; i < 3 && !*found; i++) {
        char full[256];
        snprintf(full, sizeof full, "%s%s", name, suffixes[i]);
        *found = dlsym(library, full);
    }
    if (status) *status = *found ? 0 : 1;
    return *found ? SUCCESS : NOT_FOUND;
}
int cuGetProcAddress(const char *name, void **found, int version, Place flags) {
    return cuGetProcAddress_v2(name, found, version, flags, NULL);
}
