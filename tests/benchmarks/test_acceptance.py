"""Acceptance on against off: known outcomes side by side, and the command on a stand-in."""

import json

from benchmarks import acceptance, harm_figures
from benchmarks.outcomes import Outcome, Repair, Seen
from grefine_rt import Refiner
from tests.support import fake_bundle


def flow(reduction, fell, seconds):
    repair = Repair(0.9, 0.8, 40.0, reduction, None, None, 0, 0, None, seconds)
    done = harm_figures.Harm(False, 40.0, False, 10.0, 9.0, 2, 2, None, -fell, 0.1)
    repaired = Outcome(0, "local", "blur", None, 50.0, Seen(0.5, 0.5, None, None, None), True, repair)
    return acceptance.Flow([repaired], [harm_figures.Outcome("0", "local", frozenset(), False, done)])


def test_each_figure_stands_beside_itself():
    found = acceptance.side_by_side({"regions": flow(0.2, 0.0, 3.0), "off": flow(0.5, 0.1, 2.0)})
    reduction = found["refine_rmse_reduction"]
    assert (reduction["regions"], reduction["off"], reduction["samples"]) == (0.2, 0.5, 1)
    assert reduction["bar"] == acceptance.REPAIRED["refine_rmse_reduction"].bar
    lowered = found["scores_lowered"]
    assert (lowered["regions"], lowered["off"], lowered["bar"]) == (0, 1, 0)
    seconds = found["seconds_per_refine"]
    assert (seconds["regions"], seconds["off"], seconds["bar"]) == (3.0, 2.0, None)
    assert not [key for key in found if "refused" in key], "nothing is refused here"


def test_the_command_refines_twice_prints_and_writes(monkeypatch, capsys, tmp_path):
    asked, real = [], Refiner.refine

    def refine(self, image, prompt, seed, options):
        asked.append((prompt, seed, options.plan.accept, options.outside))
        return real(self, image, prompt, seed, options)

    monkeypatch.setattr(Refiner, "load", lambda *_: Refiner(fake_bundle.Bundle()))
    monkeypatch.setattr(Refiner, "refine", refine)
    file = tmp_path / "both.json"
    assert acceptance.main(["--limit", "3", "--json", str(file)]) == 0
    pairs = list(zip(asked[::2], asked[1::2], strict=True))
    assert len(pairs) == 3
    for one, other in pairs:
        assert one[:2] == other[:2]
        assert (one[2:], other[2:]) == (("regions", "refine"), ("off", "refine"))
    written = json.loads(file.read_text())
    assert written["set"]["samples"] == 3
    printed = capsys.readouterr().out
    assert all(key in printed for key in written["figures"])
    assert {"regions", "off", "bar", "samples"} == set(written["figures"]["things_lost"])
