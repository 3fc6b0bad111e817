"""For all tests: one thread a process, workers, and property tests without a deadline."""

import gc
import os

# Before numpy, torch and ONNX Runtime are imported: workers are what runs at the same time.
os.environ["OMP_NUM_THREADS"] = "1"

from pathlib import Path

from hypothesis import settings

from tests.support import one_thread

MOST_WORKERS = 4
"""More of them need gigabytes: each one that exports holds torch."""

settings.register_profile("without a clock", deadline=None)  # a busy machine is no failure
settings.load_profile("without a clock")
one_thread.limit()
# An export makes millions of objects that stay: of 16.1 s, looking through them for garbage takes 1.2 s.
gc.set_threshold(50_000)


def pytest_xdist_auto_num_workers(config):
    """A worker a core, but none where one file or the GPU is asked for: the GPU's memory is measured as a whole."""
    asked = [Path(argument.partition("::")[0]) for argument in config.args]
    if (len(asked) == 1 and asked[0].is_file()) or all("gpu" in path.parts for path in asked):
        return 0
    return min(MOST_WORKERS, len(os.sched_getaffinity(0)))
