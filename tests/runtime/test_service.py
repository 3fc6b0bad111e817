"""The service over real HTTP: answers with the library's bits, refusals, and what happens when things go wrong."""

import asyncio
import json
import socket
import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import numpy as np
import pytest

from grefine_rt import Refiner
from grefine_rt.assess.domain import Domain, Membership
from grefine_rt.errors import OptionError
from grefine_rt.service.connections import protocol
from grefine_rt.service.guard import Guard
from grefine_rt.service.limits import ServiceLimits, check_exposure, is_loopback
from grefine_rt.service.metrics import Metrics
from grefine_rt.service.queue import WorkQueue
from tests.support import fake_bundle
from tests.support import generator_files as made
from tests.support.service import PROMPT, Slow, base64_of, picture, png, serving, until


@pytest.fixture(scope="module")
def client():
    with serving() as client:
        yield client


def post(client, path="refine", data=None, files=None, **fields):
    files = {"image": png()} if files is None else files
    return client.post(
        f"/v1/{path}", files=files, data={"prompt": PROMPT, **fields} if data is None else data
    )


def reason(answer):
    return answer.status_code, answer.json()["error"]["reason"]


# Answers


def test_a_refined_picture_has_the_librarys_bits_in_every_way_to_ask(client):
    own = Refiner(fake_bundle.Bundle()).refine(png(), PROMPT, seed=5)
    image = post(client, seed="5", answer="image")
    assert image.headers["content-type"] == "image/png"
    assert float(image.headers["x-grefine-perceptual-before"]) == pytest.approx(
        own.before.perceptual, abs=1e-6
    )
    body = {"image": base64_of(png()), "prompt": PROMPT, "seed": 5}
    for data in (
        image.content,
        post(client, seed="5").json()["image"]["data"],
        client.post("/v1/refine", json=body).json()["image"]["data"],
    ):
        assert (picture(data) == np.asarray(own.image)).all()
    said = post(client, seed="5").json()
    assert said["run"] == own.run
    assert said["after"]["perceptual"] == own.after.perceptual
    assert said["reasons"] == list(own.plan.reasons)


def test_masks_limit_what_changes(client):
    left = np.zeros((128, 128), np.uint8)
    left[:, :64] = 255
    files = {"image": png(), "mask": png(left)}
    result = picture(post(client, files=files, answer="image").content)
    before = fake_bundle.scene([["house", "house", "sea", "sea"]] * 4)
    assert (result[:, 64:] == before[:, 64:]).all()
    assert (result[:, :60] != before[:, :60]).any()
    files = {"image": png(), "protect": png(left)}
    result = picture(post(client, files=files, answer="image").content)
    assert (result[:, :64] == picture(png())[:, :64]).all()


def test_assess_and_plan_say_what_the_library_says(client):
    own = Refiner(fake_bundle.Bundle())
    found = own.assess(png(), PROMPT)
    said = post(client, "assess", maps="true").json()
    assert said["before"]["perceptual"] == found.perceptual
    assert [phrase["text"] for phrase in said["phrases"]] == [phrase.text for phrase in found.phrases]
    heat = found.heat_map("alignment", png())
    assert (picture(said["maps"]["alignment"]) == np.asarray(heat)).all()
    assert picture(post(client, "assess", answer="image").content).shape == (128, 128, 3)
    planned = post(client, "plan", strength="0.5").json()
    assert planned["plan"]["strength"] == 0.5
    assert planned["mask"]["boxes"] == [[int(side) for side in box] for box in own.plan(found).boxes]


def test_the_prompt_is_read_from_the_picture(client):
    text = f"{PROMPT}\nNegative prompt: fog\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 42, Size: 128x128"
    from PIL import Image

    files = {"image": made.png({"parameters": text}, Image.fromarray(fake_bundle.scene([["house", "sea"]])))}
    said = post(client, "prompt", data={}, files=files).json()
    assert (said["prompt"], said["negative"], said["seed"]) == (PROMPT, "fog", 42)
    assessed = post(client, "assess", data={}, files=files).json()
    assert assessed["prompt"] == PROMPT
    assert "parameters" in assessed["prompt_source"]
    assert post(client, "prompt", data={}).json()["prompt"] is None
    assert reason(post(client, "assess", data={})) == (422, "prompt")


