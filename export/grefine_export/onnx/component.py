"""One component of a bundle from a torch module: traced in the wanted precision, compared, and marked as finished.

The mark is a file beside the graph, NAME.onnx.json. It tells the sources of the graph, so that a run that was
broken off goes on where it stopped.
"""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from grefine_export.choices import Operators, Precision, Weights
from grefine_export.onnx.convert import export
from grefine_export.onnx.cuda_operators import on_cpu
from grefine_export.onnx.parity import BOUNDS, compare, results
from grefine_rt.bundle.manifest import FILE_NAME, Manifest

REVISION = 2
"""Rises with every change of the making of graphs: older ones are then made again."""


def number_bytes(precision: Precision) -> int:
    """Bytes of a number while a graph computes."""
    return 2 if precision == "fp16" else 4


@dataclass(frozen=True)
class Job:
    """One export. module: float32, ready to run; with inputs and outputs that stay float32 (or int64) when
    it is cast to half. inputs: to trace it with. check: to compare it with, other sizes of free axes. outputs, axes: as
    for `onnx.convert.export`. finish: the work on the graph that was found equal, before it counts as finished.
    operators: see `choices.Operators`; the module's attention must be `FusedAttention` if they are ONNX Runtime's.
    """

    module: nn.Module
    inputs: Mapping[str, Tensor]
    check: Mapping[str, Tensor]
    outputs: Sequence[str]
    axes: Mapping[str, Mapping[int, str]]
    finish: Callable[[Path], object] = lambda _path: None
    operators: Operators = "portable"


def export_component(
    file: Path,
    build: Callable[[], Job],
    precision: Precision,
    made_from: Mapping[str, Any],
    say: Callable[[str], None],
) -> float:
    """Write the graph `file`, unless it is there and has the same sources; return its largest relative error against
    the float32 module.

    build: loads the module; its memory is given back before the graph is run, so `build` must keep no reference.
    made_from: everything that decides the result, as JSON. Raises the errors of `export` and `compare`.
    """
    key = hashlib.sha256(json.dumps([REVISION, precision, made_from], sort_keys=True).encode()).hexdigest()
    mark = file.with_name(f"{file.name}.json")
    name = file.stem
    if (error := _finished(file, mark, key)) is not None:
        say(f"{name}: done before")
        return error
    say(f"{name}: loading")
    for part in file.parent.glob(f"{file.name}*"):
        part.unlink()
    expected, job = _export(file, build(), precision, say)
    gc.collect()  # tracing leaves cycles behind, which hold the weights
    with on_cpu(file) as runnable:
        errors = compare(expected, runnable, job.check, BOUNDS["fp32" if precision == "fp32" else "fp16"])
    job.finish(file)
    sizes = {part.name: part.stat().st_size for part in sorted(file.parent.glob(f"{file.name}*"))}
    mark.write_text(json.dumps({"key": key, "error": max(errors.values()), "sizes": sizes}), encoding="utf-8")
    say(f"{name}: relative error {max(errors.values()):.1e}, {sum(sizes.values()) / 2**20:.0f} MiB")
    return max(errors.values())


def identity(files: Iterable[Path]) -> list[tuple[str, int, int]]:
    """Name, size and time of each file: enough to see that a checkpoint is another one."""
    return [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]


def read_manifest(bundle: Path) -> dict[str, Any]:
    """The manifest of the folder `bundle`, to which a part is added. FileNotFoundError where there is none."""
    file = bundle / FILE_NAME
    if not file.is_file():
        raise FileNotFoundError(
            f"there is no bundle in '{bundle}': make one with 'grefine-export clip' first"
        )
    return dataclasses.asdict(Manifest.from_json(file.read_text(encoding="utf-8")))


def check_manifest(manifest: Mapping[str, Any]) -> None:
    """Raises BundleError for anything wrong in `manifest` but its files, before hours of work."""
    specs = [spec for specs in manifest["tokenizers"].values() for spec in specs]
    made = {*manifest["components"].values(), *(spec["file"] for spec in specs)}
    files = {**manifest["files"], **{key: {"size": 0, "sha256": "0" * 64} for key in made}}
    Manifest.from_json(json.dumps({**manifest, "files": files}))


def _export(
    file: Path, job: Job, precision: Precision, say: Callable[[str], None]
) -> tuple[list[Tensor], Job]:
    """The results of the module of `job`, and `job` without the module."""
    # The reference comes first: half precision takes the place of single, and a CPU must not run it.
    expected = results(job.module, job.check)
    module = job.module.half() if precision == "fp16" else job.module
    say(f"{file.stem}: tracing")
    stored: Weights = "fp16" if precision == "fp16-storage" else "fp32"
    export(module, job.inputs, job.outputs, job.axes, file, weights=stored, operators=job.operators)
    return expected, replace(job, module=nn.Identity())


def _finished(file: Path, mark: Path, key: str) -> float | None:
    """The error of a graph that was made from `key` and is whole, else None."""
    try:
        done = json.loads(mark.read_text(encoding="utf-8"))
        whole = all((file.parent / name).stat().st_size == size for name, size in done["sizes"].items())
        return float(done["error"]) if whole and done["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
