/* See state.h. One lock guards everything: the stub counts, it need not be fast. */

#define _GNU_SOURCE
#include "state.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

Counts stub_counts;

static pthread_mutex_t lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
#define LOCKED pthread_mutex_lock(&lock)
#define UNLOCK pthread_mutex_unlock(&lock)

static char told[4096];
static size_t limit = (size_t)24 << 30;

/* What tests ask. */

long stub_count(const char *name) {
#define X(field) if (!strcmp(name, #field)) return stub_counts.field;
    STUB_COUNTS(X)
#undef X
    return -1;
}

const char *stub_count_names(void) {
#define X(field) #field " "
    return STUB_COUNTS(X);
#undef X
}

void stub_reset(void) {
    LOCKED;
    long live = stub_counts.live;
    memset(&stub_counts, 0, sizeof stub_counts);
    stub_counts.live = stub_counts.peak = live;
    told[0] = 0;
    UNLOCK;
}

const char *stub_told(void) { return told; }
void stub_limit(size_t bytes) { limit = bytes; }
size_t stub_memory(void) { return limit; }

int stub_violation(int code, const char *what) {
    LOCKED;
    stub_counts.violations++;
    size_t used = strlen(told);
    snprintf(told + used, sizeof told - used, "%s -> %d; ", what, code);
    UNLOCK;
    return code;
}

/* GPUs: STUB_CUDA_GPUS is a list of CAPABILITY@BUS, such as "8.9@1,7.5@65". */

enum { MOST_GPUS = 16 };
static Gpu installed[MOST_GPUS], visible[MOST_GPUS];
static int installed_count, visible_count;

static int by_place(const void *a, const void *b) { return ((const Gpu *)a)->bus - ((const Gpu *)b)->bus; }

static int by_speed(const void *a, const void *b) {
    const Gpu *x = a, *y = b;
    int faster = (y->major * 10 + y->minor) - (x->major * 10 + x->minor);
    return faster ? faster : x->bus - y->bus;
}

__attribute__((constructor)) static void find_gpus(void) {
    const char *text = getenv("STUB_CUDA_GPUS"), *memory = getenv("STUB_CUDA_MEMORY");
    if (memory) limit = strtoull(memory, NULL, 10);
    for (text = text ? text : "8.9@1"; *text && installed_count < MOST_GPUS; text += *text == ',') {
        Gpu *gpu = &installed[installed_count];
        int length = 0;
        if (sscanf(text, "%d.%d@%d%n", &gpu->major, &gpu->minor, &gpu->bus, &length) < 3) break;
        installed_count++;
        text += length;
    }
    qsort(installed, installed_count, sizeof *installed, by_place);
}

/* CUDA reads its variables when it is first asked, later than NVML may be. */
static void show_gpus(void) {
    Gpu ordered[MOST_GPUS];
    memcpy(ordered, installed, sizeof ordered);
    const char *order = getenv("CUDA_DEVICE_ORDER"), *chosen = getenv("CUDA_VISIBLE_DEVICES");
    if (!order || strcmp(order, "PCI_BUS_ID")) qsort(ordered, installed_count, sizeof *ordered, by_speed);
    if (!chosen) {
        memcpy(visible, ordered, sizeof visible);
        visible_count = installed_count;
        return;
    }
    for (char *end; *chosen; chosen = end + (*end == ',')) {  /* as the driver: the first wrong number ends the list */
        long index = strtol(chosen, &end, 10);
        if (end == chosen || index < 0 || index >= installed_count) break;
        visible[visible_count++] = ordered[index];
    }
}

static pthread_once_t shown = PTHREAD_ONCE_INIT;
int stub_visible_count(void) {
    pthread_once(&shown, show_gpus);
    return visible_count;
}
int stub_installed_count(void) { return installed_count; }
const Gpu *stub_visible(int i) { return i >= 0 && i < stub_visible_count() ? &visible[i] : NULL; }
const Gpu *stub_installed(int i) { return i >= 0 && i < installed_count ? &installed[i] : NULL; }

static __thread int current = -1;
int stub_current(void) { return current; }
void stub_set_current(int device) { current = device; }

/* Streams and captures. */

typedef struct Node {
    void *target;
    const void *source; /* NULL: a memset */
    size_t size;
    int value;
    struct Node *next;
} Node;

struct Graph {
    Node *first, **end;
    long kernels;
};

typedef struct Capture {
    int mode, broken; /* modes: 0 global, 1 of its thread, 2 relaxed */
    pthread_t thread;
    Graph *graph;
    struct Capture *next;
} Capture;

struct Stream {
    unsigned flags; /* 1: does not wait for the legacy stream */
    int busy;       /* work was queued since it was last waited for */
    Capture *capture;
    struct Stream *next;
};

struct Event {
    Capture *capture;
};

static Stream legacy, *streams;
static Capture *captures;
static __thread int thread_mode;

static Stream *stream_of(void *handle) { return (size_t)handle <= 2 ? &legacy : handle; }

