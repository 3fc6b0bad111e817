"""`grefine-rt engine`: builds TensorRT engines of a bundle, and says which are here and valid."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grefine_rt.cli import options as shared
from grefine_rt.cli.output import (
    cancelled_by_ctrl_c,
    console,
    one_line_failures,
    print_json,
    progress,
    say_notes,
    status,
)
from grefine_rt.engine.devices import Flavour

if TYPE_CHECKING:
    from grefine_rt.bundle.manifest import Manifest
    from grefine_rt.engine.tensorrt.callbacks import OnProgress
    from grefine_rt.engine.tensorrt.sidecar import Found, Sidecar
    from grefine_rt.errors import BundleError, DeviceError

app = typer.Typer(help="Build and list TensorRT engines of a bundle.", no_args_is_help=True)

_BUNDLE_HELP = "A name of 'bundle list', or a folder."


_Bundle = Annotated[str, typer.Argument(metavar="BUNDLE", help=_BUNDLE_HELP, show_default=False)]
_Target = Annotated[
    str | None,
    typer.Option(
        metavar="SM[,SM]",
        help="GPUs that the engines are for: sm75, sm80, sm86 (RTX 30), sm89 (RTX 40), sm120 (RTX 50), or several "
        "with commas between. Default: the GPU of this machine.",
        show_default=False,
    ),
]
_Component = Annotated[
    list[str] | None,
    typer.Option(help="Build this component alone, may be repeated. Default: all.", show_default=False),
]
_Out = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Where the engines go. Default: engines/ in the bundle, or the cache where that cannot be written.",
        show_default=False,
    ),
]
_Flavour = Annotated[
    Flavour,
    typer.Option(help="tensorrt-rtx builds without a GPU, tensorrt (classic) on the machine that runs it."),
]
_WeightStreaming = Annotated[
    bool, typer.Option(help="Let weights stay in host memory at run time, for GPUs of little memory.")
]


@app.command()
@one_line_failures
def build(
    bundle: _Bundle,
    target: _Target = None,
    component: _Component = None,
    out: _Out = None,
    flavour: _Flavour = "tensorrt-rtx",
    weight_streaming: _WeightStreaming = False,
    as_json: shared.Json = False,
) -> None:
    """Build every component of a bundle, one after the other; what is built and valid is kept, and what cannot be built
    does not keep the others from it.

    Needs no GPU, only the extra [tensorrt].
    """
    status(f"Reading {bundle}")
    from grefine_rt.bundle.store import find_bundle, read_manifest
    from grefine_rt.cancel import CancelToken
    from grefine_rt.engine.tensorrt.build import EngineBuilder
    from grefine_rt.engine.tensorrt.sidecar import Environment, homes
    from grefine_rt.errors import BundleError, Cancelled, DeviceError

    folder = find_bundle(bundle)
    manifest = read_manifest(folder)
    graphs = _graphs(manifest, component)
    environment = Environment.here(bundle)
    builder = EngineBuilder(_targets(target, environment.gpu), flavour, weight_streaming)
    places = (out,) if out else homes(folder, manifest)
    home = next((place for place in places if _writable(place)), places[-1])
    token = CancelToken()
    rows: list[dict[str, Any]] = []
    failed: dict[str, BundleError | DeviceError] = {}

    def build_one(graph: str, report: "OnProgress") -> dict[str, Any]:
        for place in places:
            engine = builder.engine_path(place, graph)
            if kept := builder.fits(engine, manifest, environment):
                return _row(engine, kept, built=False)
        engine = builder.engine_path(home, graph)
        return _row(engine, builder.build(folder, manifest, graph, engine, report, token), built=True)

    with progress(graphs) as on_step, cancelled_by_ctrl_c(token):
        for graph in graphs:
            if token.cancelled:
                raise Cancelled("The build was cancelled.")
            on_step(graph, 0, 1)
            try:
                rows.append(build_one(graph, partial(_thousandths, on_step, graph)))
            except (BundleError, DeviceError) as error:
                failed[graph] = error
                if len(graphs) > 1:
                    say_notes((str(error),))
    if as_json:
        problems = [{"graph": graph, "problem": str(error)} for graph, error in failed.items()]
        print_json({"bundle": manifest.name, "folder": str(folder), "engines": rows, "failed": problems})
    else:
        _show_built(rows)
    if failed:
        raise _failure([*failed.values()], len(graphs))


def _thousandths(on_step: "Callable[[str, int, int], None]", graph: str, done: float) -> None:
    on_step(graph, int(1000 * done), 1000)


def _failure(errors: "list[BundleError | DeviceError]", graphs: int) -> "BundleError | DeviceError":
    """The only graph's own error, or one that counts the errors that the notes told."""
    from grefine_rt.errors import BundleError, DeviceError

    if graphs == 1:
        return errors[0]
    kind = BundleError if all(isinstance(error, BundleError) for error in errors) else DeviceError
    return kind(f"{len(errors)} of {graphs} engines could not be built: the notes above say why.")


