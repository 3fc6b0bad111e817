"""A stand-in for `cuda.core` in host memory: work waits in its stream until someone waits for it, freed memory is gone.

The addresses are real ones of the host, so whatever knows an address can read and write there.
"""

import ctypes
from types import SimpleNamespace


class CUDAError(Exception):
    pass


class Memory:
    """What of the device is in use: size by address."""

    def __init__(self, size):
        self.size, self.live, self.largest, self.threads = size, {}, 0, set()

    @property
    def used(self):
        return sum(self.live.values())

    def check(self, address, size):
        """Raises unless all of it lies in one allocation."""
        fits = (start <= address and address + size <= start + held for start, held in self.live.items())
        if not any(fits):
            raise CUDAError("CUDA_ERROR_ILLEGAL_ADDRESS")


class Stream:
    known = {}  # noqa: RUF012

    def __init__(self, graph=None):
        self.handle, self.waiting, self.graph = len(Stream.known) + 1, [], graph
        Stream.known[self.handle] = self

    def submit(self, work):
        (self.waiting if self.graph is None else self.graph).append(work)

    def sync(self):
        assert self.graph is None, "a stream that captures cannot be waited for"
        while self.waiting:
            self.waiting.pop(0)()


def module(memory=10**9, captures=True):
    """The module; `memory` is that of its one GPU, in bytes, and `captures` whether graphs can be captured.

    `device_memory` tells what is in use, `host_copies` counts copies from and to the host, `launches` those of graphs.
    `driver` stands in for `cuda.bindings.driver`.
    """
    held = Memory(memory)
    fake = SimpleNamespace(
        device_memory=held, host_copies=0, launches=0, graphs=0, refuse_runs=False, before_memory=lambda: None
    )

    class Buffer:
        def __init__(self, address, size, owner=None):
            self.handle, self.size, self._owner, self.on_host = address, size, owner, owner is not None

        @classmethod
        def from_handle(cls, ptr, size, *, owner):
            return cls(ptr, size, owner)

        def copy_from(self, source, *, stream):
            assert source.size == self.size
            fake.host_copies += self.on_host or source.on_host
            stream.submit(lambda: self._copy(source))

        def _copy(self, source):
            for buffer in (self, source):
                if not buffer.on_host:
                    held.check(buffer.handle, buffer.size)
            ctypes.memmove(self.handle, source.handle, self.size)

        def close(self):
            if not self.on_host:
                held.live.pop(self.handle, None)
            self._owner = None

        def __del__(self):
            self.close()

    class Resource:
        def __init__(self, device, options):
            assert isinstance(device, Device)

        def allocate(self, size, *, stream):
            fake.before_memory()
            if held.used + size > held.size:
                raise CUDAError("CUDA_ERROR_OUT_OF_MEMORY: there is not enough\nmore about it")
            block = ctypes.create_string_buffer(b"\xff" * size, size)  # float32 NaN
            buffer = Buffer(ctypes.addressof(block), size)
            buffer._owner = block
            held.live[buffer.handle] = size
            held.largest = max(held.largest, held.used)
            return buffer

    class Graph:
        def __init__(self, work):
            self._work = work

        def launch(self, stream):
            fake.launches += 1
            for work in self._work:
                stream.submit(work)

    class GraphBuilder:
        def __init__(self):
            self._work = []
            self.stream = Stream(self._work)

        def begin_building(self):
            if not captures:
                raise CUDAError("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED")

        def end_building(self):
            return self

        def complete(self):
            fake.graphs += 1
            return Graph(self._work)

    class Device:
        name = "Pretended GPU 4090"
        compute_capability = SimpleNamespace(major=8, minor=9)

        def __init__(self, index):
            if index:
                raise ValueError(f"device_id must be within [0, 1), got {index}")

        def set_current(self):
            pass

        def create_stream(self):
            return Stream()

        def create_graph_builder(self):
            return GraphBuilder()

    fake.Device, fake.Buffer = Device, Buffer
    fake.driver = SimpleNamespace(
        CUresult=SimpleNamespace(CUDA_SUCCESS=0),
        cuMemGetInfo=lambda: (0, held.size - held.used, held.size),
        cuDriverGetVersion=lambda: (0, 13020),
    )
    fake.DeviceMemoryResource, fake.DeviceMemoryResourceOptions = Resource, object
    fake.system = SimpleNamespace(get_kernel_mode_driver_version=lambda: (580, 65, 6))
    return fake
