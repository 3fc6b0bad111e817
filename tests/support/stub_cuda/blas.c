/* libcublas, libcublasLt and libcurand in one source: the calls that give something back. All others are generated:
those that compute are a kernel on their handle's stream. */

#include "state.h"

#include <stdlib.h>
#include <string.h>

int cublasCreate_v2(Handle **handle) { return *handle = calloc(1, sizeof **handle), SUCCESS; }
int cublasLtCreate(Handle **handle) { return *handle = calloc(1, sizeof **handle), SUCCESS; }
int cublasDestroy_v2(Handle *handle) { return free(handle), SUCCESS; }
int cublasLtDestroy(Handle *handle) { return free(handle), SUCCESS; }
int cublasSetStream_v2(Handle *handle, void *stream) { return handle->stream = stream, SUCCESS; }
int cublasGetMathMode(Handle *handle, int *mode) { return (void)handle, *mode = 0, SUCCESS; }
const char *cublasGetStatusName(int status) { return status ? "CUBLAS_STATUS_STUB" : "CUBLAS_STATUS_SUCCESS"; }
const char *cublasGetStatusString(int status) { return status ? "failed" : "success"; }

static int described(void **made) { return *made = calloc(1, 512), SUCCESS; }
int cublasLtMatmulDescCreate(void **made) { return described(made); }
int cublasLtMatmulPreferenceCreate(void **made) { return described(made); }
int cublasLtMatrixLayoutCreate(void **made) { return described(made); }
int cublasLtMatrixTransformDescCreate(void **made) { return described(made); }
int cublasLtMatmulDescDestroy(void *made) { return free(made), SUCCESS; }
int cublasLtMatmulPreferenceDestroy(void *made) { return free(made), SUCCESS; }
int cublasLtMatrixLayoutDestroy(void *made) { return free(made), SUCCESS; }
int cublasLtMatrixTransformDescDestroy(void *made) { return free(made), SUCCESS; }

typedef struct {
    unsigned long algorithm[8];
    size_t workspace;
    int state;
    float waves;
    int reserved[4];
} Heuristic;

int cublasLtMatmulAlgoGetHeuristic(Handle *handle, void *operation, void *a, void *b, void *c, void *d, void *wanted,
                                   int count, Heuristic *results, int *found) {
    (void)handle, (void)operation, (void)a, (void)b, (void)c, (void)d, (void)wanted;
    if (count > 0) memset(results, 0, sizeof *results);
    *found = count > 0;
    return SUCCESS;
}

int cublasLtMatmul(Handle *handle, void *operation, const void *alpha, const void *a, void *a_layout, const void *b,
                   void *b_layout, const void *beta, const void *c, void *c_layout, void *d, void *d_layout,
                   const void *algorithm, void *workspace, size_t size, void *stream) {
    (void)handle, (void)operation, (void)alpha, (void)a, (void)a_layout, (void)b, (void)b_layout, (void)beta, (void)c;
    (void)c_layout, (void)d, (void)d_layout, (void)algorithm, (void)workspace, (void)size;
    return stub_kernel(stream);
}

int cublasLtMatrixTransform(Handle *handle, void *operation, const void *alpha, const void *a, void *a_layout,
                            const void *beta, const void *b, void *b_layout, void *c, void *c_layout, void *stream) {
    (void)handle, (void)operation, (void)alpha, (void)a, (void)a_layout, (void)beta, (void)b, (void)b_layout, (void)c;
    (void)c_layout;
    return stub_kernel(stream);
}
