"""A bounded queue before a fixed number of worker threads."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from grefine_rt.cancel import CancelToken, stop_if_cancelled
from grefine_rt.errors import Cancelled
from grefine_rt.service.limits import Refused, ServiceLimits

T = TypeVar("T")

_SHARE = 0.2
"""Of the newest call in the moving mean of their seconds."""


class WorkQueue:
    """Runs calls in `limits.workers` threads while `limits.waiting` more may wait; the next one is refused.

    Used from one event loop. running: calls that have a thread; waiting: accepted ones that have none. A call that was
    given up counts until its thread has stopped, so no more than that ever run.
    """

    def __init__(self, limits: ServiceLimits) -> None:
        self._limits = limits
        self._threads = ThreadPoolExecutor(limits.workers, thread_name_prefix="grefine")
        self._accepted = 0
        self._mean = 1.0

    @property
    def running(self) -> int:
        return min(self._accepted, self._limits.workers)

    @property
    def waiting(self) -> int:
        return self._accepted - self.running

    def check_room(self) -> None:
        """Raises Refused 429, with the seconds after which there should be room again, where the queue is full."""
        if self._accepted >= self._limits.workers + self._limits.waiting:
            seconds = max(1, math.ceil(self._mean * (self.waiting + 1) / self._limits.workers))
            raise Refused(429, "queue_full", "All places are taken: try again later.", seconds)

    async def run(self, work: Callable[[CancelToken], T], gone: Awaitable[None]) -> T:
        """The result of `work`, which gets a token to look at.

        Raises Refused 429 where the queue is full, 504 when the time is over, and 499 when `gone` is done first: the
        client has left. Then the token is set, and work that waits never starts.
        """
        self.check_room()
        token = CancelToken()
        self._accepted += 1
        call = asyncio.get_running_loop().run_in_executor(self._threads, self._timed, work, token)
        call.add_done_callback(self._leave)
        left = asyncio.ensure_future(gone)
        both: set[asyncio.Future[Any]] = {call, left}
        try:
            await asyncio.wait(both, timeout=self._limits.seconds, return_when=asyncio.FIRST_COMPLETED)
            if call.done():
                return call.result()
            if left.done():
                raise Refused(499, "client_gone", "The client left.")
            raise Refused(504, "time", f"No answer within {self._limits.seconds:g} s, the limit.")
        finally:
            token.cancel()
            left.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await left

    def _leave(self, call: asyncio.Future[T]) -> None:
        self._accepted -= 1
        if not call.cancelled():
            call.exception()  # of a call that was given up nobody else asks

    def _timed(self, work: Callable[[CancelToken], T], token: CancelToken) -> T:
        stop_if_cancelled(token, "before it began")
        start = time.perf_counter()
        try:
            return work(token)
        except Cancelled:
            raise
        finally:
            self._mean += _SHARE * (time.perf_counter() - start - self._mean)

    def close(self) -> None:
        """Waits for the threads; calls that wait are dropped."""
        self._threads.shutdown(cancel_futures=True)
