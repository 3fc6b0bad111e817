"""The benchmark of the batch in small, and that it would notice what goes wrong."""

from pathlib import Path

import pytest
from PIL import Image

from benchmarks import batch


@pytest.mark.slow
def test_three_pictures_in_all_three_ways(tmp_path):
    setting = batch.Setting(tmp_path, "mini", threads=1)
    jobs = batch.pictures(3)
    spent = batch.measure(jobs, 2, setting)
    assert [one.pictures for one in spent.values()] == [3, 3, 2, 2]
    # What is left of three pictures without the start is a small difference, and may be below 0.
    whole = [one for way, one in spent.items() if way != "batch, after its start"]
    assert len(whole) == 3
    assert all(one.wall > 0 and one.cpu > 0 for one in whole)
    assert batch.different(jobs, tmp_path) == []
    said = batch.lines(spent)
    assert sum("times the rate of the library loop" in line for line in said) == 2
    assert sum("times the rate of the shell loop" in line for line in said) == 2

    path = tmp_path / "out/images/1.png"
    with Image.open(path) as image:
        image.putpixel((0, 0), tuple(value ^ 1 for value in image.getpixel((0, 0))))
        image.save(path)
    assert batch.different(jobs, tmp_path) == [1]


def test_rates_and_growth():
    loop, whole, shell = batch.Spent(10, 20.0, 10.0), batch.Spent(10, 10.0, 20.0), batch.Spent(2, 6.0, 4.0)
    start = whole.less(batch.Spent(1, 1.0, 2.0))
    assert (start.pictures, start.wall, start.cpu) == (9, 9.0, 18.0)
    ways = ("library loop, warm", "batch, whole process", "batch, after its start", "shell loop")
    said = batch.lines(dict(zip(ways, (loop, whole, start, shell), strict=True)))
    assert "batch, whole process: 2.00 times the rate of the library loop, by CPU time 0.50" in said
    assert "batch, whole process: 3.00 times the rate of the shell loop, by CPU time 1.00" in said
    assert batch.Spent(500, memory=[100] * 30).growth() == 0
    assert batch.Spent(500, memory=[*range(100, 400, 10)]).growth() > 0.1
    assert batch.Spent(500, memory=[*[100] * 29, 200]).growth() == 0
    assert batch.Spent(500, memory=[*[100] * 24, 200, *[100] * 5]).growth() == 1
    assert batch.Spent(500, memory=[1]).growth() is None
    assert batch.Spent(10, memory=[*range(100, 400, 10)]).growth() is None


def test_a_command_that_fails_is_no_figure():
    with pytest.raises(SystemExit, match="ended with 2"):
        batch.run(["batch", "nowhere", "-o", str(Path("x") / "\0")[:1]], batch.Spent())
