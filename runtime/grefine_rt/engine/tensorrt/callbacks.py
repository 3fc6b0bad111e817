"""The callbacks of a builder: its log, its progress, and the stream that it writes."""

import re
from collections.abc import Callable
from typing import Any

from grefine_rt.cancel import Cancels

OnProgress = Callable[[float], None]
"""Called with the part of a build that is done, in [0, 1], from the thread that builds."""


def stream(trt: Any, write: Callable[[Any], int]) -> Any:
    class Stream(trt.IStreamWriter):  # type: ignore[misc]
        def write(self, data: Any) -> int:
            return write(data)

    return Stream()


def logger(trt: Any) -> Any:
    """Keeps of the log: why something failed, how much memory activations take, and the fused attention kernels."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.reason = "it gave no reason"
            self.activations: list[int] = []
            self.fused = 0

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.reason = message.strip().splitlines()[0] if message.strip() else self.reason
            elif match := re.match(r"Total Activation Memory: (\d+) bytes", message):
                self.activations.append(int(match.group(1)))
            else:
                self.fused += fused_attention(message)

    return Log()


def fused_attention(message: str) -> int:
    """Kernels of fused attention that a message of the build log lists, in all profiles together."""
    return len(re.findall(r"^Name: \S*_mha_v\S*, LayerType: kgen", message, re.MULTILINE))


class Phases:
    """The share of work in nested phases that is done, in [0, 1]; it never falls."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[int, int]] = {}
        self.done = 0.0

    def start(self, name: str, steps: int) -> None:
        self._open[name] = 0, max(steps, 1)

    def step(self, name: str, step: int) -> None:
        if name in self._open:
            self._open[name] = step + 1, self._open[name][1]
        part = 0.0
        for done, steps in reversed(self._open.values()):
            part = min((done + part) / steps, 1.0)
        self.done = max(self.done, part)

    def finish(self, name: str) -> None:
        self._open.pop(name, None)


def monitor(trt: Any, report: OnProgress, cancel: Cancels | None) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._phases = Phases()

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            self._phases.start(name, steps)

        def step_complete(self, name: str, step: int) -> bool:
            self._phases.step(name, step)
            report(self._phases.done)
            return cancel is None or not cancel.cancelled

        def phase_finish(self, name: str) -> None:
            self._phases.finish(name)

    return Monitor()
