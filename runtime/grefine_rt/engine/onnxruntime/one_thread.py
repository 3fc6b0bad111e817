"""A thread of its own for calls that only one thread may make."""

import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class OneThread:
    """Runs calls one after the other on a thread that ends with this object. Any number of threads may ask it.

    Unlike an executor's, the thread also works while the interpreter waits for other threads to end.
    """

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[Any] = SimpleQueue()
        threading.Thread(target=_serve, args=(self._calls,), name=name, daemon=True).start()
        weakref.finalize(self, self._calls.put, None)

    def run(self, call: Callable[[], T]) -> T:
        """The result of `call`, made on the thread; its exception is raised here. `call` has ended when this
        returns, even by Ctrl-C."""
        done: Future[T] = Future()
        self._calls.put((done, call))
        try:
            return done.result()
        finally:
            while not done.done():
                with suppress(KeyboardInterrupt):  # a first one is being raised already
                    wait([done])


def _serve(calls: "SimpleQueue[Any]") -> None:
    while (asked := calls.get()) is not None:
        done, call = asked
        try:
            done.set_result(call())
        except BaseException as error:
            done.set_exception(error)
        del asked, done, call  # nothing is held while it waits
