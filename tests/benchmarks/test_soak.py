"""A minute of a server's life on the embedded bundle, and that the soak would notice what goes wrong."""

import time

import pytest

from benchmarks import soak
from grefine_rt import Refiner
from grefine_rt.errors import Cancelled


@pytest.fixture(scope="module")
def refiner():
    with Refiner.load("mini", "cpu").warm_up() as refiner:
        yield refiner


@pytest.mark.timing
def test_a_minute_of_requests_from_four_threads(refiner):
    report = soak.soak(refiner, 60, 4)
    assert report.wrong == []
    assert report.refined > 20
    assert report.refused > 3
    assert report.cancelled > 0
    assert report.growth() < soak.GROWTH


def test_every_kind_of_rubbish_is_answered_with_a_sentence(refiner):
    answers = [soak.answer(refiner, request) for request in soak.rubbish()]
    assert not any(refined for refined, _ in answers)
    assert all(said.endswith((".", ")")) and "\n" not in said for _, said in answers)


def test_a_wrong_answer_is_noticed(refiner, monkeypatch):
    asked = soak.pictures()[:1]
    monkeypatch.setattr(soak, "pictures", lambda: asked)
    monkeypatch.setattr(soak, "rubbish", list)
    real, calls = soak.answer, iter(range(10**6))

    def sometimes_wrong(refiner, request, cancel=None):
        return (True, "other pixels") if next(calls) else real(refiner, request)

    monkeypatch.setattr(soak, "answer", sometimes_wrong)
    assert soak.soak(refiner, 1, 2).wrong


def test_a_call_that_goes_on_after_it_was_cancelled_is_noticed(refiner, monkeypatch):
    asked = soak.pictures()[:1]
    monkeypatch.setattr(soak, "pictures", lambda: asked)
    monkeypatch.setattr(soak, "rubbish", list)
    for name, value in (("CANCELLED", 1), ("PATIENCE", 0), ("LATE", 0.1)):
        monkeypatch.setattr(soak, name, value)

    def slow(refiner, request, cancel=None):
        if cancel is not None:
            time.sleep(0.3)
            raise Cancelled("Cancelled.")
        return True, "pixels"

    monkeypatch.setattr(soak, "answer", slow)
    report = soak.soak(refiner, 0.5, 1)
    assert report.cancelled > 0
    assert "after it was asked to" in report.wrong[0]


def test_rubbish_that_passes_is_noticed(refiner, monkeypatch):
    asked = soak.pictures()[:1]
    monkeypatch.setattr(soak, "pictures", list)
    monkeypatch.setattr(soak, "rubbish", lambda: asked)
    monkeypatch.setattr(soak, "answer", lambda *_: (True, "pixels"))
    assert soak.soak(refiner, 0.1, 1).wrong == ["request 0 is rubbish and gave pixels"]


def test_growth_compares_thirds():
    steady = soak.Report(memory=[(second, 100) for second in range(30)])
    rising = soak.Report(memory=[(second, 100 + 2 * second) for second in range(30)])
    warm = soak.Report(memory=[(second, 50 if second < 5 else 100) for second in range(30)])
    assert steady.growth() == warm.growth() == 0
    assert rising.growth() > 0.1
