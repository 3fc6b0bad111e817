"""A bounded queue before a fixed number of worker threads."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from grefine_rt.cancel import CancelToken, stop_if_cancelled
from grefine_rt.errors import Cancelled
from grefine_rt.service.limits import Refused, ServiceLimits
from grefine_rt.service.together import Gathering, Waiting

A = TypeVar("A")
T = TypeVar("T")

_SHARE = 0.2
"""The share of the newest call in the moving mean of calls' seconds."""


class WorkQueue:
    """Runs calls in `limits.workers` threads while `limits.waiting` more may wait; the next one is refused.

    Used from one event loop. running: calls that have a thread; waiting: accepted ones without a thread. A call that
    was given up counts until its thread has stopped, so the number of running ones keeps to its limit.
    """

    def __init__(self, limits: ServiceLimits) -> None:
        self._limits = limits
        self._threads = ThreadPoolExecutor(limits.workers, thread_name_prefix="grefine")
        self._accepted = 0
        self._running = 0
        self._lock = threading.Lock()
        self._mean = 1.0

    @property
    def running(self) -> int:
        return self._running

    @property
    def waiting(self) -> int:
        return max(0, self._accepted - self._running)

    def check_room(self) -> None:
        """Raises Refused 429, with the seconds after which there should be room again, where the queue is full."""
        if self._accepted >= self._limits.workers + self._limits.waiting:
            seconds = max(1, math.ceil(self._mean * (self.waiting + 1) / self._limits.workers))
            raise Refused(429, "queue_full", "All places are taken: try again later.", seconds)

    async def run(self, work: Callable[[CancelToken], T], gone: Awaitable[None]) -> T:
        """The result of `work`, which gets a token to look at.

        Raises Refused 429 for a full queue, 504 when the time is over, and 499 when `gone` is done first: the client
        has left. The token is then set, and waiting work never starts.
        """
        return await self._until(lambda token: self._threads.submit(self._alone, work, token), gone)

    async def run_together(self, calls: Gathering[A, T], asked: A, gone: Awaitable[None]) -> T:
        """The result of `run`, with all waiting `calls` worked on at once when a worker is free."""

        def begin(token: CancelToken) -> Future[T]:
            call: Waiting[A, T] = Waiting(asked, token)
            calls.add(call)
            self._threads.submit(self._together, calls)
            return call.result

        return await self._until(begin, gone)

    async def _until(self, begin: Callable[[CancelToken], Future[T]], gone: Awaitable[None]) -> T:
        self.check_room()
        token = CancelToken()
        self._accepted += 1
        call = asyncio.wrap_future(begin(token))
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

    def _alone(self, work: Callable[[CancelToken], T], token: CancelToken) -> T:
        stop_if_cancelled(token, "before it began")
        start = time.perf_counter()
        self._begin(1)
        try:
            return work(token)
        finally:
            self._end(start, 1)

    def _together(self, calls: Gathering[A, T]) -> None:
        left = []
        for call in calls.take():
            if call.token.cancelled:
                call.result.set_exception(Cancelled("Cancelled before it began, as asked."))
            else:
                left.append(call)
        if not left:
            return
        start = time.perf_counter()
        self._begin(len(left))
        try:
            outcomes = calls.work([(call.asked, call.token) for call in left])
        except Exception as error:
            outcomes = [error for _ in left]
        self._end(start, len(left))
        for call, outcome in zip(left, outcomes, strict=True):
            if isinstance(outcome, Exception):
                call.result.set_exception(outcome)
            else:
                call.result.set_result(outcome)

    def _begin(self, calls: int) -> None:
        with self._lock:
            self._running += calls

    def _end(self, start: float, calls: int) -> None:
        with self._lock:
            self._running -= calls
            self._mean += _SHARE * ((time.perf_counter() - start) / calls - self._mean)

    def close(self) -> None:
        """Waits for the threads; calls that wait are dropped."""
        self._threads.shutdown(cancel_futures=True)
