"""The command that tells what both guidance passes side by side gain."""

import re

from benchmarks import passes
from tests.support.paths import ROOT


def test_both_ways_take_turns_and_the_gain_is_told(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(passes, "STEPS", 1)
    monkeypatch.setattr("sys.argv", ["passes", "--seconds", "0", "--side", "64"])
    passes.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[:2]] == ["one run", "side by side"]
    one, both = (float(re.search(r"([\d.]+) ms a step", line)[1]) for line in lines[:2])
    assert one > 0
    assert both > 0
    assert re.search(r"side by side is -?[\d.]+ % faster \(.+ in 3 turns\)", lines[2])
