"""What a batch over Ray does before any cluster is there."""

import sys

import pytest

from grefine_rt.batch.row_work import Read
from grefine_rt.batch.sources import SourceRows
from grefine_rt.batch.spread import groups
from tests.support.batch_runs import make


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("127.0.0.1:9", "There is no Ray cluster at 127.0.0.1:9"),
        ("nonsense", "it is no HOST:PORT"),
        ("ray://127.0.0.1:10001", "not ray://"),
    ],
)
def test_an_address_that_nobody_answers_is_one_sentence(run, mini, tmp_path, address, words):
    pytest.importorskip("ray")
    pictures = make(tmp_path / "in", 1)
    done = run("batch", pictures, "-o", tmp_path / "out", "--engine", "ray", "--address", address)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert words in done.stderr


def test_without_ray_the_extra_is_named(run, mini, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setitem(sys.modules, "ray.data", None)
    done = run("batch", make(tmp_path / "in", 1), "-o", tmp_path / "out", "--engine", "ray")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "pip install '.[ray]'" in done.stderr


def test_options_that_do_not_go_together_are_told(run, fake, tmp_path):
    pictures = make(tmp_path / "in", 1)
    for more in (["--address", "auto"], ["--actors", 2], ["--engine", "ray", "--jobs", 2]):
        assert run("batch", pictures, "-o", tmp_path / "out", *more).exit_code == 2


def test_local_rows_travel_with_their_bytes_in_small_groups_and_done_ones_as_ids(tmp_path):
    pictures = make(tmp_path / "in", 7)
    found = list(groups(SourceRows(pictures), frozenset(), 3))
    assert [len(group) for group in found] == [3, 3, 1]
    rows = [item for group in found for item in group]
    assert all(isinstance(item, Read) for item in rows)
    assert [item.data for item in rows] == [path.read_bytes() for path in sorted(pictures.glob("*.png"))]
    assert {item.beside.prompt for item in rows} == {"a house, the sea"}

    table = pictures / "t.csv"
    table.write_text("image,id\n000.png,a\n001.png,b\n001.png,b\n")
    (group,) = groups(SourceRows(table), frozenset({"b"}), 9)
    assert group[1] == "b"
    assert [item.image_id for item in (group[0], group[2])] == ["a", "b~2"]
