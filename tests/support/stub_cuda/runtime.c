/* libcudart: the runtime API that ONNX Runtime's CUDA provider asks for. A thread without a GPU gets the first one. */

#include "state.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    unsigned x, y, z;
} Size3;

static __thread int last_error;

static int said(int code) {
    if (code) last_error = code;
    return code;
}

/* Every call makes the primary context current, as the real runtime does. */
static int here(void) {
    if (stub_current() < 0) stub_set_current(0);
    return stub_current();
}

/* Errors and versions. */

int cudaGetLastError(void) {
    int code = last_error;
    last_error = SUCCESS;
    return code;
}
int cudaPeekAtLastError(void) { return last_error; }

const char *cudaGetErrorName(int code) {
    switch (code) {
    case SUCCESS: return "cudaSuccess";
    case OUT_OF_MEMORY: return "cudaErrorMemoryAllocation";
    case NO_DEVICE: return "cudaErrorNoDevice";
    case INVALID_DEVICE: return "cudaErrorInvalidDevice";
    case NO_KERNEL_IMAGE: return "cudaErrorNoKernelImageForDevice";
    case CAPTURE_UNSUPPORTED: return "cudaErrorStreamCaptureUnsupported";
    case CAPTURE_INVALIDATED: return "cudaErrorStreamCaptureInvalidated";
    case CAPTURE_IMPLICIT: return "cudaErrorStreamCaptureImplicit";
    default: return "cudaErrorUnknown";
    }
}

const char *cudaGetErrorString(int code) {
    switch (code) {
    case SUCCESS: return "no error";
    case OUT_OF_MEMORY: return "out of memory";
    case NO_DEVICE: return "no CUDA-capable device is detected";
    case INVALID_DEVICE: return "invalid device ordinal";
    case NO_KERNEL_IMAGE: return "no kernel image is available for execution on the device";
    case CAPTURE_UNSUPPORTED: return "operation not permitted when stream is capturing";
    case CAPTURE_INVALIDATED: return "operation failed due to a previous error during capture";
    case CAPTURE_IMPLICIT: return "operation would make the legacy stream depend on a capturing blocking stream";
    default: return "unknown error";
    }
}

int cudaDriverGetVersion(int *version) { return *version = 13020, SUCCESS; }
int cudaRuntimeGetVersion(int *version) { return *version = 13020, SUCCESS; }

/* GPUs. */

int cudaGetDeviceCount(int *count) {
    *count = stub_visible_count();
    return said(*count ? SUCCESS : NO_DEVICE);
}
int cudaGetDevice(int *device) { return *device = here(), SUCCESS; }

int cudaSetDevice(int device) {
    if (!stub_visible(device)) return said(INVALID_DEVICE);
    stub_set_current(device);
    return SUCCESS;
}

int cudaDeviceGetAttribute(int *value, int attribute, int device) {
    const Gpu *gpu = stub_visible(device);
    if (!gpu) return said(INVALID_DEVICE);
    switch (attribute) { /* cudaDeviceAttr */
    case 1: *value = 1024; break;        /* threads a block */
    case 8: *value = 49152; break;       /* shared memory a block */
    case 10: *value = 32; break;         /* warp */
    case 12: *value = 65536; break;      /* registers a block */
    case 16: *value = 128; break;        /* multiprocessors */
    case 38: *value = 72 << 20; break;   /* L2 cache */
    case 39: *value = 1536; break;       /* threads a multiprocessor */
    case 75: *value = gpu->major; break;
    case 76: *value = gpu->minor; break;
    case 81: *value = 102400; break;     /* shared memory a multiprocessor */
    case 97: *value = 101376; break;     /* shared memory a block, opted in */
    case 106: *value = 24; break;        /* blocks a multiprocessor */
    default: *value = 1;
    }
    return SUCCESS;
}

/* cudaDeviceProp of CUDA 13; fields that nobody fills lie in arrays. */
typedef struct {
    char name[256], uuid[16], luid[8];
    unsigned luid_nodes;
    size_t memory, shared_block;
    int registers, warp;
    size_t pitch;
    int threads, block[3], grid[3];
    size_t constants;
    int major, minor;
    size_t alignment, texture_pitch;
    int multiprocessors, integrated, maps_host, textures[39];
    size_t surface_alignment;
    int concurrent, ecc, bus, device, domain, tcc, engines, unified, bus_width, l2, l2_persisting, threads_multi;
    int priorities, l1_global, l1_local;
    size_t shared_multi;
    int registers_multi, flags[9];
    size_t shared_optin;
    int host_tables, direct, blocks_multi, window;
    size_t reserved_shared;
    int rest[4], memory_pools, reserved[71];
} Properties;

