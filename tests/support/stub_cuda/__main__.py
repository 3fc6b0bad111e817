"""Run the tests marked `stub_cuda`: `python -m tests.support.stub_cuda [--folder FOLDER] [PYTEST ARGUMENTS]`.

FOLDER (default: the system's temporary folder) keeps between runs: small exports, a virtual environment with the real
onnxruntime-gpu (a wheel of 256 MB), and the stub libraries. Exports need the `export` extra in the calling Python.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterable
from pathlib import Path

from tests.support.stub_cuda.build import build

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = (
    "onnxruntime-gpu==1.31.1",
    "cuda-core==1.2.2",
    "cuda-bindings==13.5.0",
    "numpy>=2.0",
    "onnx==1.23.2",
    "pillow>=11.0",
    "pytest>=8.3",
    "pytest-xdist>=3.6",
    "rich>=13.9",
    "tokenizers>=0.21",
    "typer>=0.19",
    "hypothesis>=6.120",
)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.support.stub_cuda")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "grefine-stub-cuda")
    options, rest = parser.parse_known_args(arguments)
    folder = options.folder.resolve()
    python = environment(folder / "venv")
    libraries = build(next((folder / "venv").glob("lib/python*/site-packages")), folder / "libraries")
    exported = exports(folder / "exports")
    inside = {
        **os.environ,
        "LD_LIBRARY_PATH": str(libraries),
        "STUB_CUDA_FOLDER": str(folder),
        "STUB_CUDA_EXPORTS": str(exported),
        "PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in ("runtime", "export", ".")),
        "ORT_DISABLE_TELEMETRY": "1",
    }
    command = [str(python), "-m", "pytest", "-o", "addopts=-q", "-m", "stub_cuda", "tests/stub_cuda", *rest]
    return subprocess.run(command, cwd=ROOT, env=inside).returncode


def environment(folder: Path) -> Path:
    """The Python of a virtual environment with `PACKAGES`, made when they changed."""
    python, mark = folder / "bin" / "python", folder / "packages.txt"
    wanted = "\n".join(PACKAGES)
    if not mark.is_file() or mark.read_text() != wanted:
        venv.create(folder, with_pip=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
        mark.write_text(wanted)
    return python


def exports(folder: Path) -> Path:
    """The small exports, written when the sources of the exporter or of the small models changed."""
    mark = folder / "sources.txt"
    sources = [*(ROOT / "export").rglob("*.py"), *(ROOT / "tests/support").glob("tiny_*.py")]
    wanted = _digest([*sources, Path(__file__).with_name("exports.py")])
    if not mark.is_file() or mark.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        inside = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(str(ROOT / p) for p in ("runtime", "export", ".")),
        }
        command = [sys.executable, "-m", "tests.support.stub_cuda.exports", str(folder)]
        subprocess.run(command, cwd=ROOT, env=inside, check=True)
        mark.write_text(wanted)
    return folder


def _digest(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(file.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
