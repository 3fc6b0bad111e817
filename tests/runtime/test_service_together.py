"""Waiting assessments made together: the bits of each alone, and nobody pays for another's mistake."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from grefine_rt import Refiner
from grefine_rt.cancel import CancelToken
from grefine_rt.service.limits import ServiceLimits
from grefine_rt.service.together import Gathering, Waiting, keeps_bits
from tests.support import fake_bundle
from tests.support.service import PROMPT, ROWS, Slow, picture, png, serving, until

EXAMPLES = Path(__file__).parents[2] / "examples"
SIZES = [(128, 128), (96, 160), (257, 63), (300, 200)]


def post(client, path, image, prompt=PROMPT, **fields):
    return client.post(f"/v1/{path}", files={"image": image}, data={"prompt": prompt, **fields})


def waiting(client, count):
    until(lambda: f"grefine_queue_waiting {count}.0" in client.get("/metrics").text)


def test_what_waits_is_assessed_in_one_run_with_the_bits_of_each_alone():
    bundle, own = Slow(), Refiner(fake_bundle.Bundle())
    pictures = [png(fake_bundle.scene(ROWS, *size)) for size in SIZES]
    cut = pictures[0][: len(pictures[0]) - 60]  # its header is whole
    prompts = [PROMPT, "a tree", "the sea and a big old house", "house"]
    with (
        serving(Refiner(bundle), ServiceLimits(together=8)) as client,
        ThreadPoolExecutor(8) as threads,
    ):
        refining = threads.submit(post, client, "refine", pictures[0])
        assert bundle.begun.wait(20)
        encode, rows = bundle.engines["perceptual"]._function, []
        bundle.engines["perceptual"]._function = lambda **arrays: (
            rows.append(len(arrays["image"])) or encode(**arrays)
        )
        calls = [
            threads.submit(post, client, "assess", *pair, maps="true")
            for pair in zip(pictures, prompts, strict=True)
        ]
        broken = threads.submit(post, client, "assess", cut)
        silent = threads.submit(post, client, "assess", pictures[1], " ")
        waiting(client, 6)
        bundle.go.set()
        for data, prompt, call in zip(pictures, prompts, calls, strict=True):
            found, said = own.assess(data, prompt), call.result().json()
            assert (said["before"]["perceptual"], said["before"]["alignment"]) == (
                found.perceptual,
                found.alignment,
            )
            assert (picture(said["maps"]["alignment"]) == np.asarray(found.heat_map("alignment", data))).all()
        assert broken.result().json()["error"]["reason"] == "image"
        assert silent.result().json()["error"]["reason"] == "prompt"
        assert refining.result().status_code == 200
        assert rows.count(4) == 1
        text = client.get("/metrics").text
        assert "grefine_assessed_together_sum 6.0" in text
        assert "grefine_assessed_together_count 1.0" in text
        assert 'grefine_part_seconds_count{part="assess"} 4.0' in text


def test_one_that_fails_in_the_run_costs_no_other(monkeypatch):
    bundle = Slow()
    assess_batch = Refiner.assess_batch

    def fails_for_trees(self, images, prompts, *arguments, **options):
        if "a tree" in prompts:
            raise ZeroDivisionError
        return assess_batch(self, images, prompts, *arguments, **options)

    monkeypatch.setattr(Refiner, "assess_batch", fails_for_trees)
    with (
        serving(Refiner(bundle), ServiceLimits(together=8)) as client,
        ThreadPoolExecutor(8) as threads,
    ):
        threads.submit(post, client, "refine", png())
        assert bundle.begun.wait(20)
        calls = [threads.submit(post, client, "assess", png(), prompt) for prompt in ("a house", "a tree")]
        waiting(client, 2)
        bundle.go.set()
        assert [call.result().status_code for call in calls] == [200, 500]


def test_who_left_is_not_assessed_and_the_others_are():
    bundle = Slow()
    with (
        serving(Refiner(bundle), ServiceLimits(together=8, seconds=2)) as client,
        ThreadPoolExecutor(8) as threads,
    ):
        first = threads.submit(post, client, "refine", png())
        assert bundle.begun.wait(20)
        late = threads.submit(post, client, "assess", png())
        assert first.result().status_code == late.result().status_code == 504
        call = threads.submit(post, client, "assess", png())
        waiting(client, 2)
        bundle.go.set()
        assert call.result().status_code == 200
        until(lambda: "grefine_queue_waiting 0.0" in client.get("/metrics").text)
        assert "grefine_assessed_together_sum 1.0" in client.get("/metrics").text


def test_a_run_takes_the_oldest_calls_that_fit_and_one_in_any_case():
    def begin(*sizes):
        gathering = Gathering(list, most=3, size=lambda asked: asked, room=10)
        for size in sizes:
            gathering.add(Waiting(size, CancelToken()))
        return gathering

    def runs(gathering):
        while taken := gathering.take():
            yield [call.asked for call in taken]

    assert list(runs(begin(1, 2, 3, 4, 5))) == [[1, 2, 3], [4, 5]]
    assert list(runs(begin(5, 5, 1))) == [[5, 5], [1]]
    assert list(runs(begin(11, 1))) == [[11], [1]]
    assert list(runs(begin())) == []


def test_bits_that_depend_on_the_company_are_noticed():
    bundle = fake_bundle.Bundle()
    assert keeps_bits(Refiner(bundle), 4)
    work = bundle.engines["perceptual"]._function

    def rounds(**arrays):
        found = work(**arrays)
        shift = np.float32(1e-6 if len(arrays["image"]) > 2 else 0)
        return {name: values * (1 - shift) for name, values in found.items()}

    bundle.engines["perceptual"]._function = rounds
    assert keeps_bits(Refiner(bundle), 2)
    assert not keeps_bits(Refiner(bundle), 3)


@pytest.mark.parametrize("same", [True, False])
def test_a_service_tries_it_at_its_start(monkeypatch, same):
    from grefine_rt.service import app

    monkeypatch.setattr(app, "keeps_bits", lambda refiner, most: same)
    monkeypatch.setattr(Refiner, "warm_up", lambda self: self)
    service = app.Service(Refiner(fake_bundle.Bundle()), ServiceLimits())
    assert service.assessing.most == 1
    service.warm_up()
    assert service.assessing.most == (app.TOGETHER if same else 1)


def test_the_embedded_bundle_keeps_bits_over_http(mini):
    with Refiner.load(mini, "cpu", threads=1) as refiner:
        assert keeps_bits(refiner, 8)
        pairs = [
            (path.with_suffix(".png").read_bytes(), path.read_text())
            for path in sorted(EXAMPLES.glob("*.txt"))
        ]
        asked = pairs * 4
        wanted = [refiner.assess(*pair) for pair in pairs]
        start = threading.Barrier(len(asked))

        def ask(pair):
            start.wait()
            return post(client, "assess", *pair).json()["before"]

        with (
            serving(refiner, ServiceLimits(together=8, waiting=32)) as client,
            ThreadPoolExecutor(len(asked)) as threads,
        ):
            said = list(threads.map(ask, asked))
            text = client.get("/metrics").text
        for number, before in enumerate(said):
            found = wanted[number % len(pairs)]
            assert (before["perceptual"], before["alignment"]) == (found.perceptual, found.alignment)
        runs = next(line for line in text.splitlines() if line.startswith("grefine_assessed_together_count"))
        assert float(runs.split()[1]) < len(asked)
