"""Cancelling work from another thread."""

import threading
from typing import Protocol

from grefine_rt.errors import Cancelled


class CancelToken:
    """Cancels the work it was given to, from any thread: it raises `Cancelled` between two steps."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        self._event.set()

    @property
    def cancelled(self) -> bool:
        return self._event.is_set()


class Cancels(Protocol):
    """What work asks of a cancel token."""

    @property
    def cancelled(self) -> bool: ...


def stop_if_cancelled(cancel: Cancels | None, when: str) -> None:
    """Raise Cancelled, with `when` in its sentence, if the token says so."""
    if cancel is not None and cancel.cancelled:
        raise Cancelled(f"Cancelled {when}, as asked; nothing was written.")
