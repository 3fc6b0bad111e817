/* The machine behind the stub libraries: GPUs, memory, streams, captures, and counts of what was asked of them.

Device memory is host memory and kernels do nothing, so no number that a kernel would compute means anything. What the
stub does keep are rules: where memory lies and how much there is, which context is current, and what is forbidden while
a stream is captured. A broken rule is an error code, as CUDA gives it, and is counted in `violations`. */

#ifndef STUB_CUDA_STATE_H
#define STUB_CUDA_STATE_H

#include <stddef.h>

/* Error codes, which the runtime and the driver share. */
enum {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    INVALID_CONTEXT = 201,
    NO_KERNEL_IMAGE = 209,
    NOT_FOUND = 500,
    ILLEGAL_ADDRESS = 700,
    NOT_SUPPORTED = 801,
    CAPTURE_UNSUPPORTED = 900,
    CAPTURE_INVALIDATED = 901,
    CAPTURE_IMPLICIT = 906,
};

/* Events that are counted. live and peak: bytes of device memory. waits: synchronisations that had to wait, for work was
queued since the last one. */
#define STUB_COUNTS(X)                                                                                             \
    X(allocations) X(frees) X(live) X(peak) X(host_to_device) X(device_to_host) X(device_to_device)                \
    X(host_to_host) X(memsets) X(synchronisations) X(waits) X(kernels) X(captures) X(captured_kernels)                      \
    X(captured_host_copies) X(captured_allocations) X(graph_launches) X(violations)

typedef struct {
#define X(name) long name;
    STUB_COUNTS(X)
#undef X
} Counts;

extern Counts stub_counts;

typedef struct {
    int major, minor, bus;
} Gpu;

typedef struct Graph Graph;
typedef struct Stream Stream;
typedef struct Event Event;

/* What a library's handle holds: the stream that it was told to work on. */
typedef struct {
    void *stream;
} Handle;

/* GPUs: `visible` as CUDA numbers them after CUDA_DEVICE_ORDER and CUDA_VISIBLE_DEVICES, `installed` by their place. */
int stub_visible_count(void);
const Gpu *stub_visible(int index);
int stub_installed_count(void);
const Gpu *stub_installed(int index);
size_t stub_memory(void);

/* The calling thread's GPU; -1 before any was made current. */
int stub_current(void);
void stub_set_current(int device);

/* Memory. `stream` NULL: not in the order of a stream, which a capture may forbid. */
int stub_allocate(void **place, size_t size, int ordered, void *stream);
int stub_release(void *place, int ordered);
int stub_is_device(const void *place);
int stub_copy(void *target, const void *source, size_t size, void *stream, int blocking);
int stub_set(void *target, int value, size_t size, void *stream);

/* Streams, events and captures. */
Stream *stub_stream_new(unsigned flags);
void stub_stream_delete(void *stream);
Event *stub_event_new(void);
void stub_event_record(Event *event, void *stream);
void stub_event_wait(void *stream, Event *event);
int stub_synchronise(void *stream);  /* NULL: the whole device */
int stub_synchronise_event(Event *event);
int stub_kernel(void *stream);
int stub_begin(void *stream, int mode);
int stub_end(void *stream, Graph **graph);
int stub_status(void *stream);  /* 0 none, 1 capturing, 2 invalidated */
int stub_exchange_mode(int *mode);
int stub_launch(Graph *graph, void *stream);
void stub_graph_delete(Graph *graph);
Graph *stub_graph_copy(const Graph *graph);

/* Refuse what a capture forbids, such as an allocation; `what` is told. */
int stub_unsafe(const char *what);
/* Count a broken rule and give back its code. */
int stub_violation(int code, const char *what);

#endif
