"""The real command in a process of its own."""

import os
import signal
import subprocess
import sys

from tests.support.paths import ROOT

ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if name != "GREFINE_DEBUG"},
    "PYTHONPATH": os.pathsep.join([str(ROOT / "runtime"), str(ROOT)]),
    "OMP_NUM_THREADS": "1",
}


def interruptible():
    """Ends what a shell in the background hands down: that Ctrl-C is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(*arguments, program=("-m", "grefine_rt.cli"), **options):
    """The real command in a process of its own, which heeds Ctrl-C."""
    return subprocess.Popen(
        [sys.executable, *program, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        preexec_fn=interruptible if os.name != "nt" else None,
        **options,
    )


def finish(process, seconds=60):
    stdout, stderr = process.communicate(timeout=seconds)
    return process.returncode, stdout, stderr


SLOW = """
import sys, time
from grefine_rt import Refiner
from grefine_rt.cli import main
from tests.support import fake_bundle

bundle = fake_bundle.Bundle()
work = bundle.engines["restore_step"]._function

def slowly(**arrays):
    print("step", file=sys.stderr, flush=True)
    time.sleep(0.3)
    return work(**arrays)

bundle.engines["restore_step"]._function = slowly
Refiner.load = lambda *arguments: Refiner(bundle)
main()
"""
"""The command on the fake bundle, whose stage 2 says and takes its time at every step."""
