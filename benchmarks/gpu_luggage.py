"""What a GPU machine without a network lacks for `benchmarks.gpu_session`, packed into one file of at most 64 MiB.

    pip install zstandard
    python -m benchmarks.skeletons make skeletons
    python -m benchmarks.gpu_luggage pack --skeletons skeletons --out luggage [--capability 90] [--python 3.12]
    python -m benchmarks.gpu_luggage unpack luggage FOLDER

In it are the real onnxruntime-gpu, diffusers, cuda.core and the skeletons. The kernels of other GPUs in ONNX Runtime's
CUDA provider, and those that only language models use, are zeros (`strip`); what is left of 284 MB compresses to
a tenth. Wheels come from pip's index, or lie in `--wheels` already.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.skeletons import MADE
from grefine_rt.engine.onnxruntime import kernels

NAME = "luggage.tar.xz"
MOST = 64 << 20
"""Bytes that travel to the machine in a call: the tracked files and what is carried beside them."""
PACKAGES = ("onnxruntime-gpu==1.31.1", "diffusers==0.42.1", "cuda-core==1.2.2", "cuda-bindings==13.5.0")
"""As in `constraints.txt` and `tests.support.stub_cuda`; the machine has the rest."""
PLATFORMS = ("2_28", "2_27", "2_24", "2_17")

LEFT_OUT = re.compile(
    r"^onnxruntime/(transformers|quantization|tools|datasets|backend)/"
    r"|^onnxruntime/ThirdPartyNotices"
    r"|^onnxruntime/capi/(libonnxruntime\.so|libonnxruntime_providers_tensorrt)"
    r"|\.(pyx|pxd|cpp|h|hpp)$|^[^/]+\.dist-info/(RECORD|licenses/)"
)
"""Files of the wheels that no part of the session loads."""
UNUSED = re.compile(
    r"MoeFCGemm|[mM]oe_|doGatedActivation|fpA_intB|GroupProblemShape|MixedInput|masked_multihead"
    r"|bfloat16|BFloat16|__nv_fp[48]|e2m1|e4m3"
    r"|flash_fwd_splitkv\w*traitsILi(?!64E)"
)
"""Kernels of language models, by mangled name: mixtures of experts, quantised weights, bfloat16, split attention but
for heads of 64 channels."""

_SIZE, _CAPABILITY, _FLAGS = 0x10, 0x1C, 0x28
"""Where an entry's header holds the bytes of a compressed payload, the compute capability, and how it is compressed."""
_LZ4, _ZSTD = 0x2000, 0x8000
_ELSEWHERE = 75
_FUNCTION = re.compile(rb"\.text\.([\w$.]+)\0")


def strip(library: bytearray, capability: int, unused: re.Pattern[str] = UNUSED) -> tuple[int, int]:
    """Zero the kernels in a library, in place, that a GPU of `capability`, such as 90, does not run, and those of
    source files all of whose kernels are `unused`. Returns the bytes of kernels that stay and those that are gone.

    A source file whose kernels for this GPU are gone is one for other GPUs, as many are: CUDA then says that there is
    no kernel image, and nothing reads the zeros.
    """
    stay = gone = 0
    for entry in kernels.entries(library):
        ours = entry.kind == kernels.MACHINE_CODE and entry.capability == capability
        names = kernel_names(library, entry) if ours else set()
        if ours and not (names and all(map(unused.search, names))):
            stay += entry.payload
            continue
        if ours:
            struct.pack_into("<I", library, entry.at + _CAPABILITY, _ELSEWHERE)
        start = entry.at + entry.header
        library[start : start + entry.payload] = bytes(entry.payload)
        gone += entry.payload
    return stay, gone


def kernel_names(library: bytearray, entry: kernels.Entry) -> set[str]:
    """The mangled names of an entry's functions; none where they cannot be read."""
    (size,) = struct.unpack_from("<I", library, entry.at + _SIZE)
    (flags,) = struct.unpack_from("<Q", library, entry.at + _FLAGS)
    start = entry.at + entry.header
    code = bytes(library[start : start + entry.payload])
    if flags & _LZ4:
        return set()
    if flags & _ZSTD:
        import zstandard

        code = zstandard.ZstdDecompressor().decompressobj().decompress(code[:size])
    return {name.decode() for name in _FUNCTION.findall(code)}


def site(wheel: Path, capability: int) -> Iterator[tuple[str, bytes]]:
    """The files of a wheel that are taken along, by their place in site-packages."""
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(archive.namelist()):
            if name.endswith("/") or LEFT_OUT.search(name):
                continue
            content = archive.read(name)
            if name == f"onnxruntime/{kernels.PROVIDER}":
                library = bytearray(content)
                stay, gone = strip(library, capability)
                print(f"{name}: kernels of {stay / 1e6:.1f} MB stay, {gone / 1e6:.1f} MB are zeros")
                content = bytes(library)
            yield name, content