def test_it_says_what_it_is_and_counts(client):
    assert client.get("/v1/health").json()["status"] == "alive"
    assert client.get("/v1/ready").json() == {"status": "ready"}
    assert client.get("/v1/bundle").json()["name"] == "fake"
    post(client)
    reason(post(client, data={"prompt": ""}))
    text = client.get("/metrics").text
    for line in (
        'grefine_requests_total{path="/v1/refine",status="200"}',
        'grefine_refusals_total{reason="prompt"}',
        'grefine_part_seconds_count{part="regenerate"}',
        "grefine_queue_waiting 0.0",
        "grefine_resident_bytes",
    ):
        assert line in text


def test_the_openapi_document_names_what_is_there(client):
    document = client.get("/v1/openapi.json").json()
    assert {"/v1/refine", "/v1/assess", "/v1/plan", "/v1/prompt", "/v1/bundle", "/metrics"} <= set(
        document["paths"]
    )
    refine = document["paths"]["/v1/refine"]["post"]
    answer = refine["responses"]["200"]["content"]["application/json"]["schema"]
    said = post(client, maps="true").json()
    assert set(answer["required"]) <= set(said) <= set(answer["properties"])
    fields = refine["requestBody"]["content"]["application/json"]["schema"]
    assert {"image", "mask", "protect", "prompt", "seed"} <= set(fields["properties"])
    assert not json.dumps(document).count('"$ref": "#/$defs')


def test_the_page_needs_no_network(client):
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    for text in (page.text, client.get("/page.css").text, client.get("/page.js").text):
        assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
        assert "https://" not in text


# Refusals


