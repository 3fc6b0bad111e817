"""A gate for many together or one alone: ONNX Runtime captures a CUDA graph while nobody else asks CUDA for memory."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Gate:
    """Lets any number of threads pass at once (`together`), or one of them with nobody else inside (`alone`).

    A thread that waits for the others to leave keeps newcomers out. Neither may be entered from within.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._closed = False

    @contextmanager
    def together(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._closed)
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._closed)
            self._closed = True
        try:
            with self._changed:
                self._changed.wait_for(lambda: self._inside == 0)
            yield
        finally:  # also when the wait was interrupted
            with self._changed:
                self._closed = False
                self._changed.notify_all()
