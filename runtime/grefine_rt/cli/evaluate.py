"""`grefine-rt evaluate`: the agreement of a bundle's scores with people, on a published database."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grefine_rt.assess.options import AssessOptions
from grefine_rt.cli import options as shared
from grefine_rt.cli.method import takes
from grefine_rt.cli.output import console, print_json, progress, say_notes, status
from grefine_rt.evaluation.names import Dataset, Split

if TYPE_CHECKING:
    from rich.table import Table

    from grefine_rt.bundle.manifest import Manifest
    from grefine_rt.evaluation.evaluate import Agreement, Scored
    from grefine_rt.evaluation.published import Published

_MOST_ERRORS = 5
"""Pictures without scores that are named; the CSV and the JSON have them all."""

_Dataset = Annotated[Dataset, typer.Option(help="The database.", show_default=False)]
_Root = Annotated[
    Path,
    typer.Option(metavar="DIR", help="The folder it was unpacked into.", show_default=False),
]
_Split = Annotated[
    Split | None,
    typer.Option(help="One part of aigiqa-20k. Default: all that is there.", show_default=False),
]
_Csv = Annotated[
    Path | None,
    typer.Option(
        metavar="OUT.csv",
        help="Write every score, row by row; run again with the same file to go on.",
        show_default=False,
    ),
]
_Limit = Annotated[
    int | None,
    typer.Option(min=1, help="Assess only so many, spread evenly. Default: all.", show_default=False),
]
_Batch = Annotated[int, typer.Option(min=1, help="Pictures in one run of an encoder.")]


@takes(AssessOptions)
def evaluate(
    dataset: _Dataset,
    root: _Root,
    split: _Split = None,
    bundle: shared.Bundle = "mini",
    device: shared.Device = "auto",
    threads: shared.Threads = None,
    csv: _Csv = None,
    limit: _Limit = None,
    batch: _Batch = 8,
    as_json: shared.Json = False,
    *,
    options: AssessOptions,
) -> None:
    """Score a published database of rated pictures and compare with the opinions, beside the papers' figures."""
    status(f"Reading {root}")
    from grefine_rt.assessor import Assessor
    from grefine_rt.evaluation import evaluate as evaluation
    from grefine_rt.evaluation.databases import read
    from grefine_rt.evaluation.published import published
    from grefine_rt.files import check_writable

    if csv is not None:
        check_writable(csv)
    rated = read(dataset, root, split)
    items = evaluation.thin_out(rated, limit)
    with Assessor.load(bundle, device, threads) as assessor, progress({"evaluate": "evaluating"}) as on_step:
        manifest = assessor.bundle.manifest
        scored = evaluation.score_all(
            assessor,
            items,
            options,
            table=csv,
            batch=batch,
            on_progress=lambda done, total: on_step("evaluate", done, total),
        )
    found, papers = evaluation.agreements(scored), published(dataset)
    failed = [row for row in scored if row.error]
    if as_json:
        print_json(_json(dataset, split, manifest, len(rated), scored, failed, found, papers))
        return
    say_notes(_failures(failed))
    console().print(
        f"{dataset}: {len(scored) - len(failed)} of {len(rated)} pictures assessed with the bundle "
        f"{manifest.name} {manifest.version}"
    )
    _show(found, papers)
    if csv is not None:
        console().print(f"written: {csv}", soft_wrap=True)


def _json(
    dataset: Dataset,
    split: Split | None,
    manifest: Manifest,
    pictures: int,
    scored: Sequence[Scored],
    failed: Sequence[Scored],
    found: Sequence[Agreement],
    papers: Sequence[Published],
) -> dict[str, Any]:
    from dataclasses import asdict

    from grefine_rt.evaluation.published import remarks

    return {
        "dataset": dataset,
        "split": split,
        "bundle": f"{manifest.name} {manifest.version}",
        "pictures": pictures,
        "assessed": len(scored) - len(failed),
        "failed": [{"picture": row.picture, "error": row.error} for row in failed],
        "agreement": [asdict(row) for row in found],
        "published": [asdict(row) for row in papers],
        "remarks": remarks(papers),
    }


def _show(found: Sequence[Agreement], papers: Sequence[Published]) -> None:
    from grefine_rt.evaluation.published import remarks

    out = console()
    for opinion in dict.fromkeys(row.opinion for row in found):
        out.print(_side_by_side(opinion, found, papers))
    out.print("fitted: PLCC after the four-parameter logistic")
    for remark in remarks(papers):
        out.print(remark)


def _failures(failed: Sequence[Scored]) -> tuple[str, ...]:
    named = tuple(f"{row.picture} was left out: {row.error}" for row in failed[:_MOST_ERRORS])
    more = len(failed) - len(named)
    return (*named, f"{more} more pictures were left out, too.") if more else named


def _side_by_side(opinion: str, found: Sequence[Agreement], papers: Sequence[Published]) -> Table:
    """Our scores against one opinion, and below them every method that the papers compare with it."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=f"Agreement with the opinions on {opinion}")
    table.add_column("method", overflow="fold")
    for name in ("SRCC", "PLCC", "fitted", "KRCC", "source"):
        table.add_column(name, justify="right", no_wrap=True)
    for ours in (row for row in found if row.opinion == opinion):
        numbers = (ours.srcc, ours.plcc, ours.plcc_fitted, ours.krcc)
        papers_name = next((f" ({row.method})" for row in papers if row.score == ours.score), "")
        table.add_row(ours.score.replace("_", " ") + papers_name, *map(_number, numbers), "this run")
    table.add_section()
    for row in (row for row in papers if row.opinion == opinion):
        table.add_row(row.method, *map(_number, (row.srcc, row.plcc, None, row.krcc)), row.table)
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
