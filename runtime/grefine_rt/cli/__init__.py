"""The command `grefine-rt`: one file per command; heavy modules are imported when a command runs."""

import os
import signal
import sys
import warnings
from contextlib import suppress
from typing import Annotated

import typer

from grefine_rt import __version__
from grefine_rt.cli import assess, batch, bench, bundle, config, doctor, engine, evaluate, refine, serve
from grefine_rt.cli.output import FAILED, one_line_failures, say, terminate

app = typer.Typer(
    name="grefine-rt",
    help="Finds where a generated picture is poor or misses its prompt, and repairs only that.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(one_line_failures(refine.refine))
app.command()(one_line_failures(assess.assess))
app.command()(one_line_failures(batch.batch))
app.command()(one_line_failures(evaluate.evaluate))
app.command()(one_line_failures(bench.bench))
app.command()(one_line_failures(serve.serve))
app.add_typer(bundle.app, name="bundle")
app.add_typer(engine.app, name="engine")
app.command()(one_line_failures(doctor.doctor))


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"grefine-rt {__version__}")
        raise typer.Exit


@app.callback()
@one_line_failures
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    config.apply(context)


def main() -> None:
    """Entry point. Exit codes: 0 done, 1 failed (one line says why), 2 wrong usage, 130 cancelled."""
    if not os.environ.get("GREFINE_DEBUG") and not sys.warnoptions:
        # Warnings of libraries name lines of code; what a user should know is said in notes.
        warnings.simplefilter("ignore")
    for stream in (sys.stdout, sys.stderr):
        # Names and prompts may hold characters that the terminal's encoding lacks.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, terminate)
    try:
        try:
            app()
        finally:
            sys.stdout.flush()  # here, where a full device can still be told
    except BrokenPipeError:
        _leave_quietly()
        raise SystemExit(FAILED) from None
    except OSError as error:
        _leave_quietly()
        say(f"error: Standard output cannot be written: {error.strerror}.")
        raise SystemExit(FAILED) from None


def _leave_quietly() -> None:
    """The interpreter flushes standard output once more, and would tell of its failure in lines of its own."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
