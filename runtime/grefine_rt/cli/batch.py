"""`grefine-rt batch`: refine or assess many pictures, and go on where a run stopped."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grefine_rt.cli import options as shared
from grefine_rt.cli.method import takes
from grefine_rt.cli.output import FAILED, cancelled_by_ctrl_c, console, print_json, say, status
from grefine_rt.errors import OptionError
from grefine_rt.plan.options import RefineOptions

if TYPE_CHECKING:
    from grefine_rt.batch.runner import Tally
    from grefine_rt.batch.sources import SourceRows


_Input = Annotated[
    Path,
    typer.Argument(
        metavar="INPUT",
        help="A folder of pictures or of .tar shards, one .tar shard, or a .csv, .jsonl or .parquet table.",
        show_default=False,
    ),
]
_Outdir = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="OUTDIR",
        help="Folder of the results and records; one that was begun is gone on with.",
        show_default=False,
    ),
]
_AssessOnly = Annotated[bool, typer.Option("--assess-only", help="Scores alone; nothing is refined.")]
_DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Assess only, write nothing, and say what refining all would take."),
]
_Page = Annotated[
    bool, typer.Option("--report", help="Write OUTDIR/report.html, one page over the whole run.")
]
_Retry = Annotated[bool, typer.Option("--retry-failed", help="Do rows anew that failed in a former run.")]
_Jobs = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Pictures that are worked on at a time. Default: 2 on the CPU, 1 on a GPU, whose memory it takes.",
        show_default=False,
    ),
]
_Together = Annotated[
    int,
    typer.Option(
        "--batch",
        min=1,
        help="With --assess-only and --dry-run: pictures in one run of a graph. Above 1 it is faster, and scores may "
        "differ by rounding from those of a picture alone.",
    ),
]


@takes(RefineOptions)
def batch(
    source: _Input,
    output: _Outdir = None,
    assess_only: _AssessOnly = False,
    dry_run: _DryRun = False,
    report: _Page = False,
    retry_failed: _Retry = False,
    seed: shared.Seed = 0,
    form: shared.Format = None,
    quality: shared.Quality = None,
    provenance: shared.Provenance = "keep",
    jobs: _Jobs = None,
    together: _Together = 1,
    bundle: shared.Bundle = "mini",
    device: shared.Device = "auto",
    threads: shared.Threads = None,
    as_json: shared.Json = False,
    *,
    options: RefineOptions,
) -> None:
    """Refine many pictures, or assess them; a second run goes on where the first one stopped.

    Every picture appears whole or not at all, and has one record in OUTDIR/records. Pictures that cannot be done are
    records with a sentence; then the exit code is 1.

    Example: grefine-rt batch pictures/ -o refined/ --report
    """
    status(f"Reading {source}")
    from grefine_rt.assessor import Assessor
    from grefine_rt.batch.runner import worker
    from grefine_rt.batch.settings import BatchOptions, Mode
    from grefine_rt.batch.sources import SourceRows
    from grefine_rt.imaging.encode import Encoding

    if output is None and not dry_run:
        raise OptionError("Give a folder for the results: -o OUTDIR.")
    rows = SourceRows(source, without=output)
    mode: Mode = "assess" if assess_only or dry_run else "refine"
    settings = BatchOptions(
        mode, options, seed, Encoding(form, quality, provenance), together if mode == "assess" else 1
    )
    with Assessor.load(bundle, device, threads) as loaded:
        manifest = loaded.bundle.manifest
        if not manifest.refines and (dry_run or not assess_only):
            raise OptionError(f"Bundle '{manifest.name}' only assesses: add --assess-only.")
        assessor = worker(loaded)
        if jobs is None:
            jobs = 2 if loaded.bundle.engine("perceptual").device == "cpu" else 1
        if dry_run:
            _foresee(assessor, rows, settings, jobs, output, as_json)
            return
        assert output is not None
        tally = _run(assessor, rows, settings, jobs, output, retry_failed, report)
    _tell(tally, output, as_json)


def _tell(tally: "Tally", output: Path, as_json: bool) -> None:
    """What became of the rows; exit code 1 where some failed."""
    rows = tally.new + tally.former
    if as_json:
        counts = {"rows": rows, "done_before": tally.former, "failed": tally.failed}
        print_json({**counts, "records": str(output / "records")})
    else:
        words = f", {tally.former} of them by a former run" if tally.former else ""
        console().print(f"{rows} rows{words}; written: {output}", soft_wrap=True)
    if tally.failed:
        say(f"error: {tally.failed} of {rows} rows failed: their records say why")
        raise typer.Exit(FAILED)


def _run(
    assessor: Any,
    rows: "SourceRows",
    settings: Any,
    jobs: int,
    output: Path,
    retry_failed: bool,
    report: bool,
) -> "Tally":
    from grefine_rt.batch import records as kept
    from grefine_rt.batch.report import render
    from grefine_rt.batch.runner import run_batch, to_repeat
    from grefine_rt.cancel import CancelToken
    from grefine_rt.files import write_whole

    token = CancelToken()
    with (
        kept.opened(output, settings.run_of(assessor.bundle.manifest)) as records,
        cancelled_by_ctrl_c(token),
    ):
        records.forget(to_repeat(records, output, retry_failed))
        with _progress(rows) as on_row:
            tally = run_batch(assessor, rows, records, output, settings, jobs, token, lambda _: on_row())
        if not records.complete():
            say("note: pyarrow is not installed, so the records are in JSONL alone.")
        if report:
            base = rows.input if rows.input.is_dir() else rows.input.parent
            write_whole(output / "report.html", render(records, output, base).encode("utf-8"))
    return tally


def _foresee(
    assessor: Any, rows: "SourceRows", settings: Any, jobs: int, output: Path | None, as_json: bool
) -> None:
    """Assess all and say what refining them would take."""
    from dataclasses import asdict

    from grefine_rt.batch.estimate import Needs
    from grefine_rt.batch.records import read
    from grefine_rt.batch.runner import run_rows
    from grefine_rt.cancel import CancelToken

    needs, token = Needs(), CancelToken()
    with cancelled_by_ctrl_c(token), _progress(rows) as on_row:
        for record in run_rows(assessor, rows, settings, jobs=jobs, cancel=token):
            if not isinstance(record, str):
                needs.add(record, settings.options.outside == "refuse")
            on_row()
    seconds = needs.seconds(read(output) if output else ())
    if as_json:
        said = {name: value for name, value in asdict(needs).items() if not name.startswith("_")}
        print_json({**said, "seconds": seconds})
    else:
        out = console()
        out.print(
            f"stage 1 alone: {needs.stage1}, stage 2 alone: {needs.stage2}, both: {needs.both}, ", end=""
        )
        out.print(f"nothing: {needs.nothing}, cannot be done: {needs.failed}")
        if needs.tflop is not None:
            time = "" if seconds is None else f", about {_duration(seconds)} one at a time"
            out.print(f"at most {needs.tflop:.4g} TFLOP{time}")
    if needs.failed:
        raise typer.Exit(FAILED)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


@contextmanager
def _progress(rows: "SourceRows") -> Iterator[Callable[[], None]]:
    """Rows done, rate and time left on standard error; nothing unless a terminal."""
    import sys

    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), transient=True, speed_estimate_period=120) as bars:
        task = bars.add_task("rows", total=rows.count(), rate="")

        def on_row() -> None:
            bars.advance(task)
            speed = bars.tasks[task].speed
            bars.update(task, rate=f"{speed:.2f}/s" if speed else "")

        yield on_row