int cudaGetDeviceProperties(Properties *p, int device) {
    const Gpu *gpu = stub_visible(device);
    if (!gpu) return said(INVALID_DEVICE);
    memset(p, 0, sizeof *p);
    strcpy(p->name, "Stub GPU");
    p->memory = stub_memory();
    p->major = gpu->major, p->minor = gpu->minor, p->bus = gpu->bus;
    p->multiprocessors = 128, p->warp = 32, p->threads = 1024, p->threads_multi = 1536, p->blocks_multi = 24;
    p->shared_block = 49152, p->shared_optin = 101376, p->shared_multi = 102400;
    p->registers = p->registers_multi = 65536, p->l2 = 72 << 20, p->unified = p->memory_pools = 1;
    memcpy(p->block, (int[]){1024, 1024, 64}, sizeof p->block);
    memcpy(p->grid, (int[]){2147483647, 65535, 65535}, sizeof p->grid);
    return SUCCESS;
}

int cudaDeviceSynchronize(void) { return said(stub_synchronise(NULL)); }

/* Memory. */

int cudaMalloc(void **place, size_t size) { return here(), said(stub_allocate(place, size, 0, NULL)); }
int cudaFree(void *place) { return said(stub_release(place, 0)); }
int cudaMallocFromPoolAsync(void **place, size_t size, void *pool, void *stream) {
    (void)pool;
    return said(stub_allocate(place, size, 1, stream));
}
int cudaFreeAsync(void *place, void *stream) {
    (void)stream;
    return said(stub_release(place, 1));
}

int cudaHostAlloc(void **place, size_t size, unsigned flags) {
    (void)flags;
    int code = stub_unsafe("allocation of pinned memory");
    *place = code ? NULL : aligned_alloc(512, (size + 511) & ~(size_t)511);
    return said(code ? code : *place ? SUCCESS : OUT_OF_MEMORY);
}
int cudaMallocHost(void **place, size_t size) { return cudaHostAlloc(place, size, 0); }
int cudaFreeHost(void *place) {
    int code = stub_unsafe("free of pinned memory");
    if (!code) free(place);
    return said(code);
}

int cudaMemGetInfo(size_t *free_bytes, size_t *total) {
    *total = stub_memory();
    *free_bytes = *total > (size_t)stub_counts.live ? *total - stub_counts.live : 0;
    return SUCCESS;
}

int cudaMemcpy(void *target, const void *source, size_t size, int kind) {
    (void)kind;
    return said(stub_copy(target, source, size, NULL, 1));
}
int cudaMemcpyAsync(void *target, const void *source, size_t size, int kind, void *stream) {
    (void)kind;
    return said(stub_copy(target, source, size, stream, 0));
}
int cudaMemcpy2DAsync(char *to, size_t to_pitch, const char *from, size_t from_pitch, size_t width, size_t height,
                      int kind, void *stream) {
    (void)kind;
    int code = SUCCESS;
    for (size_t row = 0; row < height && !code; row++)
        code = stub_copy(to + row * to_pitch, from + row * from_pitch, width, stream, 0);
    return said(code);
}
int cudaMemcpyFromSymbol(void *target, const void *symbol, size_t size, size_t offset, int kind) {
    (void)symbol, (void)offset, (void)kind;
    memset(target, 0, size); /* variables of kernels hold nothing here */
    return SUCCESS;
}
int cudaMemset(void *target, int value, size_t size) { return said(stub_set(target, value, size, NULL)); }
int cudaMemsetAsync(void *target, int value, size_t size, void *stream) {
    return said(stub_set(target, value, size, stream));
}

typedef struct {
    int type, device; /* 0 the host's, 2 the device's */
    void *on_device, *on_host;
    long reserved[8];
} Attributes;

int cudaPointerGetAttributes(Attributes *found, const void *place) {
    int device = stub_is_device(place);
    *found = (Attributes){device ? 2 : 0, 0, device ? (void *)place : NULL, device ? NULL : (void *)place, {0}};
    return SUCCESS;
}

int cudaMemPoolCreate(void **pool, const void *properties) {
    (void)properties;
    *pool = malloc(1);
    return SUCCESS;
}
int cudaMemPoolDestroy(void *pool) { return free(pool), SUCCESS; }
int cudaMemPoolGetAttribute(void *pool, int attribute, unsigned long *value) {
    (void)pool, (void)attribute;
    return *value = 0, SUCCESS;
}
int cudaMemPoolSetAttribute(void) { return SUCCESS; }
int cudaMemPoolTrimTo(void) { return SUCCESS; }

/* Streams, events and graphs. */

int cudaStreamCreateWithFlags(void **stream, unsigned flags) {
    here();
    *stream = stub_stream_new(flags);
    return SUCCESS;
}
int cudaStreamCreate(void **stream) { return cudaStreamCreateWithFlags(stream, 0); }
int cudaStreamDestroy(void *stream) { return stub_stream_delete(stream), SUCCESS; }
int cudaStreamSynchronize(void *stream) { return said(stub_synchronise(stream ? stream : (void *)1)); }
int cudaStreamWaitEvent(void *stream, Event *event, unsigned flags) {
    (void)flags;
    return stub_event_wait(stream, event), SUCCESS;
}
int cudaEventCreateWithFlags(Event **event, unsigned flags) {
    (void)flags;
    *event = stub_event_new();
    return SUCCESS;
}
int cudaEventCreate(Event **event) { return cudaEventCreateWithFlags(event, 0); }
int cudaEventDestroy(Event *event) { return free(event), SUCCESS; }
int cudaEventRecord(Event *event, void *stream) { return stub_event_record(event, stream), SUCCESS; }
int cudaEventRecordWithFlags(Event *event, void *stream, unsigned flags) {
    (void)flags;
    return cudaEventRecord(event, stream);
}
int cudaEventSynchronize(Event *event) { return said(stub_synchronise_event(event)); }
int cudaEventElapsedTime(float *milliseconds, Event *start, Event *end) {
    (void)start, (void)end;
    return *milliseconds = 1, SUCCESS;
}

