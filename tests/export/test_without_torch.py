"""`grefine-export` where the packages of its extra are missing."""

import subprocess
import sys

import pytest

from tests.support.paths import ROOT
from tests.support.processes import ENVIRONMENT

PROGRAM = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "diffusers", "transformers", "onnx", "safetensors"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
from grefine_export.cli import main
main()
"""


@pytest.mark.parametrize("arguments", [["mini", "--smoke"], ["--help"]])
def test_one_sentence_names_the_extra(arguments, tmp_path):
    environment = {**ENVIRONMENT, "PYTHONPATH": f"{ENVIRONMENT['PYTHONPATH']}:{ROOT / 'export'}"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    if arguments == ["--help"]:
        assert done.returncode == 0
    else:
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert "the package 'torch', which is not installed: run 'pip install .[export]'" in done.stderr
