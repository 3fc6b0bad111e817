"""The benchmark of picture sizes."""

import pytest

from benchmarks import megapixels
from benchmarks.megapixels import Took
from tests.support.paths import MINI


def test_the_table_has_a_line_for_each_size():
    rows = [
        Took("assess", 128, 200_000_000, 1.25),
        Took("refine", 128, 300_000_000, 2.0),
        Took("assess", 1024, 210_400_000, 1.5),
    ]
    assert megapixels.table(rows).splitlines() == [
        "| pixels | megapixels | assess: MB | assess: CPU s | refine: MB | refine: CPU s |",
        "|---|---|---|---|---|---|",
        "| 128 x 128 | 0.02 | 200 | 1.2 | 300 | 2.0 |",
        "| 1024 x 1024 | 1.05 | 210 | 1.5 |  |  |",
    ]


def test_a_command_is_measured(tmp_path):
    took = megapixels.measure("assess", 64, str(MINI), tmp_path)
    assert 50e6 < took.memory < 2e9
    assert 0.1 < took.seconds < 60


def test_a_command_that_fails_is_told(tmp_path):
    with pytest.raises(RuntimeError, match="exit code 1"):
        megapixels.measure("refine", 64, str(tmp_path), tmp_path)
