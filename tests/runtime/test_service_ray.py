"""`grefine-rt serve --engine ray` on a real Ray of this machine: two replicas, the library's bits, an end in order."""

import re
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest

from grefine_rt import Refiner
from tests.support.processes import ENVIRONMENT, finish, start
from tests.support.service import picture, png, until

pytest.importorskip("ray.serve")
pytestmark = pytest.mark.ray

EXAMPLES = Path(__file__).parents[2] / "examples"
TOKEN = "a-token-of-some-length"
REPLICAS = 2


@pytest.fixture(scope="module")
def service():
    """The process, and its address."""
    options = ("--engine", "ray", "--port", "0", "--threads", "1", "--replicas", REPLICAS, "--queue", "4")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ENVIRONMENT, "GREFINE_TOKEN", TOKEN)
        for _ in range(3):
            process = start("serve", *options)
            said = _until_it_serves(process)
            if (
                "timed out during startup" not in said
            ):  # Ray gives its own processes 30 s, busy machine or not
                break
    found = re.search(r"http://127\.0\.0\.1:\d+", said)
    assert found, said
    yield process, found.group(0)
    process.kill()


def _until_it_serves(process):
    said = ""
    while "serves" not in said and (line := process.stderr.readline()):
        said += line
    return said


@pytest.fixture(scope="module")
def client(service):
    headers = {"authorization": f"Bearer {TOKEN}"}
    with httpx.Client(base_url=service[1], headers=headers, timeout=300) as client:
        until(lambda: len(metrics(client)) == REPLICAS, seconds=120)
        yield client


def metrics(client):
    """The metrics of every replica that answers, by its name."""
    texts = [client.get("/metrics").text for _ in range(20)]
    return {re.search(r'replica="([^"]+)"', text).group(1): text for text in texts}


def running(client):
    """Requests that a worker runs, on all replicas together."""
    lines = [
        line
        for text in metrics(client).values()
        for line in text.splitlines()
        if line.startswith("grefine_queue_running{")
    ]
    assert len(lines) == REPLICAS
    return sum(float(line.split()[1]) for line in lines)


def examples():
    return [(path.with_suffix(".png"), path.read_text()) for path in sorted(EXAMPLES.glob("*.txt"))]


LONG = {"stage1_steps": "900", "stage2_steps": "900", "strength": "1"}
"""Options of a request that takes seconds, on any machine."""


def refine(client, path, prompt, seed, **options):
    data = {"prompt": prompt, "seed": str(seed), "answer": "image", **options}
    return client.post("/v1/refine", files={"image": path.read_bytes()}, data=data)


def test_all_replicas_give_the_librarys_bits(client):
    with Refiner.load("mini", "cpu", threads=1) as own, ThreadPoolExecutor(4) as threads:
        some = examples()[:2]
        calls = [threads.submit(refine, client, *some[turn % 2], 3) for turn in range(4)]
        for turn, call in enumerate(calls):
            answer = call.result()
            assert answer.status_code == 200, answer.text
            wanted = own.refine(*some[turn % 2], 3)
            assert (picture(answer.content) == np.asarray(wanted.image)).all()
        found = own.assess(*some[0])
        said = client.post(
            "/v1/assess", files={"image": some[0][0].read_bytes()}, data={"prompt": some[0][1]}
        )
        assert said.json()["before"]["perceptual"] == found.perceptual


def test_what_the_application_refuses_ray_hands_through(client):
    assert client.get("/v1/bundle", headers={"authorization": ""}).status_code == 401
    assert client.post("/v1/assess", files={"image": b"x"}, data={"prompt": "a"}).status_code == 422
    answer = client.post("/v1/assess", files={"image": png()}, data={"prompt": "house " * 2000})
    assert (answer.status_code, answer.json()["error"]["reason"]) == (413, "prompt_length")
    assert client.get("/").headers["content-type"].startswith("text/html")
    assert "/v1/refine" in client.get("/v1/openapi.json").json()["paths"]


def test_work_is_cancelled_when_the_client_leaves(client):
    path, prompt = examples()[0]
    with pytest.raises(httpx.ReadTimeout):
        client.post(
            "/v1/refine", files={"image": path.read_bytes()}, data={"prompt": prompt, **LONG}, timeout=1
        )
    left = re.compile(r'grefine_requests_total\{path="/v1/refine",replica="[^"]+",status="499"')
    until(lambda: any(left.search(text) for text in metrics(client).values()), seconds=60)
    until(lambda: running(client) == 0, seconds=60)


def test_sigterm_lets_an_accepted_request_finish(client, service):
    process, _ = service
    answers = []
    asking = threading.Thread(target=lambda: answers.append(refine(client, *examples()[0], 3, **LONG)))
    asking.start()

    until(lambda: running(client) == 1, seconds=60)
    process.send_signal(signal.SIGTERM)
    asking.join(300)
    code, _, stderr = finish(process, 120)
    assert answers[0].status_code == 200
    assert code == 0
    assert "accepted requests were answered" in stderr
    assert "Traceback" not in stderr