Stream *stub_stream_new(unsigned flags) {
    Stream *stream = calloc(1, sizeof *stream);
    stream->flags = flags;
    LOCKED;
    stream->next = streams;
    streams = stream;
    UNLOCK;
    return stream;
}

void stub_stream_delete(void *handle) {
    LOCKED;
    for (Stream **at = &streams; *at; at = &(*at)->next)
        if (*at == handle) {
            *at = (*at)->next;
            free(handle);
            break;
        }
    UNLOCK;
}

static int broken(Capture *capture, int code, const char *what) {
    capture->broken = 1;
    return stub_violation(code, what);
}

int stub_unsafe(const char *what) {
    int code = SUCCESS;
    LOCKED;
    for (Capture *capture = captures; capture; capture = capture->next) {
        int own = pthread_equal(capture->thread, pthread_self());
        int minds = thread_mode == 0 ? capture->mode == 0 || (capture->mode == 1 && own)
                                     : thread_mode == 1 && own && capture->mode != 2;
        if (minds) code = broken(capture, CAPTURE_UNSUPPORTED, what);
    }
    UNLOCK;
    return code;
}

/* Work on the legacy stream waits for every blocking stream, which none may be captured then. */
static int entered(Stream *stream, const char *what) {
    if (stream->capture && stream->capture->broken) return CAPTURE_INVALIDATED;
    if (stream == &legacy)
        for (Stream *other = streams; other; other = other->next)
            if (other->capture && !(other->flags & 1)) return broken(other->capture, CAPTURE_IMPLICIT, what);
    if (!stream->capture) stream->busy = 1;
    return SUCCESS;
}

static void record(Capture *capture, void *target, const void *source, size_t size, int value) {
    Node *node = calloc(1, sizeof *node);
    *node = (Node){target, source, size, value, NULL};
    *capture->graph->end = node;
    capture->graph->end = &node->next;
}

int stub_begin(void *handle, int mode) {
    Stream *stream = stream_of(handle);
    if (stream == &legacy || stream->capture) return stub_violation(CAPTURE_UNSUPPORTED, "begin of a capture");
    LOCKED;
    Capture *capture = calloc(1, sizeof *capture);
    capture->mode = mode;
    capture->thread = pthread_self();
    capture->graph = calloc(1, sizeof(Graph));
    capture->graph->end = &capture->graph->first;
    capture->next = captures;
    captures = stream->capture = capture;
    stub_counts.captures++;
    UNLOCK;
    return SUCCESS;
}

int stub_end(void *handle, Graph **graph) {
    LOCKED;
    Capture *capture = stream_of(handle)->capture;
    *graph = NULL;
    if (!capture) {
        UNLOCK;
        return stub_violation(CAPTURE_UNSUPPORTED, "end of a capture that was not begun");
    }
    for (Stream *stream = streams; stream; stream = stream->next)
        if (stream->capture == capture) stream->capture = NULL;
    for (Capture **at = &captures; *at; at = &(*at)->next)
        if (*at == capture) {
            *at = capture->next;
            break;
        }
    int code = capture->broken ? CAPTURE_INVALIDATED : SUCCESS;
    if (code)
        stub_graph_delete(capture->graph);
    else
        *graph = capture->graph;
    free(capture);
    UNLOCK;
    return code;
}

int stub_status(void *handle) {
    Capture *capture = stream_of(handle)->capture;
    return capture ? 1 + capture->broken : 0;
}

int stub_exchange_mode(int *mode) {
    int before = thread_mode;
    thread_mode = *mode;
    *mode = before;
    return SUCCESS;
}

void stub_graph_delete(Graph *graph) {
    if (!graph) return;
    for (Node *node = graph->first, *next; node; node = next) {
        next = node->next;
        free(node);
    }
    free(graph);
}

Graph *stub_graph_copy(const Graph *graph) {
    Graph *copy = calloc(1, sizeof *copy);
    copy->end = &copy->first;
    copy->kernels = graph->kernels;
    Capture into = {.graph = copy};
    for (const Node *node = graph->first; node; node = node->next)
        record(&into, node->target, node->source, node->size, node->value);
    return copy;
}

int stub_launch(Graph *graph, void *handle) {
    LOCKED;
    int code = entered(stream_of(handle), "launch of a graph");
    stub_counts.graph_launches++;
    for (Node *node = graph->first; node && !code; node = node->next)
        code = node->source ? stub_copy(node->target, node->source, node->size, handle, 0)
                            : stub_set(node->target, node->value, node->size, handle);
    UNLOCK;
    return code;
}

int stub_kernel(void *handle) {
    LOCKED;
    Stream *stream = stream_of(handle);
    int code = entered(stream, "kernel on the legacy stream");
    if (!code && stream->capture) {
        stub_counts.captured_kernels++;
        stream->capture->graph->kernels++;
    } else if (!code)
        stub_counts.kernels++;
    UNLOCK;
    return code;
}

