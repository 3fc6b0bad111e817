"""Runs that are killed or interrupted, on the fake bundle: nothing lost, nothing twice, nothing half."""

import random
import signal
import time
from contextlib import suppress

import pyarrow.parquet as pq
import pytest

from grefine_rt.batch import records as kept
from tests.support.batch_runs import images, make, pixels, said
from tests.support.processes import finish, start

BATCH = """
import time
from grefine_rt import Assessor, Refiner
from grefine_rt.assess.domain import Domain, Membership
from grefine_rt.batch import records
from grefine_rt.cli import main
from tests.support import fake_bundle

bundle = fake_bundle.Bundle()
work = bundle.engines["perceptual"]._function

def slowly(**arrays):
    time.sleep(0.01)
    return work(**arrays)

bundle.engines["perceptual"]._function = slowly
Assessor.load = lambda *arguments: Assessor(bundle)
records.Records.__init__.__defaults__ = (5,)
records.opened.__wrapped__.__defaults__ = (5,)
main()
"""
"""The command on the fake bundle, slow enough to be killed; parts have five rows."""


def command(pictures, out):
    return start("batch", pictures, "-o", out, "--jobs", "2", program=("-c", BATCH))


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=pytest.mark.slow)])
def test_kills_lose_nothing_repeat_nothing_and_leave_nothing_half(run, fake, tmp_path, kills):
    pictures = make(tmp_path / "in", 24)
    (pictures / "007.png").write_bytes(b"rubbish")
    whole, out = tmp_path / "whole", tmp_path / "out0"
    assert run("batch", pictures, "-o", whole).exit_code == 1
    draw, killed, lengths = random.Random(kills), 0, []
    while killed < kills:
        process = command(pictures, out)
        where = "records" if killed % 5 == 2 else "images"  # opening the records is a moment, too
        before = stamps(out / where)
        while process.poll() is None and stamps(out / where) == before:
            time.sleep(0.005)
        time.sleep(draw.uniform(0.0, 0.3))
        process.send_signal(signal.SIGKILL)
        code, _, stderr = finish(process)
        for path in (out / "images").glob("*.png"):
            pixels(path)  # whole
        seen = [record["image_id"] for record in kept.read(out)]
        assert len(seen) == len(set(seen))
        lengths.append(len(seen))
        if code == -signal.SIGKILL:
            killed += 1
            continue
        check_finished(out, whole, code, stderr)
        out = tmp_path / f"out{killed}"
    assert any(0 < length < 24 for length in lengths)
    code, _, stderr = finish(command(pictures, out))
    check_finished(out, whole, code, stderr)


MANY = 300  # so many that a signal comes before the end, however fast the machine is


def test_ctrl_c_stops_between_two_steps_and_a_second_run_goes_on(tmp_path):
    pictures, out = make(tmp_path / "in", MANY), tmp_path / "out"
    process = command(pictures, out)
    while process.poll() is None and not stamps(out / "images"):
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    code, _, stderr = finish(process)
    assert (code, stderr) == (130, "cancelled\n")
    assert len(said(out)) < MANY
    assert finish(command(pictures, out))[0] == 0
    assert [record["image"] for record in kept.read(out)] == [f"{number:03}.png" for number in range(MANY)]


def stamps(folder):
    """Names and times of the files in a folder that another process writes into."""
    found = set()
    for path in folder.glob("[!.]*"):
        with suppress(FileNotFoundError):
            found.add((path.name, path.stat().st_mtime_ns))
    return found


def check_finished(out, whole, code, stderr):
    assert code == 1
    assert "1 of 24 rows failed" in stderr
    assert images(out) == images(whole)
    assert said(out) == said(whole)
    assert not [path for path in out.rglob("*") if path.name.endswith("-tmp")]
    parts = sorted((out / "records").glob("*.parquet"))
    assert [pq.read_metadata(part).num_rows for part in parts] == [5, 5, 5, 5, 4]
