import json
import re
import subprocess
import sys
import tomllib

import pytest

import grefine_rt
from tests.support.paths import ROOT

EXPORT_ONLY = {"torch", "diffusers", "transformers", "onnx", "onnxscript", "grefine_export"}
LATE = {"onnxruntime", "nltk", "tokenizers", "PIL", "numpy", "typer", "rich", "tensorrt", "tensorrt_rtx"}

IMPORT_ALL = """
import importlib, json, pkgutil, sys
import grefine_rt
names = [m.name for m in pkgutil.walk_packages(grefine_rt.__path__, "grefine_rt.")]
for name in names:
    importlib.import_module(name)
print(json.dumps([names, sorted({module.partition(".")[0] for module in sys.modules})]))
"""
IMPORT_PACKAGE = """
import json, sys, time
start = time.perf_counter()
import grefine_rt
seconds = time.perf_counter() - start
print(json.dumps([seconds, sorted({module.partition(".")[0] for module in sys.modules})]))
"""


def run(program):
    environment = {"PYTHONPATH": str(ROOT / "runtime"), "PATH": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
        timeout=60,
    )
    return json.loads(done.stdout)


def test_no_module_of_the_runtime_brings_in_the_export_side():
    names, loaded = run(IMPORT_ALL)
    assert {"grefine_rt.refiner", "grefine_rt.plan.make", "grefine_rt.assess.prompt.phrases"} <= set(names)
    assert not EXPORT_ONLY & set(loaded)


def test_no_module_of_the_runtime_loads_an_engine_or_nltk_by_itself():
    _, loaded = run(IMPORT_ALL)
    assert not {"onnxruntime", "nltk", "tensorrt", "tensorrt_rtx"} & set(loaded)


@pytest.mark.timing
def test_importing_the_package_is_quick_and_loads_nothing_else():
    runs = [run(IMPORT_PACKAGE) for _ in range(3)]  # the best of them, for the machine may be busy
    assert not (EXPORT_ONLY | LATE) & set(runs[0][1])
    assert min(seconds for seconds, _ in runs) < 0.15


def test_an_extra_of_onnxruntime_excludes_no_other_one():
    """`onnxruntime` and `onnxruntime-gpu` overwrite each other: an extra for something else may name neither."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {
        extra
        for extra, wanted in extras.items()
        if any(re.match(r"onnxruntime(-gpu)?\b(?!-)", one) for one in wanted)
    }
    assert named == {"cpu", "gpu", "rtx"}


def test_every_public_name_loads_and_is_listed():
    for name in grefine_rt.__all__:
        assert getattr(grefine_rt, name).__name__ == name
        assert name in dir(grefine_rt)


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(grefine_rt, "Refinery")
