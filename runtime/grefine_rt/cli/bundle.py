"""`grefine-rt bundle`: the bundles here, their contents, needs and wholeness; fetching others."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from grefine_rt.cli import options as shared
from grefine_rt.cli.output import console, one_line_failures, print_json, progress, status

if TYPE_CHECKING:
    from grefine_rt.bundle.manifest import Manifest

app = typer.Typer(help="List, show, verify and fetch bundles of models.", no_args_is_help=True)

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="A name of 'bundle list', or a folder.", show_default=False)
]


@app.command("list")
@one_line_failures
def list_(as_json: shared.Json = False) -> None:
    """List the bundles at hand."""
    from rich import box
    from rich.table import Table

    from grefine_rt.bundle.store import list_bundles, read_manifest
    from grefine_rt.errors import GRefineError

    rows: list[dict[str, object]] = []
    for name, folder in list_bundles().items():
        row: dict[str, object] = {"name": name, "folder": str(folder)}
        try:
            manifest = read_manifest(folder)
            row |= {"version": manifest.version, "size": _size(manifest), "description": manifest.description}
        except GRefineError as error:
            row |= {"version": None, "size": None, "description": f"cannot be used: {error}"}
        rows.append(row)
    if as_json:
        print_json({"bundles": rows})
        return
    if not rows:
        console().print("No bundle is here: fetch one with 'grefine-rt bundle fetch'.")
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("name", "version", "size", "description"):
        table.add_column(title, overflow="fold")
    for row in rows:
        size = f"{row['size'] / 1e6:.1f} MB" if isinstance(row["size"], int) else "-"
        table.add_row(str(row["name"]), str(row["version"] or "-"), size, str(row["description"]))
    console().print(table)


@app.command()
@one_line_failures
def show(name: Name = "mini", as_json: shared.Json = False) -> None:
    """Show what a bundle holds: constants, components, origin and licence of its weights."""
    from grefine_rt.bundle.store import find_bundle, read_manifest

    folder = find_bundle(name)
    manifest = read_manifest(folder)
    if as_json:
        print_json({"folder": str(folder), **json.loads(manifest.to_json())})
        return
    out = console()
    out.print(f"{manifest.name} {manifest.version} ({_size(manifest) / 1e6:.1f} MB)", style="bold")
    out.print(manifest.description, soft_wrap=True)
    out.print(f"folder: {folder}", soft_wrap=True)
    sections: dict[str, Mapping[str, object]] = {}
    for section in ("perceptual", "alignment", "plan", "inpaint", "restore"):
        if (settings := getattr(manifest, section)) is not None:
            sections[section] = asdict(settings)
    sections |= {name: metric.settings for name, metric in manifest.scorers.items()}
    for section, values in sections.items():
        out.print(f"\n{section}", style="bold")
        for key, value in values.items():
            out.print(f"  {key}: {value}", soft_wrap=True)
    out.print("\ncomponents", style="bold")
    for component, path in manifest.components.items():
        size = sum(manifest.files[part].size for part in manifest.files_of(component))
        out.print(f"  {component}: {path} ({size / 1e6:.2f} MB)", soft_wrap=True)
    out.print("\nweights", style="bold")
    for weight in manifest.weights:
        out.print(f"  {weight.component}: {weight.origin} ({weight.license})", soft_wrap=True)


@app.command()
@one_line_failures
def memory(
    name: Name = "mini",
    device: Annotated[
        Literal["cpu", "cuda"], typer.Option(help="A CPU keeps weights in single precision.")
    ] = "cpu",
    as_json: shared.Json = False,
) -> None:
    """Predict what each component takes when stage 1 works at each resolution bucket; nothing is loaded."""
    from rich.table import Table

    from grefine_rt.bundle.store import find_bundle, read_manifest
    from grefine_rt.engine.tensorrt.profiles import buckets
    from grefine_rt.errors import BundleError
    from grefine_rt.plan import graph_costs as costs
    from grefine_rt.system_memory import usable_memory

    manifest = read_manifest(find_bundle(name))
    plans: dict[int, Sequence[costs.ComponentMemory]] = {}
    for side in buckets(manifest.stages[0]):
        size, restore_size = costs.sizes_at(manifest, side)
        plan = costs.memory_plan(manifest, size, device, restore_size)
        if plan is None:
            raise BundleError(
                f"Bundle '{manifest.name}' says nothing of its costs: make it again with 'grefine-export bundle'."
            )
        plans[side] = plan
    free = usable_memory() if device == "cpu" else None
    fitting = None if free is None else costs.largest_fitting(manifest, free)
    if as_json:
        print_json(
            {
                "device": device,
                "buckets": {side: [asdict(entry) for entry in plan] for side, plan in plans.items()},
                "total": {side: costs.needed(plan) for side, plan in plans.items()},
                "free": free,
                "largest": fitting,
            }
        )
        return
    table = Table("MB", "weights", *(f"at {side}" for side in plans), box=None)
    for rows in zip(*plans.values(), strict=True):
        cells = (rows[0].weights, *(row.activations for row in rows))
        table.add_row(", ".join(rows[0].components), *(f"{value / 1e6:.0f}" for value in cells))
    table.add_row("all", "", *(f"{costs.needed(plan) / 1e6:.0f}" for plan in plans.values()))
    out = console()
    out.print(table)
    if free is not None:
        largest = f"{fitting[0]} x {fitting[1]}" if fitting else "none"
        out.print(f"free here: {free / 1e6:.0f} MB; largest square of stage 1 that fits: {largest}")


@app.command()
@one_line_failures
def verify(name: Name = "mini", as_json: shared.Json = False) -> None:
    """Prove that every file of a bundle is there and unchanged, and that no other is."""
    status(f"Proving the files of {name}")
    from grefine_rt.bundle import store

    folder = store.find_bundle(name)
    manifest = store.verify(folder)
    if as_json:
        print_json(
            {"name": manifest.name, "folder": str(folder), "files": len(manifest.files), "whole": True}
        )
        return
    console().print(
        f"{manifest.name} {manifest.version} is whole: all {len(manifest.files)} files have their size and "
        "SHA-256.",
        soft_wrap=True,
    )


@app.command()
@one_line_failures
def fetch(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="The https address of a folder with a bundle.json, or a hub id owner/name.",
            show_default=False,
        ),
    ],
    as_json: shared.Json = False,
) -> None:
    """Fetch a bundle into the cache. Every file is proven; a broken transfer goes on where it stopped."""
    from grefine_rt.bundle.fetch import fetch as fetch_bundle

    with progress({"fetch": "Fetching"}) as on_step:
        folder, manifest = fetch_bundle(source, lambda done, total: on_step("fetch", done, total))
    if as_json:
        print_json(
            {"name": manifest.name, "folder": str(folder), "files": len(manifest.files), "whole": True}
        )
        return
    console().print(
        f"{manifest.name} {manifest.version} is here and whole ({_size(manifest) / 1e6:.1f} MB): use it with "
        f"--bundle {folder.name.replace('--', '/')}",
        soft_wrap=True,
    )


def _size(manifest: "Manifest") -> int:
    return sum(entry.size for entry in manifest.files.values())