def _show_built(rows: "list[dict[str, Any]]") -> None:
    for row in rows:
        how = f"built in {row['seconds']:.1f} s" if row["built"] else "is here already"
        console().print(
            f"{Path(row['path']).stem} for {', '.join(row['targets'])} {how}: {row['engine']['size'] / 1e6:.1f} MB, "
            f"{_precision(row)}, {row['path']}",
            soft_wrap=True,
        )


@app.command("list")
@one_line_failures
def list_(
    bundle: Annotated[
        str | None,
        typer.Argument(metavar="BUNDLE", help=f"{_BUNDLE_HELP} Default: all.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Look at what 'engine build --out FOLDER' made of this bundle instead.",
            show_default=False,
        ),
    ] = None,
    as_json: shared.Json = False,
) -> None:
    """List the engines of a bundle, or of all, and say of each whether it can be used here and what mends it."""
    from grefine_rt.bundle.store import find_bundle, list_bundles, read_manifest
    from grefine_rt.engine.tensorrt.sidecar import Environment, engines, proved
    from grefine_rt.errors import GRefineError, OptionError

    if out is not None and bundle is None:
        raise OptionError("With --out the bundle that the engines were built from is needed: name it.")
    if out is not None and not out.is_dir():
        raise OptionError(f"No folder '{out}' exists: give the one that 'engine build --out' was given.")
    rows: list[dict[str, Any]] = []
    for name, folder in ({bundle: find_bundle(bundle)} if bundle else list_bundles()).items():
        try:
            manifest = read_manifest(folder)
        except GRefineError as error:
            if bundle:
                raise
            say_notes((str(error),))
            continue
        here = Environment.here(name, out=out)
        rows += [
            {"bundle": name, **_found(proved(found, folder))}
            for found in engines(folder, manifest, here, None if out is None else (out,))
        ]
    environment = Environment.here("")
    if as_json:
        print_json({"gpu": environment.gpu, "versions": dict(environment.versions), "engines": rows})
        return
    screen = console()
    gpu = environment.gpu or "none, so engines are judged without one"
    screen.print(f"GPU here: {gpu}", soft_wrap=True)
    if not rows:
        screen.print("No engine is here: build some with 'grefine-rt engine build'.", soft_wrap=True)
    for row in rows:
        screen.print(f"{row['bundle']}: {row['path']}", style="bold", soft_wrap=True)
        if row["graph"]:
            screen.print(
                f"  {row['flavour']} {row['version']}, {', '.join(row['targets'])}, {_precision(row)}, "
                f"{row['engine']['size'] / 1e6:.1f} MB",
                soft_wrap=True,
            )
        screen.print(f"  {row['problem'] or 'valid'}", soft_wrap=True)


def _graphs(manifest: "Manifest", wanted: list[str] | None) -> dict[str, str]:
    """The graph files of the wanted components, each once, with the name of the first component that has it."""
    from grefine_rt.errors import OptionError

    graphs: dict[str, str] = {}
    for component in wanted or manifest.components:
        if component not in manifest.components:
            raise OptionError(
                f"Bundle '{manifest.name}' has no component '{component}': choose from "
                f"{', '.join(manifest.components)}."
            )
        graphs.setdefault(manifest.components[component], component)
    return graphs


def _targets(given: str | None, gpu: str | None) -> tuple[str, ...]:
    from grefine_rt.errors import OptionError

    if given is None and gpu is None:
        raise OptionError(
            "No GPU is here to build for: name the one that will run the engines, such as --target sm89 for RTX 40."
        )
    return tuple(part.strip().lower() for part in (given or gpu or "").split(",") if part.strip())


def _writable(folder: Path) -> bool:
    """Whether the folder can be written, or made."""
    import os

    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return there.is_dir() and os.access(there, os.W_OK)


def _row(engine: Path, sidecar: "Sidecar", built: bool) -> dict[str, Any]:
    import dataclasses

    return {"path": str(engine), "built": built, **dataclasses.asdict(sidecar)}


def _found(found: "Found") -> dict[str, Any]:
    import dataclasses

    facts = dataclasses.asdict(found.sidecar) if found.sidecar else {"graph": None}
    return {"path": str(found.engine), "valid": found.problem is None, "problem": found.problem, **facts}


def _precision(row: dict[str, Any]) -> str:
    stored = "" if row["storage"] == row["precision"] else f" (stored as {row['storage']})"
    return f"{row['precision']}{stored}"
