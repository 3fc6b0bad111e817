/* libcudnn: the calls that give something back. All others are generated: those that compute are a kernel on their
handle's stream. */

#include "state.h"

#include <stdlib.h>

enum { WORKSPACE = 8 << 20 }; /* what every convolution asks for, so that whoever allocates it late is seen */

size_t cudnnGetVersion(void) { return 92400; }
size_t cudnnGetCudartVersion(void) { return 13000; }
const char *cudnnGetErrorString(int status) { return status ? "CUDNN_STATUS_STUB" : "CUDNN_STATUS_SUCCESS"; }
void cudnnGetLastErrorString(char *text, size_t size) {
    if (size) text[0] = 0;
}

int cudnnCreate(Handle **handle) { return *handle = calloc(1, sizeof **handle), SUCCESS; }
int cudnnDestroy(Handle *handle) { return free(handle), SUCCESS; }
int cudnnSetStream(Handle *handle, void *stream) { return handle->stream = stream, SUCCESS; }
int cudnnGetStream(Handle *handle, void **stream) { return *stream = handle->stream, SUCCESS; }

int cudnnGetConvolutionForwardWorkspaceSize(void *handle, void *x, void *w, void *operation, void *y, int algorithm,
                                            size_t *size) {
    (void)handle, (void)x, (void)w, (void)operation, (void)y, (void)algorithm;
    return *size = WORKSPACE, SUCCESS;
}
static int little(size_t *size) { return *size = 4096, SUCCESS; }
int cudnnGetReductionWorkspaceSize(void *handle, void *operation, void *a, void *c, size_t *size) {
    (void)handle, (void)operation, (void)a, (void)c;
    return little(size);
}
int cudnnGetReductionIndicesSize(void *handle, void *operation, void *a, void *c, size_t *size) {
    (void)handle, (void)operation, (void)a, (void)c;
    return little(size);
}

/* The graph API: a search finds one engine, whose plan asks for WORKSPACE. */
enum { TYPE_INT64 = 3, TYPE_DESCRIPTOR = 15, TYPE_KNOB = 23, PLAN_WORKSPACE = 402 };

int cudnnBackendCreateDescriptor(int kind, void **made) {
    (void)kind;
    return *made = calloc(1, 4096), SUCCESS;
}
int cudnnBackendDestroyDescriptor(void *made) { return free(made), SUCCESS; }
int cudnnBackendGetAttribute(void *descriptor, int name, int type, long wanted, long *count, void *values) {
    (void)descriptor;
    if (type == TYPE_DESCRIPTOR) { /* the caller made the descriptors, which stay as they are */
        if (count) *count = 1;
        return SUCCESS;
    }
    int one = wanted >= 1 && (type == TYPE_INT64 || type == TYPE_KNOB);
    if (one && type == TYPE_INT64) *(long *)values = name == PLAN_WORKSPACE ? WORKSPACE : 0;
    if (one && type == TYPE_KNOB) *(int *)values = 0;
    if (count) *count = one;
    return SUCCESS;
}