int cudaStreamBeginCapture(void *stream, int mode) { return said(stub_begin(stream, mode)); }
int cudaStreamEndCapture(void *stream, Graph **graph) { return said(stub_end(stream, graph)); }
int cudaStreamIsCapturing(void *stream, int *status) { return *status = stub_status(stream), SUCCESS; }
int cudaGraphInstantiate(Graph **ready, Graph *graph, unsigned long flags) {
    (void)flags;
    *ready = stub_graph_copy(graph);
    return SUCCESS;
}
int cudaGraphLaunch(Graph *graph, void *stream) { return said(stub_launch(graph, stream)); }
int cudaGraphDestroy(Graph *graph) { return stub_graph_delete(graph), SUCCESS; }
int cudaGraphExecDestroy(Graph *graph) { return stub_graph_delete(graph), SUCCESS; }

/* Kernels. */

int cudaLaunchKernel(const void *f, Size3 grid, Size3 block, void **arguments, size_t shared, void *stream) {
    (void)f, (void)grid, (void)block, (void)arguments, (void)shared;
    return here(), said(stub_kernel(stream));
}
int __cudaLaunchKernel(void *f, Size3 grid, Size3 block, void **arguments, size_t shared, void *stream) {
    return cudaLaunchKernel(f, grid, block, arguments, shared, stream);
}
int cudaLaunchCooperativeKernel(const void *f, Size3 grid, Size3 block, void **arguments, size_t shared, void *stream) {
    return cudaLaunchKernel(f, grid, block, arguments, shared, stream);
}
typedef struct {
    Size3 grid, block;
    size_t shared;
    void *stream;
} LaunchConfig;
int cudaLaunchKernelExC(const LaunchConfig *config, const void *f, void **arguments) {
    (void)f, (void)arguments;
    return said(stub_kernel(config->stream));
}
int cudaLaunchHostFunc(void *stream, void (*call)(void *), void *argument) {
    if (stub_status(stream)) return said(stub_violation(NOT_SUPPORTED, "host function in a capture"));
    return call(argument), SUCCESS;
}

/* What `<<<grid, block, shared, stream>>>` compiles to: the configuration lies on a stack until it is launched. */
static __thread struct {
    Size3 grid, block;
    size_t shared;
    void *stream;
} pushed;
unsigned __cudaPushCallConfiguration(Size3 grid, Size3 block, size_t shared, void *stream) {
    pushed.grid = grid, pushed.block = block, pushed.shared = shared, pushed.stream = stream;
    return 0;
}
int __cudaPopCallConfiguration(Size3 *grid, Size3 *block, size_t *shared, void **stream) {
    *grid = pushed.grid, *block = pushed.block, *shared = pushed.shared, *stream = pushed.stream;
    return SUCCESS;
}

void **__cudaRegisterFatBinary(void *binary) {
    static void *handle[4];
    (void)binary;
    return handle;
}
void __cudaRegisterFatBinaryEnd(void **handle) { (void)handle; }
void __cudaUnregisterFatBinary(void **handle) { (void)handle; }
void __cudaRegisterFunction(void) {}
void __cudaRegisterVar(void) {}
int __cudaGetKernel(void **kernel, const void *f) { return *kernel = (void *)f, SUCCESS; }
int cudaLibraryLoadData(void **library) { return *library = calloc(1, 1), SUCCESS; }
int cudaLibraryGetKernel(void **kernel, void *library) { return *kernel = library, SUCCESS; }
int cudaLibraryUnload(void *library) { return free(library), SUCCESS; }
int cudaKernelSetAttributeForDevice(void) { return SUCCESS; }
int cudaFuncSetAttribute(void) { return SUCCESS; }

typedef struct {
    size_t shared, constants, local;
    int threads, registers, ptx, binary;
    int rest[8];
} FunctionAttributes;
int cudaFuncGetAttributes(FunctionAttributes *found, const void *f) {
    (void)f;
    *found = (FunctionAttributes){.threads = 1024, .registers = 32, .ptx = 89, .binary = 89};
    return SUCCESS;
}
int cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks) { return *blocks = 2, SUCCESS; }

static int unknown_entry(void) { return NOT_SUPPORTED; }
int cudaGetDriverEntryPointByVersion(const char *name, void **entry, unsigned version, unsigned long flags, int *found) {
    (void)name, (void)version, (void)flags;
    *entry = (void *)unknown_entry;
    if (found) *found = 0;
    return SUCCESS;
}