Event *stub_event_new(void) { return calloc(1, sizeof(Event)); }
void stub_event_record(Event *event, void *stream) { event->capture = stream_of(stream)->capture; }

void stub_event_wait(void *handle, Event *event) {
    LOCKED;
    for (Capture *capture = captures; capture; capture = capture->next) /* one that has ended is nobody's */
        if (capture == event->capture) stream_of(handle)->capture = capture;
    UNLOCK;
}

static void waited(Stream *stream) {
    stub_counts.waits += stream->busy;
    stream->busy = 0;
}

int stub_synchronise(void *handle) {
    LOCKED;
    stub_counts.synchronisations++;
    waited(handle ? stream_of(handle) : &legacy);
    for (Stream *stream = streams; stream && !handle; stream = stream->next) waited(stream);
    Capture *capture = handle ? stream_of(handle)->capture : captures;
    int code = capture ? broken(capture, CAPTURE_UNSUPPORTED, "synchronisation with what is captured") : SUCCESS;
    UNLOCK;
    return code;
}

int stub_synchronise_event(Event *event) {
    LOCKED;
    stub_counts.synchronisations++;
    int code = SUCCESS;
    for (Capture *capture = captures; capture; capture = capture->next)
        if (capture == event->capture) code = broken(capture, CAPTURE_UNSUPPORTED, "wait for a captured event");
    UNLOCK;
    return code;
}

/* Memory. */

typedef struct Block {
    char *place;
    size_t size;
    struct Block *next;
} Block;

static Block *blocks;

static Block *block_of(const void *place) {
    for (Block *block = blocks; block; block = block->next)
        if ((char *)place >= block->place && (char *)place < block->place + block->size) return block;
    return NULL;
}

int stub_is_device(const void *place) {
    LOCKED;
    int is = block_of(place) != NULL;
    UNLOCK;
    return is;
}

int stub_allocate(void **place, size_t size, int ordered, void *handle) {
    *place = NULL;
    if (!size) return SUCCESS;
    LOCKED;
    int code = ordered ? SUCCESS : stub_unsafe("allocation");
    if (ordered && stream_of(handle)->capture) stub_counts.captured_allocations++;
    if (!code && (size > limit || (size_t)stub_counts.live + size > limit)) code = OUT_OF_MEMORY;
    char *made = code ? NULL : aligned_alloc(512, (size + 511) & ~(size_t)511);
    if (!code && !made) code = OUT_OF_MEMORY;
    if (!code) {
        Block *block = malloc(sizeof *block);
        *block = (Block){made, size, blocks};
        blocks = block;
        *place = made;
        stub_counts.allocations++;
        stub_counts.live += size;
        if (stub_counts.live > stub_counts.peak) stub_counts.peak = stub_counts.live;
    }
    UNLOCK;
    return code;
}

int stub_release(void *place, int ordered) {
    if (!place) return SUCCESS;
    LOCKED;
    int code = ordered ? SUCCESS : stub_unsafe("free");
    Block **at = &blocks;
    while (*at && (*at)->place != place) at = &(*at)->next;
    if (!*at)
        code = stub_violation(INVALID_VALUE, "free of what was not allocated");
    else if (!code) {
        Block *block = *at;
        *at = block->next;
        stub_counts.frees++;
        stub_counts.live -= block->size;
        free(block->place);
        free(block);
    }
    UNLOCK;
    return code;
}

static int outside(const Block *block, const void *place, size_t size) {
    return block && (char *)place + size > block->place + block->size;
}

int stub_copy(void *target, const void *source, size_t size, void *handle, int blocking) {
    LOCKED;
    Stream *stream = stream_of(handle);
    const Block *to = block_of(target), *from = block_of(source);
    int code = entered(stream, "copy on the legacy stream");
    if (!code && blocking) {
        code = stub_unsafe("copy that waits");
        stub_counts.synchronisations++;
        waited(stream);
    }
    if (!code && (outside(to, target, size) || outside(from, source, size)))
        code = stub_violation(ILLEGAL_ADDRESS, "copy beyond an allocation");
    if (!code) {
        if (stream->capture) {
            record(stream->capture, target, source, size, 0);
            stub_counts.captured_host_copies += !to != !from;
        } else {
            memmove(target, source, size);
            long *count = to ? (from ? &stub_counts.device_to_device : &stub_counts.host_to_device)
                             : (from ? &stub_counts.device_to_host : &stub_counts.host_to_host);
            ++*count;
        }
    }
    UNLOCK;
    return code;
}

int stub_set(void *target, int value, size_t size, void *handle) {
    LOCKED;
    Stream *stream = stream_of(handle);
    int code = entered(stream, "memset on the legacy stream");
    if (!code && outside(block_of(target), target, size))
        code = stub_violation(ILLEGAL_ADDRESS, "memset beyond an allocation");
    if (!code && stream->capture)
        record(stream->capture, target, NULL, size, value);
    else if (!code) {
        memset(target, value, size);
        stub_counts.memsets++;
    }
    UNLOCK;
    return code;
}
