"""`grefine-rt batch`: refine or assess many pictures, and go on where a run stopped."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from grefine_rt.cli import options as shared
from grefine_rt.cli.method import takes
from grefine_rt.cli.output import FAILED, cancelled_by_ctrl_c, console, print_json, say, status
from grefine_rt.errors import OptionError
from grefine_rt.plan.options import RefineOptions

if TYPE_CHECKING:
    from grefine_rt.assessor import Assessor
    from grefine_rt.batch.records import Record, Records
    from grefine_rt.batch.runner import Tally
    from grefine_rt.batch.sources import SourceRows
    from grefine_rt.batch.store import Location
    from grefine_rt.cancel import CancelToken


_Input = Annotated[
    str,
    typer.Argument(
        metavar="INPUT",
        help="A folder of pictures or of .tar shards, one .tar shard, or a .csv, .jsonl or .parquet table; also in an "
        "object store, such as s3://bucket/folder.",
        show_default=False,
    ),
]
_Outdir = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="OUTDIR",
        help="Folder of the results and records, also in an object store; one that was begun is gone on with.",
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
        help="Pictures that are worked on at a time. Default: as many as --threads leaves cores for; 1 on a GPU, whose "
        "memory each takes.",
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
_Engine = Annotated[
    Literal["local", "ray"],
    typer.Option(help="ray: over the GPUs or cores of a Ray cluster; needs the extra [ray]."),
]
_Address = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="With --engine ray: the cluster's head, or auto. Default: $RAY_ADDRESS, else this machine alone.",
        show_default=False,
    ),
]
_Actors = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="With --engine ray: actors, each with one GPU or --threads cores (1 by default). Default: as many as fit.",
        show_default=False,
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
    engine: _Engine = "local",
    address: _Address = None,
    actors: _Actors = None,
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
    from grefine_rt.batch.runner import run_batch
    from grefine_rt.batch.settings import BatchOptions, Mode
    from grefine_rt.batch.sources import SourceRows
    from grefine_rt.batch.store import location
    from grefine_rt.imaging.encode import Encoding

    _check(output, dry_run, jobs, engine, address, actors)
    outdir = None if output is None else location(output)
    rows = SourceRows(location(source), without=outdir)
    mode: Mode = "assess" if assess_only or dry_run else "refine"
    encoding = Encoding(form, quality, provenance)
    settings = BatchOptions(mode, options, seed, encoding, together if mode == "assess" else 1)
    if engine == "ray" and outdir is not None:
        cluster = Cluster(bundle, device, threads or 1, address, actors)
        _tell(_run_on_ray(cluster, rows, settings, outdir, retry_failed, report), outdir, as_json)
        return
    with _worker(bundle, device, threads, jobs, dry_run or not assess_only) as (assessor, pictures):
        if dry_run or outdir is None:
            _foresee(assessor, rows, settings, pictures, outdir, as_json)
            return
        manifest = assessor.bundle.manifest
        with _records(manifest, rows, settings, outdir, retry_failed, report) as (records, token, on_row):
            tally = run_batch(assessor, rows, records, outdir, settings, pictures, token, on_row)
    _tell(tally, outdir, as_json)


@contextmanager
def _worker(
    bundle: str, device: str, threads: int | None, jobs: int | None, refines: bool
) -> "Iterator[tuple[Assessor, int]]":
    """The worker on the rows on this machine's device, and the number of pictures it has at a time."""
    from grefine_rt.assessor import Assessor
    from grefine_rt.batch.runner import worker
    from grefine_rt.batch.settings import side_by_side
    from grefine_rt.bundle.store import find_bundle, read_manifest
    from grefine_rt.engine.devices import cores

    threads, pictures = side_by_side(read_manifest(find_bundle(bundle)), cores(), threads, jobs)
    with Assessor.load(bundle, device, threads) as loaded:
        manifest = loaded.bundle.manifest
        if refines and not manifest.refines:
            raise OptionError(f"Bundle '{manifest.name}' only assesses: add --assess-only.")
        on_cpu = loaded.bundle.engine("perceptual").device == "cpu"
        yield worker(loaded), jobs or (pictures if on_cpu else 1)


