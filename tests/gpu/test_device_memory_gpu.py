"""cuda.core through `engine.device_memory` on a GPU: bytes that are copied arrive, captured copies are replayed."""

import gc

import numpy as np
import pytest

from grefine_rt import DeviceError
from grefine_rt.engine import device_memory
from grefine_rt.engine.device_memory import CudaDevice, Scratch

MIB = 1 << 20


@pytest.fixture
def device():
    if not device_memory.installed():
        pytest.skip(device_memory.MISSING)
    return CudaDevice("cuda:0")


def numbers(seed, count=MIB):
    return np.random.default_rng(seed).standard_normal(count).astype(np.float32)


def test_what_goes_there_comes_back(device):
    sent, received = numbers(0), np.zeros(MIB, np.float32)
    buffer = device.allocate(sent.nbytes)
    device.copy(buffer, device.view(sent))
    device.copy(device.view(received), buffer)
    device.sync()
    np.testing.assert_array_equal(received, sent)
    device.free(buffer)


def test_copies_follow_each_other(device):
    first, second, received = numbers(1), numbers(2), np.zeros(MIB, np.float32)
    here, there = (device.allocate(first.nbytes) for _ in range(2))
    for array in (first, second):
        device.copy(here, device.view(array))
        device.copy(there, here)
    device.copy(device.view(received), there)
    device.sync()
    np.testing.assert_array_equal(received, second)
    device.free(here)
    device.free(there)


def test_a_captured_copy_is_made_at_every_launch(device):
    received = np.zeros(MIB, np.float32)
    here, there = (device.allocate(received.nbytes) for _ in range(2))

    def work(stream):
        from cuda.bindings import driver

        places = int(there.handle), int(here.handle)
        (error,) = driver.cuMemcpyDtoDAsync(*places, received.nbytes, stream)
        assert error == driver.CUresult.CUDA_SUCCESS

    graph = device.capture(work)
    for seed in (3, 4):
        sent = numbers(seed)
        device.copy(here, device.view(sent))
        device.launch(graph)
        device.copy(device.view(received), there)
        device.sync()
        np.testing.assert_array_equal(received, sent)
    device.free(here)
    device.free(there)


def test_memory_is_taken_and_given_back(device):
    before, size = device.free_memory, 256 * MIB
    buffer = device.allocate(size)
    during = device.free_memory
    device.free(buffer)
    assert before - during >= size
    assert device.free_memory - during >= size


def test_scratch_grows_to_the_largest_need_and_no_further(device):
    scratch = Scratch("cuda:0")
    scratch.address(MIB)
    large = scratch.address(8 * MIB)
    assert scratch.address(MIB) == large
    assert scratch.size >= 8 * MIB
    del scratch
    gc.collect()


def test_the_key_tells_gpu_and_driver(device, gpu):
    assert f"-{gpu}-driver" in device.key
    assert CudaDevice("cuda:0").key == device.key


def test_a_gpu_that_is_not_there_is_refused(device):
    with pytest.raises(DeviceError, match="cuda:99"):
        CudaDevice("cuda:99")
