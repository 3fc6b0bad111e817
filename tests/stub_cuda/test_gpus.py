"""How GPUs are numbered across NVML, CUDA, cuda.core and ONNX Runtime, and which are refused: in processes of their
own, for CUDA reads its environment once."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TWO = "7.5@1,8.9@65"
"""A slow GPU in the first place, a fast one in the second."""

NUMBERS = """
import json
from grefine_rt.engine import nvidia
from grefine_rt.engine.device_memory import CudaDevice
from grefine_rt.engine.tensorrt.sidecar import gpu_target
print(json.dumps({
    "driver": [gpu.name for gpu in nvidia.gpus()],
    "cuda": [gpu_target(0), gpu_target(1)],
    "core": CudaDevice("cuda:0").key,
}))
"""

SELECTED = """
import sys
from pathlib import Path
from grefine_rt.errors import DeviceError
from grefine_rt.models.bundle import Bundle
try:
    bundle = Bundle.open(Path("engines/mini"), sys.argv[1])
    print(type(bundle.engine("inpaint_step")).__name__)
except DeviceError as error:
    print(error)
"""


def run(code, *arguments, **environment):
    """What a new process with this environment prints."""
    inside = {name: value for name, value in os.environ.items() if not name.startswith("CUDA_")} | environment
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=inside, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_gpus_have_one_number_everywhere():
    found = json.loads(run(NUMBERS, STUB_CUDA_GPUS=TWO))
    assert found["driver"] == ["Stub GPU 7.5", "Stub GPU 8.9"]
    assert found["cuda"] == ["sm75", "sm89"]
    assert found["core"].startswith("Stub GPU 7.5-sm75-driver580.65.6")


@pytest.mark.parametrize(
    ("shown", "driver", "cuda"),
    [("1", ["Stub GPU 8.9"], ["sm89", None]), ("1,0", ["Stub GPU 8.9", "Stub GPU 7.5"], ["sm89", "sm75"])],
)
def test_gpus_that_are_hidden_are_hidden_everywhere(shown, driver, cuda):
    found = json.loads(run(NUMBERS, STUB_CUDA_GPUS=TWO, CUDA_VISIBLE_DEVICES=shown))
    assert (found["driver"], found["cuda"]) == (driver, cuda)
    assert found["core"].startswith("Stub GPU 8.9-sm89")


def test_without_nvml_a_gpu_has_a_key_all_the_same(tmp_path):
    for library in Path(os.environ["LD_LIBRARY_PATH"]).glob("*.so*"):
        if "nvidia-ml" not in library.name:
            shutil.copy(library, tmp_path)
    code = "from grefine_rt.engine.device_memory import CudaDevice; print(CudaDevice('cuda:0').key)"
    assert run(code, LD_LIBRARY_PATH=str(tmp_path)) == "Stub GPU 8.9-sm89-driver-cuda13020"


def test_a_gpu_without_kernels_is_refused_at_selection():
    told = run(SELECTED, "cuda", STUB_CUDA_GPUS="10.0@1")
    assert "no kernels for the GPU here, which is sm100, only for sm75, sm80, sm86, sm89, sm90, sm120" in told
    assert run(SELECTED, "cuda", STUB_CUDA_GPUS="8.9@1") == "OnnxEngine"


def test_a_second_gpu_that_is_not_there_is_refused_and_one_that_is_there_is_taken():
    assert "no NVIDIA GPU number 1" in run(SELECTED, "cuda:1", STUB_CUDA_GPUS="8.9@1")
    assert run(SELECTED, "cuda:1", STUB_CUDA_GPUS=TWO) == "OnnxEngine"
