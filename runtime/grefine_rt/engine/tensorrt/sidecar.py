"""The sidecar of a built engine: what it was built from, for which GPUs, and whether it is valid here."""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np

from grefine_rt.bundle.manifest import FileEntry, Manifest
from grefine_rt.bundle.store import mend
from grefine_rt.bundle.strict import read_strictly
from grefine_rt.engine import nvidia
from grefine_rt.engine.base import TensorSpec
from grefine_rt.engine.devices import Flavour as Flavour
from grefine_rt.engine.tensorrt.profiles import profiles, restricted
from grefine_rt.errors import HERE, BundleError, DeviceError
from grefine_rt.files import cache_dir, proven

FORMAT = 2
Precision = Literal["fp16", "mixed", "fp32"]

_DISTRIBUTIONS = {
    "tensorrt-rtx": ("tensorrt_rtx",),
    "tensorrt": ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"),
}
RTX_TARGETS = ("sm75", "sm80", "sm86", "sm89", "sm120", "sm121")
"""The GPUs that TensorRT for RTX builds engines for, as of 1.7."""
INSTALL = {
    "tensorrt-rtx": f"run 'pip install .[tensorrt]' {HERE}",
    "tensorrt": "install the Python package of NVIDIA's TensorRT",
}
"""How a flavour is installed."""

_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT64": "int64",
    "INT32": "int32",
    "UINT8": "uint8",
    "BOOL": "bool",
}
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*


@dataclass(frozen=True)
class Tensor:
    """An input or output of an engine.

    dtype: as numpy names it. shape: fixed sizes as numbers, free axes by name, "?" where the builder knows none.
    """

    name: str
    dtype: str
    shape: tuple[str, ...]

    @property
    def spec(self) -> TensorSpec:
        shape = tuple(int(axis) if axis.isdecimal() else axis for axis in self.shape)
        return TensorSpec(self.name, np.dtype(self.dtype), shape)


@dataclass(frozen=True)
class Sidecar:
    """The content of `NAME.json` beside `NAME.engine`.

    graph: its file in the bundle. inputs, outputs: its tensors, in the graph's order. sources: SHA-256 of that file
    and of its external data, by path. flavour, version: the TensorRT that built it; no other version of TensorRT for
    RTX can load it. targets: as "sm89", ascending. profiles: by axis name, smallest, best and largest size, in the
    engine's order. precision: of its matrix products and convolutions; storage: of the weights in the ONNX file.
    attention: fused attention kernels a profile, of so many softmaxes in the graph. activations: bytes of device
    memory beside the weights, at each profile's largest sizes. options: what the builder was told. seconds, memory: of
    the build, and the bytes of host memory that it took at its peak beside what the process held before, where that is
    known.
    """

    format: int
    graph: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    sources: Mapping[str, str]
    flavour: Flavour
    version: str
    targets: tuple[str, ...]
    profiles: tuple[Mapping[str, tuple[int, ...]], ...]
    precision: Precision
    storage: Precision
    attention: tuple[int, ...]
    activations: tuple[int, ...]
    options: Mapping[str, str]
    seconds: float
    memory: int | None
    engine: FileEntry

    @classmethod
    def from_json(cls, text: str) -> Sidecar:
        """Raises BundleError for anything that is no sidecar of this format."""
        try:
            data = json.loads(text)
        except ValueError:
            data = None
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise BundleError(
                f"The text is no sidecar of format {FORMAT}: run 'grefine-rt engine build' again."
            )
        return read_strictly(cls, data, "")

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"

    @property
    def streams(self) -> bool:
        """Whether the engine can keep part of its weights in host memory."""
        return "WEIGHT_STREAMING" in self.options.get("flags", "").split()


