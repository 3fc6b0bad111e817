"""`grefine-rt bench`: times of everything here, and their comparison with another run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from grefine_rt.cli import options as shared
from grefine_rt.cli.output import console, print_json, say_notes, status


def bench(
    bundle: shared.Bundle = "mini",
    device: shared.Device = "auto",
    threads: shared.Threads = None,
    cuda_graphs: shared.CudaGraphs = False,
    resolution: Annotated[
        int | None,
        typer.Option(help="Side of the picture in pixels. Default: the bundle's own.", show_default=False),
    ] = None,
    runs: Annotated[int, typer.Option(help="Runs of each, after one that warms up.")] = 20,
    cold: Annotated[bool, typer.Option(help="Also time a fresh process from its start.")] = True,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            metavar="A.json B.json", help="Measure nothing, compare two results.", show_default=False
        ),
    ] = None,
    as_json: shared.Json = False,
) -> None:
    """Time the cold start, loading, every component and the whole refine call: median and 95th percentile."""
    status("Starting")
    from grefine_rt import bench as measuring

    if compare is not None:
        first, second = (_read(path) for path in compare)
        _show_comparison(first, second, as_json)
        return
    from grefine_rt import Refiner
    from grefine_rt.cli.output import say

    result = measuring.measure(
        Refiner.load(bundle, device, threads, cuda_graphs),
        resolution,
        runs,
        lambda name: say(f"timing {name}"),
    )
    result["threads"], result["cuda_graphs"] = threads, cuda_graphs
    if cold:
        say("timing the cold start")
        result["cold_start"] = measuring.cold_start(
            bundle, device, threads, result["resolution"], cuda_graphs
        )
    if as_json:
        print_json(result)
    else:
        _show(result)


def _read(path: Path) -> dict[str, Any]:
    from grefine_rt.errors import OptionError

    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(result, dict) and {"components", "refine", "load", "parts"} <= result.keys():
            return result
    except (OSError, ValueError):
        pass
    raise OptionError(f"'{path}' is no result of 'grefine-rt bench --json'.")


def _show(result: Mapping[str, Any]) -> None:
    from rich.table import Table

    out = console()
    machine = result["machine"]
    out.print(
        f"{result['bundle']['name']} {result['bundle']['version']}, {result['device']}, "
        f"{result['resolution']} x {result['resolution']} pixels",
        style="bold",
    )
    clock = f" at {machine['mhz']:.0f} MHz" if machine.get("mhz") else ""
    out.print(
        f"{machine['cores']} cores of {machine['processor']}{clock}",
        *machine["gpus"],
        sep="; ",
        soft_wrap=True,
    )
    out.print(", ".join(f"{name} {version}" for name, version in machine["versions"].items()), soft_wrap=True)
    table = Table("", "load ms", "first ms", "median ms", "p95 ms", box=None)
    for name, row in (*result["components"].items(), ("refine", result["refine"])):
        load = result["load"].get(name)
        cells = [row["first"], row["median"], row["p95"]]
        table.add_row(name, "" if load is None else f"{load:.1f}", *(f"{value:.2f}" for value in cells))
    for name, value in result["parts"].items():
        table.add_row(f"  {name}", "", "", f"{value:.2f}", "")
    out.print(table)
    out.print(f"images per minute: {result['images_per_minute']:.1f}")
    out.print(f"outside of engine runs: {100 * result['outside_engines']:.1f} % of refine")
    for name, value in result["memory"].items():
        if value is not None:
            out.print(f"{name.replace('_mb', '').replace('_', ' ')} memory: {value:.0f} MB")
    if "cold_start" in result:
        cold = result["cold_start"]
        peak = cold["host_peak_mb"]
        out.print(
            f"cold start: first assessment after {cold['assess_s']:.2f} s, first refined picture after "
            f"{cold['refine_s']:.2f} s" + ("" if peak is None else f", peak {peak:.0f} MB"),
            soft_wrap=True,
        )


def _show_comparison(first: Mapping[str, Any], second: Mapping[str, Any], as_json: bool) -> None:
    from grefine_rt.bench import rows, setup

    setups = setup(first), setup(second)
    pairs = {name: [found.get(name, "none") for found in setups] for name in setups[0] | setups[1]}
    say_notes(tuple(f"{name} differs: A has {a}, B has {b}" for name, (a, b) in pairs.items() if a != b))
    before, after = rows(first), rows(second)
    both = {name: (before[name], after[name]) for name in before if name in after}
    if as_json:
        print_json({name: {"a": a, "b": b, "ratio": b / a if a else None} for name, (a, b) in both.items()})
        return
    from rich.table import Table

    table = Table("", "A", "B", "B / A", box=None)
    for name, (a, b) in both.items():
        table.add_row(name, f"{a:.2f}", f"{b:.2f}", f"{b / a:.2f}" if a else "")
    console().print(table)
