"""A minute of the service under load on the embedded bundle, and that the load would notice what goes wrong."""

from dataclasses import replace

import httpx
import numpy as np
import pytest

from benchmarks import serve
from grefine_rt import Refiner
from grefine_rt.service.limits import ServiceLimits


@pytest.fixture(scope="module")
def refiner():
    with Refiner.load("mini", "cpu").warm_up() as refiner:
        yield refiner


@pytest.fixture(scope="module")
def asked(refiner):
    return serve.requests(refiner)


@pytest.mark.timing
def test_a_minute_of_eight_clients(refiner, asked, record_property):
    seen = serve.load(refiner, asked, 60, 8)
    for line in seen.lines():
        record_property("load", line)
    assert seen.wrong == []
    assert min(seen.kinds[kind] for kind in ("refine", "assess", "rubbish")) > 0
    assert seen.left > 0
    assert seen.growth() < serve.GROWTH


def test_every_kind_of_request_is_answered_as_the_library_answers(refiner, asked):
    kinds = {(request.path, request.status, len(request.picture), request.sent): request for request in asked}
    some = [*list(kinds.values())[:4], *[request for request in kinds.values() if request.status != 200]]
    left = [request for request in kinds.values() if request.sent <= 1]
    assert len(left) == 2
    assert {request.status for request in some} == {200, 413, 422}
    seen = serve.Seen()
    with (
        serve.running(refiner, ServiceLimits(together=8)) as address,
        httpx.Client(base_url=address, timeout=60) as client,
    ):
        for request in [*left, *some]:
            serve.ask(client, request, seen)
    assert seen.wrong == []
    assert (seen.left, sum(seen.kinds.values())) == (2, len(some))


def test_a_wrong_answer_is_noticed(refiner, asked):
    refined = next(request for request in asked if request.pixels is not None)
    assessed = next(request for request in asked if request.path == "assess" and request.scores)
    rubbish = next(request for request in asked if request.status == 422)
    changed = refined.pixels.copy()
    changed[0, 0, 0] ^= 1
    wrong = [
        replace(refined, pixels=changed),
        replace(assessed, scores=(np.nextafter(assessed.scores[0], 1), assessed.scores[1])),
        replace(rubbish, status=413),
    ]
    seen = serve.load(refiner, wrong, 1, 1)
    said = " ".join(seen.wrong)
    assert "refine: other pixels" in said
    assert len(seen.wrong) == sum(seen.kinds.values()) > 0


def test_growth_compares_thirds():
    assert serve.Seen(memory=[100] * 30).growth() == 0
    assert serve.Seen(memory=[50] * 10 + [100] * 20).growth() == 0
    assert serve.Seen(memory=[*range(100, 400, 10)]).growth() > 0.1
