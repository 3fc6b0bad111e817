"""Engines of the models of the real sizes, for GPUs that are not here: seconds, peak memory, size, fused attention.

    python -m benchmarks.full_size inpaint restore --out GRAPHS
    python -m benchmarks.engine_full_size inpaint_step restore_step --graphs GRAPHS --out ENGINES --json engines.json

Takes the graphs that `benchmarks.full_size` made, with profiles as a bundle of these resolutions would have. Each is
built in a process of its own; what is built and valid is kept. Prints a Markdown table. Needs about 17 GB of memory for
SDXL's step, and no GPU; refuses when there is less.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from grefine_rt.bundle.manifest import FileEntry, Manifest, TokenizerSpec
from grefine_rt.bundle.store import find_bundle, read_manifest
from grefine_rt.cli.output import progress
from grefine_rt.engine.tensorrt.build import EngineBuilder
from grefine_rt.engine.tensorrt.sidecar import Environment, Sidecar
from grefine_rt.errors import GRefineError
from grefine_rt.files import sha256

LENGTH, MULTIPLE = 77, 64
COLUMNS = (
    "component",
    "weights (GB)",
    "engine (GB)",
    "precision",
    "profiles",
    "fused attention",
    "build (s)",
)
COLUMNS += ("memory of the build (GiB)", "activations at the largest sizes (GiB)")


def manifest_of(graphs: Path, components: Sequence[str], resolutions: Mapping[str, int]) -> Manifest:
    """The embedded bundle's manifest with these components, each the file `graphs/COMPONENT.onnx`, in its place."""
    mini = read_manifest(find_bundle("mini"))
    inpaint, restore = mini.stages
    paths = [path for name in components for path in sorted(graphs.glob(f"{name}.onnx*"))]
    spec = TokenizerSpec("", "ids", LENGTH)
    return dataclasses.replace(
        mini,
        inpaint=dataclasses.replace(inpaint, resolution=resolutions["inpaint"], multiple=MULTIPLE),
        restore=dataclasses.replace(restore, resolution=resolutions["restore"], multiple=MULTIPLE),
        tokenizers={"inpaint_text": (spec,), "restore_text": (spec,)},
        components={name: f"{name}.onnx" for name in components},
        files={path.name: FileEntry(path.stat().st_size, sha256(path)) for path in paths},
    )


def build(graphs: Path, manifest: Manifest, component: str, targets: tuple[str, ...], out: Path) -> Sidecar:
    """The engine of a component in the folder `out`: the one that is there, or a new one. Raises GRefineError."""
    builder, graph = EngineBuilder(targets), manifest.components[component]
    engine = builder.engine_path(out, graph)
    if kept := builder.fits(engine, manifest, Environment.here(manifest.name)):
        return kept
    with progress({component: component}) as on_step:
        return builder.build(
            graphs, manifest, graph, engine, lambda done: on_step(component, int(1000 * done), 1000)
        )


def markdown(manifest: Manifest, built: Mapping[str, Sidecar]) -> str:
    """The figures as a table."""
    lines = [" | ".join(COLUMNS), " | ".join("---" for _ in COLUMNS)]
    for component, made in built.items():
        stored = sum(manifest.files[path].size for path in manifest.files_of(component))
        fused, softmaxes = made.attention
        cells = [component, f"{stored / 1e9:.2f}", f"{made.engine.size / 1e9:.2f}", made.precision]
        cells += [str(len(made.profiles)), f"{fused} of {softmaxes}", f"{made.seconds:.0f}"]
        cells += ["-" if made.memory is None else f"{made.memory / 2**30:.1f}"]
        lines.append(" | ".join([*cells, ", ".join(f"{size / 2**30:.2f}" for size in made.activations)]))
    return "\n".join(f"| {line} |" for line in lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns its exit status: 0 done, 1 a clear error."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("components", nargs="+", metavar="COMPONENT", help="such as inpaint_step")
    parser.add_argument("--graphs", type=Path, required=True, help="the folder that full_size wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder for the engines")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--target", default="sm89", help="targets, with commas between")
    parser.add_argument("--inpaint", type=int, default=1024, help="native resolution of stage 1")
    parser.add_argument("--restore", type=int, default=1024, help="native resolution of stage 2")
    options = parser.parse_args(arguments)
    for component in options.components:
        if not (options.graphs / f"{component}.onnx").is_file():
            parser.error(
                f"'{options.graphs}' has no {component}.onnx: make it with benchmarks.full_size first"
            )
    resolutions = {"inpaint": options.inpaint, "restore": options.restore}
    manifest = manifest_of(options.graphs, options.components, resolutions)
    built: dict[str, Sidecar] = {}
    work = (tuple(options.target.split(",")), options.out)
    try:
        for component in manifest.components:
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                built[component] = pool.submit(build, options.graphs, manifest, component, *work).result()
    except GRefineError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    except BrokenProcessPool:
        print(
            f"Error: {component}: the process was killed, most likely for want of memory: close other programs",
            file=sys.stderr,
        )
        return 1
    finally:
        if options.json:
            records: list[dict[str, Any]] = [dataclasses.asdict(made) for made in built.values()]
            options.json.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
        if built:
            print(markdown(manifest, built))
    return 0


if __name__ == "__main__":
    sys.exit(main())
