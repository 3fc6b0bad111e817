"""The stub itself: rules of CUDA that it enforces, and what it counts."""

import ctypes

import numpy as np
import pytest

from grefine_rt.engine.device_memory import CudaDevice, Scratch
from grefine_rt.errors import DeviceError
from tests.support.stub_cuda import counts

GLOBAL, RELAXED = 0, 2
UNSUPPORTED, INVALIDATED = 900, 901


@pytest.fixture
def runtime():
    library = ctypes.CDLL("libcudart.so.13")
    yield library
    library.cudaGetLastError()  # as in CUDA, the last error would meet whoever asks next


@pytest.fixture
def stream(runtime):
    handle = ctypes.c_void_p()
    assert runtime.cudaStreamCreateWithFlags(ctypes.byref(handle), 1) == 0
    return handle


def capture(runtime, stream, work, mode=GLOBAL):
    """What `work` returned in a capture, and what the end of the capture did."""
    graph = ctypes.c_void_p()
    assert runtime.cudaStreamBeginCapture(stream, mode) == 0
    done = work()
    return done, runtime.cudaStreamEndCapture(stream, ctypes.byref(graph))


@pytest.mark.parametrize("call", ["cudaMalloc", "cudaDeviceSynchronize", "cudaStreamSynchronize"])
def test_a_capture_forbids_what_cuda_forbids_and_is_lost(runtime, stream, call):
    arguments = {
        "cudaMalloc": (ctypes.byref(ctypes.c_void_p()), ctypes.c_size_t(512)),
        "cudaDeviceSynchronize": (),
        "cudaStreamSynchronize": (stream,),
    }[call]
    assert capture(runtime, stream, lambda: getattr(runtime, call)(*arguments)) == (UNSUPPORTED, INVALIDATED)
    assert counts.counts().violations == 1


def test_a_relaxed_capture_lets_others_allocate(runtime, stream):
    place = ctypes.c_void_p()
    allocate = lambda: runtime.cudaMalloc(ctypes.byref(place), ctypes.c_size_t(512))  # noqa: E731
    assert capture(runtime, stream, allocate, RELAXED) == (0, 0)
    assert runtime.cudaFree(place) == 0


def test_copies_are_told_apart_and_stay_inside_allocations(runtime, stream):
    place = ctypes.c_void_p()
    assert runtime.cudaMalloc(ctypes.byref(place), ctypes.c_size_t(1024)) == 0
    host = ctypes.create_string_buffer(b"x" * 1024, 1024)
    assert runtime.cudaMemcpyAsync(place, host, ctypes.c_size_t(1024), 4, stream) == 0
    assert runtime.cudaMemcpyAsync(host, place, ctypes.c_size_t(16), 4, stream) == 0
    assert runtime.cudaMemcpyAsync(place, host, ctypes.c_size_t(1025), 4, stream) == 700
    found = counts.counts()
    assert (found.host_to_device, found.device_to_host, found.violations) == (1, 1, 1)
    assert runtime.cudaStreamSynchronize(stream) == runtime.cudaStreamSynchronize(stream) == 0
    assert (counts.counts().synchronisations, counts.counts().waits) == (2, 1)
    assert runtime.cudaFree(place) == 0
    assert runtime.cudaFree(place) != 0


def test_a_driver_call_without_a_context_is_refused():
    driver = ctypes.CDLL("libcuda.so.1")
    assert driver.cuCtxSetCurrent(None) == 0
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    assert driver.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)) == 201
    assert CudaDevice("cuda:0").free_memory == 24 << 30


def test_copies_through_cuda_core_arrive(kept_rules):
    gpu = CudaDevice("cuda:0")
    there, here = np.arange(64, dtype=np.float32), np.zeros(64, np.float32)
    buffer = gpu.allocate(there.nbytes)
    gpu.copy(buffer, gpu.view(there))
    gpu.copy(gpu.view(here), buffer)
    gpu.sync()
    np.testing.assert_array_equal(here, there)
    gpu.free(buffer)


def test_scratch_on_another_gpu_is_refused():
    with pytest.raises(DeviceError, match="cuda:1"):
        Scratch("cuda:1")