def pack(wheels: Sequence[Path], skeletons: Path, out: Path, capability: int, preset: int = 6) -> Path:
    """Write `out/luggage.tar.xz`: site/, skeletons/ and luggage.json, the same bytes for the same files.

    Raises ValueError, and leaves no file, where it is larger than `MOST`, or there is no skeleton.
    """
    graphs = sorted(skeletons.glob("*.onnx"))
    if not graphs:
        raise ValueError(f"there is no skeleton in '{skeletons}': run 'python -m benchmarks.skeletons make'")
    out.mkdir(parents=True, exist_ok=True)
    target = out / NAME
    told = {"wheels": [wheel.name for wheel in wheels], "capability": capability}
    with tarfile.open(target, "w:xz", preset=preset) as archive:
        for name, content in (
            (name, content) for wheel in wheels for name, content in site(wheel, capability)
        ):
            _add(archive, f"site/{name}", content)
        for graph in graphs:
            _add(archive, f"skeletons/{graph.name}", graph.read_bytes())
        _add(archive, f"skeletons/{MADE}", (skeletons / MADE).read_bytes())
        _add(archive, "luggage.json", json.dumps(told, indent=1).encode())
    if (size := target.stat().st_size) > MOST:
        target.unlink()
        raise ValueError(f"the luggage has {size / 2**20:.1f} MiB, more than {MOST >> 20}: take less along")
    return target


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), 0o755 if ".so" in name else 0o644
    archive.addfile(info, io.BytesIO(content))


def unpack(luggage: Path, folder: Path) -> Path:
    """The luggage of a folder in `folder`, with site/ and skeletons/; a folder that has these is returned as it is."""
    if (luggage / "luggage.json").is_file():
        return luggage
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(luggage / NAME) as archive:
        archive.extractall(folder, filter="data")
    return folder


def download(folder: Path, python: str) -> list[Path]:
    """The wheels of `PACKAGES` for a Python on Linux x86-64, fetched into `folder` unless they are there."""
    found = []
    for package in PACKAGES:
        name, _, version = package.partition("==")
        tag = f"cp{python.replace('.', '')}"
        pattern = f"{name.replace('-', '_')}-{version}-*"
        there = [file for file in folder.glob(pattern) if f"-{tag}-" in file.name or "-py3-" in file.name]
        if not there:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
            command += ["--only-binary=:all:", "--implementation", "cp", "--python-version", python]
            command += [f"--platform=manylinux_{platform}_x86_64" for platform in PLATFORMS]
            subprocess.run([*command, package], check=True)
            there = sorted(folder.glob(pattern), key=lambda file: file.stat().st_mtime)
        found.append(there[-1])
    return found


def tree_size() -> int:
    """Bytes of the tracked files that are there."""
    listed = subprocess.run(["git", "ls-files", "-z"], check=True, capture_output=True, text=True)
    files = [Path(name) for name in listed.stdout.split("\0") if name]
    return sum(file.stat().st_size for file in files if file.is_file())


def told(luggage: int, tree: int) -> str:
    """How the luggage of so many bytes gets there beside a tree of so many."""
    sizes = f"luggage {luggage / 2**20:.1f} MiB, tracked files {tree / 2**20:.1f} MiB"
    if luggage + tree <= MOST:
        return f"{sizes}: one call takes both"
    return f"{sizes}: more than the {MOST >> 20} MiB of a call, so two calls (docs/gpu_session.md)"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns its exit status: 0 done, 1 a clear error."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="make the luggage")
    packing.add_argument("--out", type=Path, required=True, help="folder for luggage.tar.xz")
    packing.add_argument("--skeletons", type=Path, required=True, help="of `benchmarks.skeletons make`")
    packing.add_argument("--wheels", type=Path, default=Path("wheels"), help="folder that keeps the wheels")
    packing.add_argument("--capability", type=int, default=90, help="of the GPU, 90 for an H200")
    packing.add_argument("--python", default="3.12", help="of the machine")
    packing.add_argument("--preset", type=int, default=6, help="of xz, 0 to 9")
    unpacking = commands.add_parser("unpack", help="lay the luggage down")
    unpacking.add_argument("luggage", type=Path)
    unpacking.add_argument("folder", type=Path)
    given = parser.parse_args(arguments)
    try:
        if given.command == "unpack":
            print(unpack(given.luggage, given.folder))
            return 0
        given.wheels.mkdir(parents=True, exist_ok=True)
        wheels = download(given.wheels, given.python)
        target = pack(wheels, given.skeletons, given.out, given.capability, given.preset)
        print(told(target.stat().st_size, tree_size()))
    except ModuleNotFoundError as error:
        print(f"Error: the package '{error.name}' is not installed: run 'pip install {error.name}'.")
        return 1
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
