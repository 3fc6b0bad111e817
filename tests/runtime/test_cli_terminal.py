"""What is seen in a terminal: a first word at once, and nothing of it left when there is more to say."""

import math
import os
import re
import signal
import sys
import time

import pytest

from tests.support.paths import ROOT
from tests.support.processes import ENVIRONMENT

pytestmark = pytest.mark.skipif(os.name == "nt", reason="terminals of Unix")
PICTURE = ROOT / "examples" / "broken_shape.png"
TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


class Seen:
    """A command in a terminal of its own.

    output: all that it wrote. first: seconds until its first visible character. cpu: CPU seconds until then, of the
    process. code: its exit code.
    """

    def __init__(self, *arguments, stop=False):
        import pty

        begin = time.perf_counter()
        pid, terminal = pty.fork()
        if pid == 0:
            os.execvpe(
                sys.executable, [sys.executable, "-m", "grefine_rt", *map(str, arguments)], ENVIRONMENT
            )
        chunks = []
        self.first = self.cpu = None
        while chunk := _read(terminal):
            chunks.append(chunk)
            if self.first is None and re.search(rb"[!-~]", chunk):
                self.first = time.perf_counter() - begin
                self.cpu = _cpu_seconds(pid)
                if stop:
                    os.kill(pid, signal.SIGKILL)
        self.code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        self.output = b"".join(chunks).decode()

    def screen(self):
        """What stands there at the end: of each line what was written last over it."""
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.output)
        lines = []
        for line in text.replace("\r\n", "\n").split("\n"):
            shown = ""
            for part in line.split("\r"):
                shown = part + shown[len(part) :]
            lines.append(shown.rstrip())
        return lines


def _read(terminal):
    try:
        return os.read(terminal, 65536)
    except OSError:  # how Linux says that the other side is closed
        return b""


def _cpu_seconds(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
    except FileNotFoundError:
        return None
    return (int(fields[11]) + int(fields[12])) / TICKS


COMMANDS = {
    "refine": (PICTURE, "-o", os.devnull, "--format", "png"),
    "assess": (PICTURE,),
    "batch": (ROOT / "examples", "-o", os.devnull, "--dry-run"),
    "evaluate": ("--dataset", "agiqa-3k", "--root", "nowhere"),
    "bench": (),
    "doctor": (),
    "bundle": ("verify",),
    "engine": ("build", "mini", "--target", "sm89"),
}


@pytest.mark.timing
@pytest.mark.parametrize("command", COMMANDS)
def test_a_word_is_there_within_half_a_second(command):
    """The best of three, for other work on the machine only adds."""
    seen = [Seen(command, *COMMANDS[command], stop=True) for _ in range(3)]
    assert min(each.first or math.inf for each in seen) < 0.5


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="asks Linux for CPU seconds")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_word_is_there_before_anything_heavy(command):
    seen = Seen(command, *COMMANDS[command], stop=True)
    assert seen.cpu < 0.4
    assert re.search(r"(Reading|Starting|Looking|Proving) ", seen.output)


def test_what_was_shown_meanwhile_is_gone_at_the_end(mini, tmp_path):
    seen = Seen("assess", PICTURE, "--bundle", mini)
    assert seen.code == 0
    assert "Reading" in seen.output
    assert "Loading" in seen.output
    assert "Assessing" in seen.output
    left = seen.screen()
    assert not any(re.search(r"Reading|Loading|Assessing", line) for line in left)
    assert any("perceptual" in line for line in left), left


def test_an_error_stands_alone_on_its_line(tmp_path):
    seen = Seen("refine", tmp_path / "nothing.png", "-p", "x")
    assert seen.code == 1
    assert [line for line in seen.screen() if line] == [
        f'error: There is no image "{tmp_path / "nothing.png"}"; check the path.'
    ]


def test_a_picture_is_not_poured_into_a_terminal(tmp_path):
    seen = Seen("refine", PICTURE, "-o", "-")
    assert seen.code == 2
    assert [line for line in seen.screen() if line] == [
        "error: The result would be written to the terminal: give -o FILE, or redirect it."
    ]
