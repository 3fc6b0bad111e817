"""A test of TensorRT on a GPU: an engine of one node is built for it, loaded, and run there."""

from __future__ import annotations

from typing import Any

import numpy as np

from grefine_rt.engine.base import first_line
from grefine_rt.engine.device_memory import CudaDevice
from grefine_rt.engine.tensorrt import callbacks
from grefine_rt.engine.tensorrt.sidecar import RTX_TARGETS, Environment, library
from grefine_rt.errors import DeviceError

IDENTITY = (
    b'\x08\x08:;\n\x12\n\x01x\x12\x01y"\x08Identity:\x00\x12\x01gZ\x10\n\x01x\x12\x0b\n\t\x08\x01\x12\x05\n'
    b"\x03\x12\x01nb\x10\n\x01y\x12\x0b\n\t\x08\x01\x12\x05\n\x03\x12\x01nB\x04\n\x00\x10\r"
)
"""The smallest ONNX model there is (IR 8, opset 13): y = Identity(x) for float x of any length."""
_LENGTH = 4


def probe(device: str) -> None:
    """Raise DeviceError unless the TensorRT that builds for the GPU "cuda:N" computes there through cuda.core."""
    here = Environment.here("", int(device.partition(":")[2]))
    classic = "tensorrt" in here.versions and (
        "tensorrt-rtx" not in here.versions or here.gpu not in RTX_TARGETS
    )
    trt = library("tensorrt" if classic else "tensorrt-rtx")
    gpu = CudaDevice(device)
    log = callbacks.logger(trt)
    given = np.arange(_LENGTH, dtype=np.float32)
    try:
        made = _run(trt, log, gpu, _plan(trt, log, None if classic else here.gpu), given)
    except Exception as error:  # the library has no kind of its own
        raise DeviceError(
            f"TensorRT cannot use '{device}' ({first_line(error)}; {log.reason}): check the NVIDIA driver, or use "
            f"another device."
        ) from error
    if not np.array_equal(made, given):
        raise DeviceError(f"TensorRT computes wrong values on '{device}': update its driver.")


def _plan(trt: Any, log: Any, target: str | None) -> Any:
    """The engine, serialised. target: such as "sm89", which TensorRT for RTX wants to know."""
    builder = trt.Builder(log)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, log)
    _see(parser.parse(IDENTITY), "the model of one node")
    config = builder.create_builder_config()
    if target is not None:
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, target.upper()), 0)
    profile = builder.create_optimization_profile()
    profile.set_shape("x", *[(_LENGTH,)] * 3)
    config.add_optimization_profile(profile)
    serialized = builder.build_serialized_network(network, config)
    _see(serialized is not None, "its build")
    return serialized


def _run(trt: Any, log: Any, gpu: CudaDevice, serialized: Any, given: Any) -> Any:
    """The engine's answer to `given`, from the GPU."""
    gpu.use()
    runtime = trt.Runtime(log)
    engine = runtime.deserialize_cuda_engine(serialized)
    _see(engine is not None, "its engine")
    context = engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
    _see(context is not None, "a context")
    _see(context.set_optimization_profile_async(0, gpu.stream), "its profile")
    _see(context.set_input_shape("x", given.shape), "its shape")
    scratch = gpu.allocate(max(int(context.update_device_memory_size_for_shapes()), 1))
    context.set_device_memory(int(scratch.handle), scratch.size)
    buffers = {name: gpu.allocate(given.nbytes) for name in ("x", "y")}
    for name, buffer in buffers.items():
        _see(context.set_tensor_address(name, int(buffer.handle)), f"the address of {name}")
    made = np.zeros_like(given)
    gpu.copy(buffers["x"], gpu.view(given))
    _see(context.execute_async_v3(gpu.stream), "its run")
    gpu.copy(gpu.view(made), buffers["y"])
    gpu.sync()
    return made


def _see(done: bool, what: str) -> None:
    if not done:
        raise RuntimeError(f"{what} was refused")