def bomb(side):
    """A PNG that says side x side pixels and holds few bytes; its pixels are never made here."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(10_000_000)))


@pytest.mark.parametrize(
    ("files", "data", "said"),
    [
        ({"image": b"rubbish"}, {"prompt": PROMPT}, (422, "image")),
        ({"image": b""}, {"prompt": PROMPT}, (422, "field")),
        ({"image": png()[:200]}, {"prompt": PROMPT}, (422, "image")),
        ({"image": bomb(20_000)}, {"prompt": PROMPT}, (413, "pixels")),
        ({"image": bomb(5_000)}, {"prompt": PROMPT}, (413, "pixels")),
        ({"image": png(), "mask": bomb(5_000)}, {"prompt": PROMPT}, (413, "pixels")),
        ({"image": png(), "mask": png(np.zeros((32, 32), np.uint8))}, {"prompt": PROMPT}, (422, "option")),
        ({"image": png()}, {"prompt": "house " * 1000}, (413, "prompt_length")),
        ({"image": png()}, {"prompt": "house " * 100_000}, (413, "prompt_length")),
        ({"image": png()}, {"prompt": " "}, (422, "prompt")),
        ({"image": png()}, {"prompt": PROMPT, "seed": "x"}, (422, "field")),
        ({"image": png()}, {"prompt": PROMPT, "strength": "2"}, (422, "field")),
        ({"image": png()}, {"prompt": PROMPT, "unknown": "1"}, (422, "field")),
        ({"image": png()}, {"prompt": PROMPT, "format": "png", "quality": "50"}, (422, "option")),
        ({"other": png()}, {"prompt": PROMPT}, (422, "field")),
    ],
)
def test_what_cannot_be_done_is_refused_in_a_sentence(client, files, data, said):
    answer = post(client, files=files, data=data)
    assert reason(answer) == said
    assert answer.json()["error"]["message"].endswith(".")


def test_a_picture_outside_the_domain_is_refined_only_where_the_client_asks(client, monkeypatch):
    where = Membership("fake", False, 9.0, 2.0)
    monkeypatch.setattr(Domain, "membership", lambda self, *arguments: where)
    refused = post(client)
    assert reason(refused) == (422, "domain")
    assert "outside=refine" in refused.json()["error"]["message"]
    done = post(client, outside="refine")
    assert done.status_code == 200
    assert any("not made for its kind" in note for note in done.json()["notes"])
    assert reason(post(client, outside="maybe")) == (422, "field")


def test_a_mask_that_cannot_be_read_is_told_by_its_field(client):
    files = {"image": png(), "mask": png(np.zeros((8, 8), np.uint8))}
    refused = post(client, files=files)
    assert reason(refused) == (422, "image")
    assert "'mask'" in refused.json()["error"]["message"]


def test_refusals_come_before_decoding(monkeypatch, client):
    from grefine_rt.service import handlers

    monkeypatch.setattr(handlers, "load", lambda *_: pytest.fail("decoded"))
    assert reason(post(client, files={"image": bomb(5_000)})) == (413, "pixels")


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        (b"{", "application/json", (400, "json")),
        (b"[" * 100_000, "application/json", (400, "json")),
        (b"[]", "application/json", (422, "field")),
        (b'{"image": "???"}', "application/json", (422, "field")),
        (b'{"image": null}', "application/json", (422, "field")),
        (b"x", "multipart/form-data", (400, "form")),
        (b"x", "multipart/form-data; boundary=b", (400, "form")),
        (b"x", "text/plain", (415, "content_type")),
    ],
)
def test_bodies_that_are_not_what_they_say(client, body, kind, said):
    answer = client.post("/v1/refine", content=body, headers={"content-type": kind})
    assert reason(answer) == said


def test_too_many_bytes_are_refused_before_and_while_they_come():
    with serving(limits=ServiceLimits(body_bytes=20_000)) as client:
        body = b"x" * 30_000
        told = client.post("/v1/refine", content=body, headers={"content-type": "application/json"})
        assert reason(told) == (413, "bytes")
        for kind in ("application/json", "multipart/form-data; boundary=b"):
            parts = iter([body[:15_000], body[:15_000]])  # no Content-Length
            try:
                answer = client.post("/v1/refine", content=parts, headers={"content-type": kind})
                assert answer.status_code in (400, 413)
            except httpx.RemoteProtocolError:
                pass  # closed before all was sent
        assert post(client, "assess").status_code == 200


def test_a_compressed_body_is_not_unpacked(client):
    headers = {"content-encoding": "gzip", "content-type": "application/json"}
    assert reason(client.post("/v1/refine", content=b"x", headers=headers)) == (415, "encoding")


def test_unknown_paths_and_methods(client):
    assert reason(client.get("/v2")) == (404, "http")
    answer = client.get("/v1/refine")
    assert reason(answer) == (405, "http")
    assert answer.headers["allow"] == "POST"


# Who may ask


def test_a_token_is_asked_for():
    token = "a-token-of-some-length"
    with serving(token=token) as client:
        assert client.get("/v1/health").status_code == client.get("/").status_code == 200
        assert reason(client.get("/metrics")) == (401, "token")
        for given in ("Bearer wrong", f"Basic {token}", f"Bearer {token}x", "Bearer \xff"):
            answer = client.get("/v1/bundle", headers={"authorization": given.encode("latin-1")})
            assert reason(answer) == (401, "token")
        assert client.get("/v1/bundle", headers={"authorization": f"Bearer {token}"}).status_code == 200
        assert "securitySchemes" in client.get("/v1/openapi.json").json()["components"]


def test_pages_of_other_sites_may_not_ask(client):
    for headers in ({"origin": "http://example.org"}, {"host": "example.org"}):
        assert reason(client.get("/v1/bundle", headers=headers)) == (403, "origin")


def test_other_machines_need_a_token():
    assert is_loopback("127.0.0.2")
    assert is_loopback("::1")
    assert is_loopback("localhost")
    for host in ("0.0.0.0", "::", "192.168.1.2", "example.org", ""):
        with pytest.raises(OptionError, match="token"):
            check_exposure(host, None)
        check_exposure(host, "a-token-of-some-length")
    with pytest.raises(OptionError, match="16"):
        check_exposure("127.0.0.1", "short")


# Queue, time and clients that leave


def test_a_full_queue_says_when_to_come_back():
    bundle = Slow()
    with (
        serving(Refiner(bundle), ServiceLimits(waiting=1)) as client,
        ThreadPoolExecutor(2) as threads,
    ):
        first = [threads.submit(post, client) for _ in range(2)]
        until(lambda: "grefine_queue_waiting 1.0" in client.get("/metrics").text)
        answer = post(client)
        assert reason(answer) == (429, "queue_full")
        assert int(answer.headers["retry-after"]) >= 1
        bundle.go.set()
        assert [call.result().status_code for call in first] == [200, 200]
        assert post(client).status_code == 200


def test_time_over_stops_the_work():
    bundle = Slow()
    with serving(Refiner(bundle), ServiceLimits(seconds=1)) as client:
        assert reason(post(client)) == (504, "time")
        bundle.go.set()
        until(lambda: "grefine_queue_running 0.0" in client.get("/metrics").text)
        assert bundle.steps <= 1  # cancelled before the second, on a busy machine before the first


def raw(client, data):
    connection = socket.create_connection(("127.0.0.1", client.port), timeout=20)
    connection.sendall(data)
    return connection


def request_bytes(length):
    body = json.dumps({"image": base64_of(png()), "prompt": PROMPT}).encode()
    head = (
        "POST /v1/refine HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        f"content-length: {length or len(body)}\r\n\r\n"
    )
    return head.encode() + body


def test_work_is_cancelled_when_the_client_leaves():
    bundle = Slow()
    with serving(Refiner(bundle)) as client:
        connection = raw(client, request_bytes(0))
        assert bundle.begun.wait(20)
        connection.close()
        until(lambda: 'reason="client_gone"' in client.get("/metrics").text)
        bundle.go.set()
        until(lambda: "grefine_queue_running 0.0" in client.get("/metrics").text)
        assert bundle.steps == 1
        assert post(client).status_code == 200


def test_a_call_that_its_server_cancels_counts_as_left():
    """As Ray Serve does when the client has gone."""
    metrics = Metrics(WorkQueue(ServiceLimits()), "cpu", "one")

    async def cancelled(scope, receive, send):
        raise asyncio.CancelledError

    guard = Guard(cancelled, metrics, "a-token-of-some-length", frozenset({"/"}))
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(guard({"type": "http", "path": "/", "headers": []}, None, None))
    text = metrics.text().decode()
    assert 'grefine_requests_total{path="/",replica="one",status="499"} 1.0' in text
    assert 'grefine_queue_waiting{replica="one"} 0.0' in text


def test_half_sent_bodies_hold_nobody_up():
    with serving(limits=ServiceLimits(body_seconds=1)) as client:
        slow = [raw(client, request_bytes(10**6)) for _ in range(8)]
        gone = raw(client, request_bytes(10**6))
        gone.close()
        assert post(client).status_code == 200
        for connection in slow:
            assert connection.recv(100).startswith(b"HTTP/1.1 408")
            connection.close()


def test_connections_without_a_request_hold_nobody_up():
    limits = ServiceLimits(waiting=0, body_seconds=1)
    options = {"http": protocol(limits.body_seconds), "limit_concurrency": limits.connections}
    with serving(limits=limits, **options) as client, ExitStack() as stack:
        for number in range(limits.connections):
            idle = stack.enter_context(socket.create_connection(("127.0.0.1", client.port)))
            idle.sendall(b"" if number % 2 else b"POST /v1/ref")
        until(lambda: client.get("/v1/health").status_code == 200)
        idle.settimeout(20)
        assert idle.recv(1) == b"", "it was closed"
        # One that is being answered, or comes slowly but within its time, is not.
        slowly = stack.enter_context(socket.create_connection(("127.0.0.1", client.port)))
        for part in (b"GET /v1/health HT", b"TP/1.1\r\nHost: localhost\r\n", b"\r\n"):
            slowly.sendall(part)
            time.sleep(0.2)
        assert slowly.recv(12) == b"HTTP/1.1 200"


def test_accepted_requests_finish_when_the_service_stops():
    bundle = Slow()
    with serving(Refiner(bundle)) as client, ThreadPoolExecutor(2) as threads:
        calls = [threads.submit(post, client) for _ in range(2)]
        until(lambda: "grefine_queue_waiting 1.0" in client.get("/metrics").text)
        client.server.should_exit = True  # what SIGTERM sets
        until(lambda: not client.server.servers or not client.server.servers[0].is_serving())
        bundle.go.set()
        assert [call.result().status_code for call in calls] == [200, 200]


def test_many_clients_at_once_get_the_librarys_bits():
    own = Refiner(fake_bundle.Bundle())
    sizes = [(128, 128), (96, 160), (257, 63), (300, 200)]
    pictures = [png(fake_bundle.scene([["house", "poor"], ["sea", "sea"]], *size)) for size in sizes]
    wanted = [np.asarray(own.refine(data, PROMPT, seed=3).image) for data in pictures]
    wrong, counts = [], {"refined": 0, "refused": 0}
    guard = threading.Lock()

    def ask(client, number):
        for turn in range(6):
            which = (number + turn) % 4
            rubbish = (number + turn) % 10 == 9
            files = {"image": b"rubbish" if rubbish else pictures[which]}
            answer = post(client, files=files, seed="3", answer="image")
            right = (
                reason(answer) == (422, "image")
                if rubbish
                else (picture(answer.content) == wanted[which]).all()
            )
            with guard:
                counts["refused" if rubbish else "refined"] += 1
                if not right:
                    wrong.append((number, turn, answer.status_code))

    with serving(limits=ServiceLimits(workers=2)) as client, ThreadPoolExecutor(8) as threads:
        for call in [threads.submit(ask, client, number) for number in range(8)]:
            call.result()
    assert not wrong
    assert counts == {"refined": 44, "refused": 4}
