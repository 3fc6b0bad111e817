"""Builds the stub CUDA libraries with the system's C compiler, for the onnxruntime-gpu that is installed somewhere.

The C sources define what gives something back; every other symbol that ONNX Runtime's CUDA provider asks for is
generated from its own symbol table, so that a new release needs no new list.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROVIDER = "onnxruntime/capi/libonnxruntime_providers_cuda.so"

LIBRARIES = {
    "libcudart.so.13": "runtime.c",
    "libcublas.so.13": "blas.c",
    "libcublasLt.so.13": "blas.c",
    "libcurand.so.10": "blas.c",
    "libcudnn.so.9": "dnn.c",
    "libcuda.so.1": "driver.c",
    "libnvidia-ml.so.1": "nvml.c",
}
"""The file name of each library and its source."""

_PREFIXES = {"libcublas.so.13": "cublas", "libcublasLt.so.13": "cublasLt", "libcudnn.so.9": "cudnn"}
"""Libraries with generated symbols, and how these begin."""
_QUIET = re.compile(r"(Create|Destroy|Set|Get|Derive|Backend(?!Execute)|Algo)")
"""Calls that compute nothing."""


def build(packages: Path, folder: Path) -> Path:
    """Write the libraries into `folder`; returns it. packages: the site-packages that onnxruntime-gpu is in.

    Raises CalledProcessError, its message printed, where the compiler fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _compile(folder / "libstubcuda.so", [HERE / "state.c"])
    asked = symbols(packages / PROVIDER)
    for library, source in LIBRARIES.items():
        prefix = _PREFIXES.get(library)
        sources = [HERE / source]
        if prefix is not None:
            own = {name for name in asked if re.match(rf"{prefix}[A-Z](?!t[A-Z])", name)}
            generated = folder / f"{prefix}_generated.c"
            generated.write_text(generated_source(own - defined(HERE / source)))
            sources.append(generated)
        script = folder / f"{library}.map"
        script.write_text(f"{library} {{ global: *; }};\n")
        # cuDNN, the driver and NVML are looked up by plain names.
        versioned = [f"-Wl,--version-script={script}"] if library.endswith(".13") else []
        _compile(folder / library, sources, [f"-Wl,-soname,{library}", *versioned, "-lstubcuda"])
    return folder


def symbols(provider: Path) -> set[str]:
    """Names of CUDA's libraries that a provider links against, and of cuDNN's that it looks up by name."""
    listed = subprocess.run(
        ["nm", "-D", "--undefined-only", str(provider)], check=True, capture_output=True, text=True
    )
    linked = {line.split()[-1].partition("@")[0] for line in listed.stdout.splitlines()}
    looked_up = {name.decode() for name in re.findall(rb"\0(cudnn[A-Z]\w+)(?=\0)", provider.read_bytes())}
    return linked | looked_up


def defined(source: Path) -> set[str]:
    """The functions that a C source defines."""
    return set(re.findall(r"^[\w ]+\*{0,2}\b(cu\w+)\(", source.read_text(), re.MULTILINE))


def generated_source(names: set[str]) -> str:
    """C for functions that succeed; those that compute are a kernel on the stream of the handle they get first."""
    lines = ['#include "state.h"']
    for name in sorted(names):
        if re.match(r"cudnnCreate|cublas(Lt)?Create", name):
            body = f"static char made[4096]; int {name}(void **out) {{ return *out = made, SUCCESS; }}"
            lines.append(body.replace("made", f"made_{name}"))
        elif _QUIET.search(name):
            lines.append(f"int {name}(void) {{ return SUCCESS; }}")
        else:
            lines.append(f"int {name}(Handle *handle) {{ return stub_kernel(handle->stream); }}")
    return "\n".join(lines) + "\n"


def _compile(target: Path, sources: list[Path], options: list[str] | None = None) -> None:
    command = ["cc", "-std=gnu11", "-O1", "-fPIC", "-shared", f"-I{HERE}", "-o", str(target)]
    command += [
        *map(str, sources),
        f"-L{target.parent}",
        "-Wl,-rpath,$ORIGIN",
        *(options or []),
        "-lpthread",
        "-ldl",
    ]
    subprocess.run(command, check=True)