@dataclass(frozen=True)
class Environment:
    """The machine as engines depend on it: versions of the TensorRT flavours installed, and the GPU as "sm89",
    None without one. bundle, out: how the user names the bundle and the folder given by --out, for the commands in
    messages."""

    bundle: str
    versions: Mapping[str, str]
    gpu: str | None
    out: Path | None = None

    @classmethod
    def here(cls, bundle: str, index: int = 0, out: Path | None = None) -> Environment:
        """The environment of this machine and its GPU number `index`; nothing of TensorRT is loaded for it."""
        versions: dict[str, str] = {}
        for flavour, distributions in _DISTRIBUTIONS.items():
            for distribution in distributions:
                with suppress(PackageNotFoundError):
                    versions.setdefault(flavour, version(distribution))
        return cls(bundle, versions, gpu_target(index), out)


@dataclass(frozen=True)
class Found:
    """An engine at hand; `problem` says in one sentence why it cannot be used here, None when it can."""

    engine: Path
    sidecar: Sidecar | None
    problem: str | None


def tensors(graph: str, parsed: list[Any]) -> tuple[Tensor, ...]:
    """Inputs or outputs of a parsed network; outputs have lost the names of their axes. Raises BundleError."""
    found = []
    for tensor in parsed:
        if tensor.dtype.name not in _DTYPES:
            raise BundleError(
                f"'{graph}' has a tensor '{tensor.name}' of the unsupported kind {tensor.dtype.name}: export it again "
                f"with this version's 'grefine-export'."
            )
        shape = (
            (tensor.get_dimension_name(axis) or "?") if size < 0 else str(size)
            for axis, size in enumerate(tensor.shape)
        )
        found.append(Tensor(tensor.name, _DTYPES[tensor.dtype.name], tuple(shape)))
    return tuple(found)


def library(flavour: Flavour) -> Any:
    """The module of a flavour, imported on first use; DeviceError says how to install it when it is not there."""
    try:
        if flavour == "tensorrt-rtx":
            import tensorrt_rtx as trt
        else:
            import tensorrt as trt
    except ImportError as error:
        raise DeviceError(f"{flavour} is not installed: {INSTALL[flavour]}.") from error
    return trt


def validity(sidecar: Sidecar, manifest: Manifest, environment: Environment) -> str | None:
    """Why the engine cannot be used here, in one sentence with the command that mends it; None when it can.

    Decided from the sidecar alone: nothing of the engine is read. Without a GPU the targets are not judged.
    """
    who = f"Engine '{PurePosixPath(sidecar.graph).stem}' for {', '.join(sidecar.targets)}"
    names = [name for name, file in manifest.components.items() if file == sidecar.graph]
    if not names:
        return (
            f"{who} was built from '{sidecar.graph}', which the bundle does not have: delete it, and see the bundle's "
            f"components with 'grefine-rt bundle show {environment.bundle}'."
        )
    sources = {path: manifest.files[path].sha256 for path in manifest.files_of(names[0])}
    changed = sorted(
        path
        for path in sources.keys() | sidecar.sources.keys()
        if sources.get(path) != sidecar.sources.get(path)
    )
    axes = {axis for profile in sidecar.profiles for axis in profile}
    installed = environment.versions.get(sidecar.flavour)
    wanted, flavour = sidecar.targets, sidecar.flavour
    if changed:
        problem = f"was built from another '{changed[0]}' than the bundle has now"
    elif restricted(profiles(manifest, sidecar.graph), axes) != sidecar.profiles:
        problem = "was built for other picture sizes or text lengths than are wanted now"
    elif installed is None:
        return (
            f"{who} needs {sidecar.flavour} {sidecar.version}, which is not installed: "
            f"{INSTALL[sidecar.flavour]}."
        )
    elif sidecar.version != installed:
        problem = f"was built by {sidecar.flavour} {sidecar.version}, but {installed} is installed"
    elif environment.gpu is not None and environment.gpu not in sidecar.targets:
        problem = f"does not fit the GPU here, which is {environment.gpu}"
        wanted = (environment.gpu,)
        if flavour == "tensorrt-rtx" and environment.gpu not in RTX_TARGETS:
            problem += f", and {flavour} builds none for it"
            flavour = "tensorrt"
    else:
        return None
    command = build_command(environment, names[0], wanted, flavour, sidecar.streams)
    return f"{who} {problem}: run '{command}'."


