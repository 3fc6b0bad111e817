"""What actors of a Ray cluster load in tests: the fake bundle, slowed down, which says what it works on."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from grefine_rt import Refiner
from grefine_rt.assessor import Assessor
from tests.support import fake_bundle


@dataclass(frozen=True)
class Slow:
    """Loads the fake bundle; every picture takes `seconds` more, and is a line in the process's own file in `log`."""

    log: str
    seconds: float = 0.0

    def __call__(self) -> Assessor:
        return _Logging(self)


class _Logging(Refiner):
    def __init__(self, slow: Slow) -> None:
        super().__init__(fake_bundle.Bundle())
        self._slow = slow

    def refine(self, *arguments, **options):
        result = super().refine(*arguments, **options)
        time.sleep(self._slow.seconds)
        with (Path(self._slow.log) / str(os.getpid())).open("a") as file:
            file.write(f"{result.run}\n")
        return result


def works(log: Path) -> dict[int, int]:
    """Pictures by the process that refined them."""
    return {int(path.name): len(path.read_text().splitlines()) for path in log.iterdir()}
