"""The share of an engine's weights that a GPU holds when the weights of a bundle are more than its memory."""

from __future__ import annotations

from collections.abc import Sequence

from grefine_rt.engine.tensorrt.sidecar import Sidecar

HEADROOM = 500_000_000
"""Bytes that stay free for inputs, outputs, compiled kernels, weights on their way, and the driver."""


def weight_budget(own: Sidecar, later: Sequence[Sidecar], free: int) -> int | None:
    """Bytes of device memory for the weights of an engine that can stream them; None for all of them.

    later: the engines of the bundle that are still to be loaded. free: bytes that the weights of all of them may take.
    The bytes beside weights that have to be there are shared among the engines that stream theirs, in proportion to
    their size.
    """
    engines = (own, *later)
    resident = sum(engine.engine.size for engine in engines if not engine.streams)
    streamed = sum(engine.engine.size for engine in engines if engine.streams)
    left = free - HEADROOM - resident
    return None if left >= streamed else max(0, left * own.engine.size // streamed)
