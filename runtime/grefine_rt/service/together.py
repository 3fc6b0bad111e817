"""Waiting calls of one kind that a worker does at once; and whether a bundle gives the same bits then."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from grefine_rt.assessor import Assessor
from grefine_rt.cancel import CancelToken

A = TypeVar("A")
T = TypeVar("T")


@dataclass(frozen=True)
class Waiting(Generic[A, T]):
    """A call that waits for a worker. asked: its request. token: set once its client gave it up."""

    asked: A
    token: CancelToken
    result: Future[T] = field(default_factory=Future)


class Gathering(Generic[A, T]):
    """Calls that any worker may do together; any thread may use it.

    work: does calls and gives for each, in order, its result or the exception that its client gets. most: calls in one
    run. size, room: of a call, and of all in one run, so that together they take no more memory than the largest one
    may; a single call always runs.
    """

    def __init__(
        self,
        work: Callable[[Sequence[tuple[A, CancelToken]]], list[T | Exception]],
        most: int = 1,
        size: Callable[[A], int] = lambda asked: 0,
        room: int = 0,
    ) -> None:
        self.work, self.most, self._size, self._room = work, most, size, room
        self._waiting: deque[Waiting[A, T]] = deque()
        self._lock = threading.Lock()

    def add(self, call: Waiting[A, T]) -> None:
        with self._lock:
            self._waiting.append(call)

    def take(self) -> list[Waiting[A, T]]:
        """The oldest calls that fit into one run, given-up ones too; none where another worker took them already."""
        taken: list[Waiting[A, T]] = []
        left = self._room
        with self._lock:
            while self._waiting and len(taken) < self.most:
                left -= self._size(self._waiting[0].asked)
                if taken and left < 0:
                    break
                taken.append(self._waiting.popleft())
        return taken


def keeps_bits(assessor: Assessor, most: int) -> bool:
    """Whether pictures and prompts assessed together have the bits that each has alone.

    Tried here and now, for engines promise nothing: with pictures of noise in several sizes and prompts of several
    lengths, at every number up to `most`. Raises what assessing raises.
    """
    draw = np.random.default_rng(0)
    pictures = [
        draw.integers(0, 256, (64 + 24 * number, 160 - 8 * number, 3), np.uint8) for number in range(most)
    ]
    words = _WORDS.split()
    prompts = [" ".join(words[: 1 + 2 * number % len(words)]) for number in range(most)]
    alone = [assessor.assess(*pair) for pair in zip(pictures, prompts, strict=True)]
    for count in range(2, most + 1):
        found = assessor.assess_batch(pictures[-count:], prompts[-count:], batch=count)
        if not all(_same(*pair) for pair in zip(alone[-count:], found, strict=True)):
            return False
    return True


_WORDS = "a red house under the yellow sun and two small boats on blue water beside an old tree"


def _same(one: Any, other: Any) -> bool:
    """Equality to the last bit, of arrays within dataclasses, tuples and mappings too."""
    if isinstance(one, np.ndarray):
        return bool(np.array_equal(one, other))
    if is_dataclass(one):
        return all(_same(getattr(one, part.name), getattr(other, part.name)) for part in fields(one))
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)
