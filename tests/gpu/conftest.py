"""What needs a GPU: `python -m pytest tests/gpu` where there is CUDA; elsewhere all is skipped, with the reason."""

import gc

import pytest

from grefine_rt import DeviceError, Refiner
from grefine_rt.engine import device_memory, nvidia
from grefine_rt.engine.onnxruntime import plugin
from grefine_rt.engine.onnxruntime.session import has_cuda
from grefine_rt.engine.tensorrt.sidecar import gpu_target
from tests.support.paths import MINI


@pytest.fixture(scope="session", autouse=True)
def gpu():
    """The first GPU as a target such as "sm89"."""
    target = gpu_target()
    if target is None:
        pytest.skip("no NVIDIA GPU with a driver is here")
    return target


@pytest.fixture(scope="session")
def cuda(gpu):
    """The name of the first GPU under ONNX Runtime CUDA."""
    try:
        built = has_cuda()
    except DeviceError as error:
        pytest.skip(str(error))
    if not built:
        pytest.skip("this ONNX Runtime has no CUDA support: pip install '.[gpu]'")
    return "cuda:0"


@pytest.fixture(scope="session")
def rtx(gpu):
    """The name of the first GPU under the plugin of TensorRT for RTX."""
    if not plugin.installed():
        pytest.skip(f"the TensorRT-RTX plugin of ONNX Runtime is not installed: {plugin.INSTALL}")
    if gpu in ("sm75", "sm80", "sm90", "sm100"):
        pytest.skip(f"the plugin serves RTX GPUs from RTX 30 on, not {gpu}")
    return "rtx:0"


@pytest.fixture(scope="session")
def on_cpu():
    with Refiner.load(MINI, "cpu") as refiner:
        yield refiner


@pytest.fixture(scope="session", params=[False, True], ids=["plain", "cuda-graphs"])
def on_cuda(cuda, request):
    if request.param and not device_memory.installed():
        pytest.skip(device_memory.MISSING)
    with Refiner.load(MINI, cuda, cuda_graphs=request.param) as refiner:
        yield refiner.warm_up()


@pytest.fixture
def used():
    """Bytes of the first GPU's memory that are taken, asked of the driver."""

    def used():
        gc.collect()
        return nvidia.gpus()[0].used

    return used
