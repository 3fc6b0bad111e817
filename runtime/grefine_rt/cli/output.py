"""The parts that commands share: one-line failures, JSON, tables on the terminal, progress, Ctrl-C."""

from __future__ import annotations

import errno
import functools
import json
import os
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol

import typer

from grefine_rt.errors import Cancelled, GRefineError, OptionError

if TYPE_CHECKING:
    from rich.console import Console

P = ParamSpec("P")

FAILED, WRONG_USAGE, CANCELLED, TERMINATED = 1, 2, 130, 143


class Terminated(KeyboardInterrupt):
    """SIGTERM: as Ctrl-C, but at once; files that are not whole are deleted on the way out."""


def terminate(number: int, frame: object) -> None:
    """The handler of SIGTERM."""
    raise Terminated


def one_line_failures(command: Callable[P, None]) -> Callable[P, None]:
    """The command, with every failure as one line on standard error and an exit code, never a traceback."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except (typer.Exit, BrokenPipeError):
            raise
        except Terminated:
            say("terminated")
            raise typer.Exit(TERMINATED) from None
        except (Cancelled, KeyboardInterrupt):
            say("cancelled")
            raise typer.Exit(CANCELLED) from None
        except OptionError as error:
            raise _failed(error, str(error), WRONG_USAGE) from None
        except GRefineError as error:
            raise _failed(error, str(error), FAILED) from None
        except Exception as error:
            if (
                isinstance(error, OSError)
                and error.filename is None
                and error.errno in (errno.ENOSPC, errno.EIO)
            ):
                raise  # of standard output, about which `main` says what there is to say
            message = (
                f"Unexpected {type(error).__name__}: {error} (set GREFINE_DEBUG=1 to see where it arose)"
            )
            raise _failed(error, message, FAILED) from None

    return run


def _failed(error: Exception, message: str, code: int) -> typer.Exit:
    if os.environ.get("GREFINE_DEBUG"):
        _clear()
        traceback.print_exception(error)
    say(f"error: {message}")
    return typer.Exit(code)


_shown = ""
"""The words on the terminal's last line until something else is said."""


def status(words: str) -> None:
    """Show the work under way on a terminal's last line until more is said; nothing if standard error is none."""
    global _shown
    if not sys.stderr.isatty():
        return
    _clear()
    _shown = " ".join(words.split())[: shutil.get_terminal_size().columns - 5] + " ..."
    sys.stderr.write(_shown)
    sys.stderr.flush()


def _clear() -> None:
    """Take away what `status` shows; spaces, for not every terminal knows how to erase."""
    global _shown
    if _shown:
        sys.stderr.write(f"\r{' ' * len(_shown)}\r")
        sys.stderr.flush()
        _shown = ""


def say(message: str) -> None:
    """One line on standard error, whatever the message holds."""
    _clear()
    print(" ".join(message.splitlines()), file=sys.stderr)


def say_notes(notes: tuple[str, ...]) -> None:
    """Print notes on the input, on standard error."""
    for note in notes:
        say(f"note: {note}")


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON object on standard output, in ASCII so that every terminal and pipe can carry it."""
    _clear()
    print(json.dumps(value, indent=2, allow_nan=False))


def print_json_line(value: Mapping[str, Any]) -> None:
    """One JSON object as one line."""
    _clear()
    print(json.dumps(value, allow_nan=False), flush=True)


def console(stderr: bool = False) -> Console:
    """A plain console: square brackets, colons and numbers of users' texts stay what they are."""
    from rich.console import Console

    _clear()
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)


class OnStep(Protocol):
    """Progress as the runtime reports it: a part of the work, steps made and steps in all."""

    def __call__(self, part: str, step: int, steps: int, /) -> None: ...


@contextmanager
def progress(parts: Mapping[str, str]) -> Iterator[OnStep]:
    """A progress bar over `parts` (name to words, in order) on standard error; nothing unless a terminal."""
    if not sys.stderr.isatty():
        yield lambda part, step, steps: None
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as bars:
        names = list(parts)
        task = bars.add_task(parts[names[0]], total=len(names))

        def on_step(part: str, step: int, steps: int) -> None:
            done = names.index(part) + (step / steps if steps else 1.0)
            bars.update(task, description=parts[part], completed=done)

        yield on_step


class Cancellable(Protocol):
    """A cancel token."""

    def cancel(self) -> None: ...


@contextmanager
def cancelled_by_ctrl_c(token: Cancellable) -> Iterator[None]:
    """The first Ctrl-C asks `token` to stop the work between two steps, a second one stops it at once."""
    previous = signal.getsignal(signal.SIGINT)
    # A parent that made the process deaf to Ctrl-C (nohup, a script's background job) meant it.
    if threading.current_thread() is not threading.main_thread() or previous is signal.SIG_IGN:
        yield
        return

    def cancel(number: int, frame: object) -> None:
        token.cancel()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, cancel)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
