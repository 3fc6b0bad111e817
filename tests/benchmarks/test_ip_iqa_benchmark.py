"""The agreement of a bundle's IP-IQA over grouped splits, against scipy."""

import sys

import numpy as np
import pytest
from scipy import stats

from benchmarks.ip_iqa import agreement, main, table
from grefine_export.learn.ip_iqa import grouped_split
from grefine_export.mini.rated import write_database
from grefine_rt import Assessor
from grefine_rt.evaluation import databases
from tests.support import assess_bundle as small


def test_agreement_is_the_mean_over_the_test_sides(tmp_path):
    assessor = Assessor.load(small.save(tmp_path / "bundle"), "cpu", 1)
    root = write_database(tmp_path / "database", 12, 3)
    found = agreement(assessor, root, 4)
    rated = databases.read("agiqa-3k", root)
    scores = [assessor.assess(one.path, one.prompt).ip_iqa["alignment"] for one in rated]
    expected = []
    for number in range(4):
        rows = grouped_split([one.group for one in rated], number)[1]
        opinions = [rated[i].scores["alignment"] for i in rows]
        expected.append(stats.spearmanr([scores[i] for i in rows], opinions).statistic)
    assert found["alignment"]["srcc"] == pytest.approx((np.mean(expected), np.std(expected)), abs=1e-9)


def test_a_bar_decides():
    values = {"srcc": (0.8, 0.01), "plcc": (0.8, 0.01), "krcc": (0.6, 0.01)}
    lines = table({"quality": values, "alignment": values}).splitlines()
    assert lines[2].endswith("FAIL |")
    assert lines[3].endswith("pass |")
    assert "0.800 ± 0.010" in lines[2]


def test_the_ablation_needs_a_training(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["ip_iqa", "ablation", "--work", str(tmp_path / "none")])
    with pytest.raises(SystemExit, match="holds no training"):
        main()
    assert not (tmp_path / "none").exists()
