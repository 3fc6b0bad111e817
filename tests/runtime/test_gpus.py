"""Which GPUs there are, how they are numbered, and for which ONNX Runtime has kernels; no GPU needed."""

import os

import pytest

from grefine_rt.engine import nvidia
from grefine_rt.engine.onnxruntime import kernels
from tests.support.fat_binary import library_with


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (None, [0, 1, 2]),
        ("", []),
        ("2,0", [2, 0]),
        ("1,7,0", [1]),
        ("-1,0", []),
        ("GPU-b", [1]),
        ("GPU-c1,0", [2, 0]),
        ("GPU-,0", []),
    ],
)
def test_gpus_that_cuda_shows(monkeypatch, text, wanted):
    if text is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", text)
    assert nvidia.visible(["GPU-a1", "GPU-b1", "GPU-c1"]) == wanted


def test_an_order_that_the_user_set_is_kept(monkeypatch):
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    nvidia.number_by_place()
    assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    nvidia.number_by_place()
    assert os.environ["CUDA_DEVICE_ORDER"] == "FASTEST_FIRST"


@pytest.mark.parametrize(
    ("gpu", "served"),
    [("sm86", True), ("sm89", True), ("sm80", False), ("sm90", False), ("sm121", True), ("sm100", False)],
)
def test_machine_code_serves_later_minor_versions_alone(tmp_path, gpu, served):
    library_with(tmp_path / kernels.PROVIDER, (2, 86), (2, 120))
    told = kernels.missing_for(gpu, tmp_path)
    assert (told is None) == served
    assert served or f"no kernels for the GPU here, which is {gpu}, only for sm86, sm120" in told


def test_ptx_serves_every_later_gpu(tmp_path):
    library_with(tmp_path / kernels.PROVIDER, (1, 90))
    assert kernels.missing_for("sm120", tmp_path) is None
    assert kernels.missing_for("sm89", tmp_path) is not None


@pytest.mark.parametrize("content", [None, b"", b"MZ", b"\x7fELF\x02" + bytes(70)])
def test_a_library_that_does_not_tell_refuses_nobody(tmp_path, content):
    path = tmp_path / kernels.PROVIDER
    path.parent.mkdir(parents=True)
    if content is not None:
        path.write_bytes(content)
    assert kernels.missing_for("sm100", tmp_path) is None
