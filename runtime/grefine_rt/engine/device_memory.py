"""One GPU through cuda.core: memory, copies and streams; and the scratch memory that engines share."""

from __future__ import annotations

import threading
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from grefine_rt.arrays import Array
from grefine_rt.engine import nvidia
from grefine_rt.engine.base import first_line
from grefine_rt.errors import HERE, DeviceError

MISSING = f"cuda.core is not installed: run 'pip install .[tensorrt]' {HERE}"


def installed() -> bool:
    """Whether cuda.core is installed; it is not imported."""
    return find_spec("cuda") is not None and find_spec("cuda.core") is not None


class CudaDevice:
    """Memory and streams of the GPU `device`, "cuda:N".

    Buffers are freed when nothing refers to them, or by `close`. What the driver refuses raises its own exceptions.
    Raises DeviceError when cuda.core is not installed, or when there is no such GPU.
    """

    def __init__(self, device: str) -> None:
        nvidia.number_by_place()
        try:
            import cuda.core as core
        except ImportError as error:
            raise DeviceError(f"{MISSING}.") from error
        self._core = core
        try:
            self._index = int(device.partition(":")[2] or 0)
            here = self.use()
            self._stream = here.create_stream()
            # Memory has a stream of its own: a buffer may be freed while a graph is captured on the other one.
            self._ordered = here.create_stream()
            # And a pool of its own, for the default one would keep what is freed.
            self._pool = core.DeviceMemoryResource(here, core.DeviceMemoryResourceOptions())
        except Exception as error:  # the driver's exceptions share no public base class
            raise DeviceError(
                f"Device '{device}' cannot be used ({first_line(error)}): check the NVIDIA driver with 'grefine-rt "
                f"doctor', or use the device 'cpu'."
            ) from error

    @property
    def stream(self) -> int:
        """The handle of the stream on which everything runs."""
        return int(self._stream.handle)

    @property
    def key(self) -> str:
        """The key of machine code that was compiled for this GPU: name, compute capability, driver."""
        here = self.use()
        capability = here.compute_capability
        try:
            driver = ".".join(map(str, self._core.system.get_kernel_mode_driver_version()))
        except Exception:  # NVML is missing, as in some containers: the CUDA version that the driver has
            driver = f"-cuda{self._cuda_version()}"
        return f"{here.name}-sm{capability.major}{capability.minor}-driver{driver}"

    @staticmethod
    def _cuda_version() -> int:
        """The newest CUDA that the driver knows, 13020 for 13.2. cuda.core asks NVML even for that."""
        from cuda.bindings import driver

        error, version = driver.cuDriverGetVersion()
        return int(version) if error == driver.CUresult.CUDA_SUCCESS else 0

    @property
    def free_memory(self) -> int:
        """Bytes that are free on the device, for all processes."""
        from cuda.bindings import driver

        self.use()
        error, free, _ = driver.cuMemGetInfo()
        if error != driver.CUresult.CUDA_SUCCESS:
            raise DeviceError(
                f"The driver does not tell how much memory is free ({error}): see 'grefine-rt doctor'."
            )
        return int(free)

    def use(self) -> Any:
        """Make this the GPU of the calling thread."""
        device = self._core.Device(self._index)  # a thread has objects of its own
        device.set_current()
        return device

    def allocate(self, size: int) -> Any:
        """Device memory of `size` bytes."""
        buffer = self._pool.allocate(size, stream=self._ordered)
        self._ordered.sync()  # it will be used on the other stream
        return buffer

    def free(self, buffer: Any) -> None:
        """Give memory back to the device, which no work may be using."""
        buffer.close()
        self._ordered.sync()

    def view(self, array: Array) -> Any:
        """The host memory of a contiguous array, for `copy`."""
        return self._core.Buffer.from_handle(array.ctypes.data, array.nbytes, owner=array)

    def copy(self, target: Any, source: Any) -> None:
        """Start to copy all bytes of `source` to `target`, which is as large."""
        target.copy_from(source, stream=self._stream)

    def sync(self) -> None:
        """Wait until all that was started is done."""
        self._stream.sync()

    def capture(self, work: Callable[[int], None]) -> Any:
        """The work that `work` starts on its stream, as a graph for `launch`; nothing of it is run."""
        builder = self.use().create_graph_builder()
        builder.begin_building()
        try:
            work(int(builder.stream.handle))
        finally:
            builder.end_building()
        return builder.complete()

    def launch(self, graph: Any) -> None:
        """Start a graph."""
        graph.launch(self._stream)


class Scratch:
    """The memory of activations, shared by engines on one GPU that never run together; it grows to the largest need.

    device: "cuda:N". Runs hold `lock`, so that any number of threads may call these engines. Raises as `CudaDevice`
    does.
    """

    def __init__(self, device: str = "cuda:0") -> None:
        self.device = device
        self.gpu = CudaDevice(device)
        self.lock = threading.Lock()
        self._buffer: Any = None

    @property
    def size(self) -> int:
        """Bytes held."""
        return 0 if self._buffer is None else int(self._buffer.size)

    def address(self, size: int) -> int:
        """The address of at least `size` bytes, valid until the next call that asks for more."""
        if self._buffer is None or self._buffer.size < size:
            if self._buffer is not None:
                self.gpu.free(self._buffer)
                self._buffer = None
            self._buffer = self.gpu.allocate(size)
        return int(self._buffer.handle)