def build_command(
    environment: Environment, component: str, targets: Sequence[str], flavour: Flavour, streams: bool
) -> str:
    """The command that builds a component's engine so."""
    command = (
        f"grefine-rt engine build {environment.bundle} --target {','.join(targets)} --component {component}"
    )
    command += "" if flavour == "tensorrt-rtx" else f" --flavour {flavour}"
    command += " --weight-streaming" if streams else ""
    return command + (f" --out {shlex.quote(str(environment.out))}" if environment.out else "")


def release(version: str) -> tuple[int, ...]:
    """The first three numbers of a version, such as (10, 13, 2)."""
    return tuple(int(part) for part in version.split(".")[:3])


def homes(folder: Path, manifest: Manifest) -> tuple[Path, Path]:
    """The folders of a bundle's engines: in itself, and in the cache for a bundle that cannot be written."""
    key = f"{manifest.name.replace('/', '--')}-{manifest.version}"
    return folder / "engines", cache_dir() / "engines" / key


def engine_path(home: Path, graph: str, flavour: Flavour, targets: tuple[str, ...]) -> Path:
    """The path of a graph's engine in a home; its sidecar has the same name with .json."""
    folder = "+".join(targets) + ("" if flavour == "tensorrt-rtx" else f"-{flavour}")
    return home / folder / f"{PurePosixPath(graph).stem}.engine"


def read(engine: Path) -> Sidecar:
    """The sidecar of an engine; BundleError when it is missing or no sidecar, or the engine has another size."""
    path = engine.with_suffix(".json")
    try:
        sidecar = Sidecar.from_json(path.read_text(encoding="utf-8"))
        size = engine.stat().st_size
    except (OSError, UnicodeDecodeError, BundleError) as error:
        raise BundleError(
            f"'{path}' is missing or no sidecar that this version reads: delete '{engine.name}' beside it, and run "
            f"'grefine-rt engine build' again."
        ) from error
    if size != sidecar.engine.size:
        raise BundleError(
            f"'{engine}' has {size} bytes instead of {sidecar.engine.size}: delete it, and run 'grefine-rt engine "
            f"build' again."
        )
    return sidecar


def check_engine(engine: Path, manifest: Manifest, environment: Environment) -> Found:
    """One engine, judged by its sidecar and size."""
    try:
        sidecar = read(engine)
    except BundleError as error:
        return Found(engine, None, str(error))
    return Found(engine, sidecar, validity(sidecar, manifest, environment))


def engines(
    folder: Path, manifest: Manifest, environment: Environment, places: Sequence[Path] | None = None
) -> Iterator[Found]:
    """All engines of a bundle in `places`, by default in itself first, then in the cache."""
    for home in homes(folder, manifest) if places is None else places:
        for engine in sorted(home.glob("*/*.engine")):
            yield check_engine(engine, manifest, environment)


def proved(found: Found, folder: Path) -> Found:
    """`found`, whose graph's files in the bundle's folder were also compared with the SHA-256 that it was built from.

    `check_engine` takes the manifest's word for them. Files that are not there say nothing: an engine needs none.
    """
    if found.problem is not None or found.sidecar is None:
        return found
    who = f"Engine '{found.engine.stem}'"
    for path, built in found.sidecar.sources.items():
        try:
            changed = (folder / path).is_file() and not proven(folder / path, built)
        except OSError as error:
            problem = f"{who} was built from '{folder / path}', which cannot be read ({error.strerror}): see who may."
            return replace(found, problem=problem)
        if changed:
            problem = (
                f"{who} was built from another '{path}' than lies in '{folder}', which is not what bundle.json says: "
                f"{mend(folder)}."
            )
            return replace(found, problem=problem)
    return found


def gpu_target(index: int = 0) -> str | None:
    """A GPU of this machine as a target such as "sm89"; None when there is no such GPU or no driver."""
    nvidia.number_by_place()
    try:
        cuda = ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return None
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    if cuda.cuInit(0) != 0 or cuda.cuDeviceGet(ctypes.byref(device), index) != 0:
        return None
    for number, attribute in ((major, _MAJOR), (minor, _MINOR)):
        cuda.cuDeviceGetAttribute(ctypes.byref(number), attribute, device)
    return f"sm{major.value}{minor.value}"
