"""What running both guidance passes of a step side by side gains: `python -m benchmarks.passes`, on 2 quiet cores.

The same step graph on two threads, as one run of two rows and as two runs of one row (`engine/passes.py`), in turns.
Below 8 % it is not worth its code.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

from benchmarks.step_profile import step_inputs
from grefine_rt.engine.onnxruntime.session import OnnxEngine
from grefine_rt.engine.passes import THREADS, SidePasses

MINI = Path("engines/mini/components/inpaint_step.onnx")
STEPS = 10
"""Steps in a turn: what the other engine's threads still do when a turn begins is over by then."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--graph", type=Path, default=MINI, help="a step graph of stage 1 or 2")
    parser.add_argument("--side", type=int, default=128, help="of the picture, pixels")
    parser.add_argument("--seconds", type=float, default=40)
    given = parser.parse_args()
    engines = {
        "one run": OnnxEngine(given.graph, "cpu", THREADS),
        "side by side": SidePasses("side by side", OnnxEngine(given.graph, "cpu", 1)),
    }
    inputs = step_inputs(engines["one run"].inputs, given.side)
    inputs["coefficients"][7] = 2.5  # guided: both rows count
    times: dict[str, list[float]] = {name: [] for name in engines}
    end = time.perf_counter() + given.seconds
    while time.perf_counter() < end or len(times["side by side"]) < 3:
        order = [*engines] if len(times["one run"]) % 2 else [*engines][::-1]
        for name in order:
            engines[name].run(inputs)
            start = time.perf_counter()
            for _ in range(STEPS):
                engines[name].run(inputs)
            times[name].append((time.perf_counter() - start) / STEPS)
    ratios = sorted(one / both for one, both in zip(times["one run"], times["side by side"], strict=True))
    low, high = ratios[len(ratios) // 10], ratios[-1 - len(ratios) // 10]
    for name, values in times.items():
        print(f"{name}: {1000 * statistics.median(values):.2f} ms a step")
    print(
        f"side by side is {100 * (statistics.median(ratios) - 1):.1f} % faster ({100 * (low - 1):.1f} to "
        f"{100 * (high - 1):.1f} in {len(ratios)} turns)"
    )


if __name__ == "__main__":
    main()
