"""The real onnxruntime-gpu and cuda.core on stub CUDA libraries: `python -m tests.support.stub_cuda`; elsewhere all of
it is skipped."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.support.stub_cuda import counts

MINI = Path(__file__).resolve().parents[2] / "engines" / "mini" / "components"
LIMIT = 24 << 30
"""Bytes that the stub's GPU has."""

STEPS = ("inpaint_step", "restore_step", "blended_step")
SIZES = {"b": 1, "n": 2, "L": 9, "l": 9, "t": 8, "m": 6}


@dataclass(frozen=True)
class Graph:
    """A graph under test. name: "mini/COMPONENT", "fp32/COMPONENT" or "fp16/COMPONENT"."""

    name: str
    path: Path

    @property
    def is_step(self):
        return self.path.stem in STEPS

    def __str__(self):
        return self.name


def graphs(steps=False):
    """The graphs of the embedded bundle, and the small exports where they are."""
    found = [Graph(f"mini/{path.stem}", path) for path in sorted(MINI.glob("*.onnx"))]
    if folder := os.environ.get("STUB_CUDA_EXPORTS"):
        found += [
            Graph(f"{path.parent.name}/{path.stem}", path) for path in sorted(Path(folder).glob("*/*.onnx"))
        ]
    return [graph for graph in found if graph.is_step or not steps]


def inputs(specs, side=8, rows=2):
    """Arrays for one run at latents of `side`, or (height, width): zeros, for nothing is computed but sizes."""
    height, width = (side, side) if isinstance(side, int) else side
    sizes = SIZES | {"n": rows, "h": height, "w": width, "H": 8 * height, "W": 8 * width}
    return {
        name: np.zeros([sizes.get(axis, axis) for axis in spec.shape], spec.dtype)
        for name, spec in specs.items()
    }


@pytest.fixture(scope="session", autouse=True)
def stub():
    if "STUB_CUDA_FOLDER" not in os.environ:
        pytest.skip("needs onnxruntime-gpu on stub CUDA libraries: python -m tests.support.stub_cuda")


@pytest.fixture(autouse=True)
def _clean(stub):
    """Every test starts to count anew, and none may break a rule of CUDA unless it says so."""
    counts.limit(LIMIT)
    counts.reset()
    yield
    counts.limit(LIMIT)


@pytest.fixture
def kept_rules():
    yield
    found = counts.counts()
    assert found.violations == 0, found.told


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.stub_cuda)