def _check(
    output: str | None,
    dry_run: bool,
    jobs: int | None,
    engine: str,
    address: str | None,
    actors: int | None,
) -> None:
    """Raises OptionError for options that do not go together."""
    if output is None and not dry_run:
        raise OptionError("Give a folder for the results: -o OUTDIR.")
    if engine == "ray" and (dry_run or jobs not in (None, 1)):
        raise OptionError("--engine ray goes with neither --dry-run nor --jobs.")
    if engine != "ray" and (address or actors):
        raise OptionError("--address and --actors need --engine ray.")


def _tell(tally: "Tally", output: "Location", as_json: bool) -> None:
    """Tell the numbers of rows; exit code 1 if some failed."""
    rows = tally.new + tally.former
    if as_json:
        counts = {"rows": rows, "done_before": tally.former, "failed": tally.failed}
        print_json({**counts, "records": str(output / "records")})
    else:
        words = f", {tally.former} of them by a former run" if tally.former else ""
        console().print(f"{rows} rows{words}; written: {output}", soft_wrap=True)
    for record in tally.failures:
        say(f"error: {record['image']}: {record['error']}")
    if tally.failed:
        say(f"error: {tally.failed} of {rows} rows failed: their records say why")
        raise typer.Exit(FAILED)


@dataclass(frozen=True)
class Cluster:
    """The options of the command for a run on Ray."""

    bundle: str
    device: str
    threads: int
    address: str | None
    actors: int | None


def _run_on_ray(
    cluster: Cluster, rows: "SourceRows", settings: Any, output: "Location", retry_failed: bool, report: bool
) -> "Tally":
    from grefine_rt.batch.cluster import Loading, connected, get_ready, pool_for, ray_module
    from grefine_rt.batch.spread import Spread, spread_batch
    from grefine_rt.batch.store import StorePath
    from grefine_rt.bundle.store import find_bundle, read_manifest

    ray_module()
    if not isinstance(rows.input, StorePath):
        rows = replace(rows, input=rows.input.absolute())
    manifest = read_manifest(find_bundle(cluster.bundle))
    if settings.mode == "refine":
        manifest.check_refines()
    # Other processes have other working folders.
    bundle = str(Path(cluster.bundle).absolute()) if Path(cluster.bundle).is_dir() else cluster.bundle

    first = [True]  # later there may be fewer nodes

    @contextmanager
    def connect() -> Iterator[tuple[Any, Spread]]:
        with connected(cluster.address) as ray:
            pool, device = pool_for(ray, cluster.device, cluster.actors, cluster.threads, first == [True])
            first[0] = False
            load = Loading(bundle, device, cluster.threads)
            get_ready(ray, load, pool, manifest.checksum)
            yield ray, Spread(load, settings, pool, output if isinstance(output, StorePath) else None)

    with _records(manifest, rows, settings, output, retry_failed, report) as (records, token, on_row):
        return spread_batch(connect, rows, records, output, token, on_row)


@contextmanager
def _records(
    manifest: Any, rows: "SourceRows", settings: Any, output: "Location", retry_failed: bool, report: bool
) -> "Iterator[tuple[Records, CancelToken, Callable[[Record | None], None]]]":
    """Records to be added to; a token that Ctrl-C sets; what counts rows. After the block the page is written."""
    from grefine_rt.batch import records as kept
    from grefine_rt.batch.report import render
    from grefine_rt.batch.runner import to_repeat
    from grefine_rt.batch.store import write_whole
    from grefine_rt.cancel import CancelToken

    token = CancelToken()
    with kept.opened(output, settings.run_of(manifest)) as records, cancelled_by_ctrl_c(token):
        records.forget(to_repeat(records, output, retry_failed))
        with _progress(rows) as on_row:
            yield records, token, lambda _: on_row()
        if not records.complete():
            say("note: pyarrow is not installed, so the records are in JSONL alone.")
        if report:
            base = rows.input if rows.input.is_dir() else rows.input.parent
            write_whole(output / "report.html", render(records, output, base).encode("utf-8"))


def _foresee(
    assessor: Any, rows: "SourceRows", settings: Any, jobs: int, output: "Location | None", as_json: bool
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
