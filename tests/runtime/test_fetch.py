"""Fetching a bundle: from a server of this test, whole, cut off, continued, changed, absent."""

import json
import shutil
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from tokenizers import Tokenizer, models

from grefine_rt.bundle.fetch import fetch
from grefine_rt.bundle.store import bundle_dir, find_bundle, verify, write
from grefine_rt.errors import BundleError, OutputError
from tests.support import tiny

STEP = "components/inpaint_step.onnx"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GREFINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tiny.save(tmp_path_factory.mktemp("made") / "tiny")
    Tokenizer(models.WordLevel({"[UNK]": 0}, "[UNK]")).save(str(folder / "tokenizers" / "words.json"))
    write(folder, tiny.manifest())
    return folder


@pytest.fixture
def server(made, tmp_path):
    """Serves a copy of the bundle. `asked` lists (path, first byte); `cut` is the path sent by half."""
    folder = shutil.copytree(made, tmp_path / "served" / "tiny")
    state = SimpleNamespace(folder=folder, asked=[], cut=None, ranges=True, moved=None)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            path = self.path.removeprefix("/hub/tiny/")
            begin = int(self.headers.get("Range", "bytes=0-")[6:-1]) if state.ranges else 0
            state.asked.append((path, begin))
            if state.moved:
                self.send_response(302)
                self.send_header("Location", state.moved)
                self.end_headers()
                return
            file = state.folder / path
            if not self.path.startswith("/hub/tiny/") or not file.is_file():
                self.send_error(404)
                return
            data = file.read_bytes()[begin:]
            self.send_response(206 if begin else 200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2] if path == state.cut else data)

        def log_message(self, *arguments):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, args=(0.01,))
    thread.start()
    state.url = f"http://127.0.0.1:{http.server_port}/hub/tiny"
    yield state
    http.shutdown()
    thread.join()
    http.server_close()


def aside(name):
    """Where a bundle is made until it is whole."""
    return bundle_dir("x").with_name(f".{name}.fetching")


def test_a_bundle_arrives_whole_and_is_found_by_its_name(server):
    seen = []
    folder, manifest = fetch(server.url + "/", lambda done, total: seen.append((done, total)))
    assert folder == bundle_dir(manifest.name) == find_bundle(manifest.name)
    assert verify(folder) == manifest
    assert [path for path, _ in server.asked] == ["bundle.json", *manifest.files]
    assert seen == sorted(seen)
    total = sum(entry.size for entry in manifest.files.values())
    assert seen[-1] == (total, total)


@pytest.mark.parametrize("ranges", [True, False])
def test_a_transfer_that_was_cut_off_goes_on(server, ranges):
    server.cut = STEP
    with pytest.raises(BundleError, match="run the command again"):
        fetch(server.url)
    name = json.loads((server.folder / "bundle.json").read_text())["name"]
    half = (aside(name) / f"{STEP}.part").stat().st_size
    assert 0 < half < (server.folder / STEP).stat().st_size
    with pytest.raises(BundleError, match="No bundle"):
        find_bundle(name)

    server.cut, server.ranges = None, ranges
    before = len(server.asked)
    folder, manifest = fetch(f"{server.url}/bundle.json")
    assert verify(folder) == manifest
    again = dict(server.asked[before:])
    assert again[STEP] == (half if ranges else 0)
    kept = set(manifest.files) - set(again)
    assert kept, "what came whole the first time is not fetched again"


def test_a_part_of_another_version_is_fetched_anew(server):
    folder, manifest = fetch(server.url)
    (folder / STEP).unlink()
    (aside(manifest.name) / "components").mkdir(parents=True)
    (aside(manifest.name) / f"{STEP}.part").write_bytes(b"x" * 10)
    (folder / "old.onnx").write_bytes(b"of an earlier version")
    assert fetch(server.url) == (folder, manifest)
    assert [begin for path, begin in server.asked if path == STEP] == [0, 10, 0]


def test_a_harmed_bundle_is_mended(server):
    folder, manifest = fetch(server.url)
    path = folder / STEP
    path.write_bytes(b"y" + path.read_bytes()[1:])
    before = len(server.asked)
    fetch(server.url)
    assert server.asked[before:] == [("bundle.json", 0), (STEP, 0)]
    assert verify(folder) == manifest


def test_a_file_that_is_not_what_the_manifest_says_never_arrives(server):
    path = server.folder / STEP
    path.write_bytes(b"z" + path.read_bytes()[1:])
    with pytest.raises(BundleError, match="SHA-256"):
        fetch(server.url)
    cached = bundle_dir("x").parent
    assert not list(cached.rglob("bundle.json"))
    assert not list(cached.rglob("*inpaint_step.onnx*"))


def test_a_file_that_is_not_served_and_a_bundle_that_is_not_there(server):
    (server.folder / STEP).unlink()
    with pytest.raises(BundleError, match="answered 404"):
        fetch(server.url)
    with pytest.raises(BundleError, match="There is no bundle at"):
        fetch(server.url.replace("tiny", "huge"))


def test_a_name_that_leaves_the_cache_is_refused(server, cache):
    path = server.folder / "bundle.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "name": ".."}))
    with pytest.raises(BundleError, match="no usable name"):
        fetch(server.url)
    assert not cache.exists()


def test_a_hub_id_stands_for_an_address(server, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", server.url.removesuffix("/hub/tiny"))
    with pytest.raises(BundleError, match="someone/their-bundle/resolve/main"):
        fetch("someone/their-bundle")
    assert server.asked == [("/someone/their-bundle/resolve/main/bundle.json", 0)]


@pytest.mark.parametrize("source", ["http://example.org/bundle", "ftp://example.org/b", "file:///tmp/b"])
def test_only_https_is_trusted(source):
    with pytest.raises(BundleError, match="https"):
        fetch(source)


def test_a_way_out_of_https_is_not_followed(server):
    server.moved = "http://example.org/"
    with pytest.raises(BundleError, match="without https"):
        fetch(server.url)


def test_a_plain_name_says_what_to_give(run):
    done = run("bundle", "fetch", "mini")
    assert done.exit_code == 1
    assert "owner/name" in done.stderr
    assert done.stderr.count("\n") == 1


def test_no_network_is_one_sentence(run):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = run("bundle", "fetch", f"http://127.0.0.1:{port}/b")
    assert done.exit_code == 1
    assert done.stderr.startswith(f"error: '127.0.0.1:{port}' cannot be reached")
    assert done.stderr.count("\n") == 1


def test_a_cache_that_cannot_be_written_is_one_sentence(server, cache):
    cache.write_text("a file where a folder is wanted")
    with pytest.raises(OutputError, match="GREFINE_CACHE"):
        fetch(server.url)


def test_the_commands_fetch_list_show_and_verify(server, run):
    done = run("bundle", "fetch", server.url, "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    fetched = json.loads(done.stdout)
    name = fetched["name"]
    assert fetched["whole"]
    assert name in [entry["name"] for entry in json.loads(run("bundle", "list", "--json").stdout)["bundles"]]
    assert name in run("bundle", "list").stdout
    assert json.loads(run("bundle", "show", name, "--json").stdout)["folder"] == fetched["folder"]
    shown = run("bundle", "show", name).stdout
    assert "components" in shown
    assert STEP in shown
    assert json.loads(run("bundle", "verify", name, "--json").stdout)["files"] == fetched["files"]
    doctor = json.loads(run("doctor", "--json", "--device", "cpu").stdout)
    assert {entry["name"]: entry["works"] for entry in doctor["bundles"]}[name]
    (bundle_dir(name) / STEP).unlink()
    assert run("bundle", "verify", name).exit_code == 1
    doctor = json.loads(run("doctor", "--json", "--device", "cpu").stdout)
    assert STEP in {entry["name"]: entry["problem"] for entry in doctor["bundles"]}[name]
    (bundle_dir(name) / "bundle.json").write_text("{")
    assert "cannot be used" in run("bundle", "list").stdout


def test_a_fetch_that_fails_leaves_the_bundle_that_is_there(server):
    folder, manifest = fetch(server.url)
    (folder / "engines" / "sm89").mkdir(parents=True)
    write(server.folder, {**json.loads(manifest.to_json()), "version": "2"})
    path = server.folder / STEP
    good = path.read_bytes()
    path.write_bytes(b"z" + good[1:])
    data = json.loads((server.folder / "bundle.json").read_text())
    data["files"][STEP]["sha256"] = "0" * 64
    data["checksum"] = None
    (server.folder / "bundle.json").write_text(json.dumps(data))
    with pytest.raises(BundleError, match="SHA-256"):
        fetch(server.url)
    assert verify(folder) == manifest
    path.write_bytes(good)
    newer = write(server.folder, {**json.loads(manifest.to_json()), "version": "2"})
    before = len(server.asked)
    assert fetch(server.url) == (folder, newer)
    assert [path for path, _ in server.asked[before:]] == ["bundle.json"]  # all files were there
    assert verify(folder).version == "2"
    assert (folder / "engines" / "sm89").is_dir()
    assert sorted(each.name for each in folder.parent.iterdir()) == [f".{folder.name}.lock", folder.name]


def test_two_fetches_at_once_both_end_well(server):
    results, errors = [], []

    def one():
        try:
            results.append(fetch(server.url))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert len(results) == 4
    assert verify(results[0][0]) == results[0][1]
    assert len([path for path, _ in server.asked if path == STEP]) == 1


def test_a_swap_that_was_killed_is_undone(server):
    folder, manifest = fetch(server.url)
    folder.rename(folder.with_name(f".{folder.name}.old"))
    assert fetch(server.url) == (folder, manifest)
    assert [path for path, _ in server.asked if path == STEP] == [STEP]


def test_sizes_are_checked_against_the_disk_first(server):
    data = json.loads((server.folder / "bundle.json").read_text())
    data["files"][STEP]["size"] = 2**47
    data["checksum"] = None
    (server.folder / "bundle.json").write_text(json.dumps(data))
    with pytest.raises(OutputError, match="GB more on the disk"):
        fetch(server.url)
    assert server.asked == [("bundle.json", 0)]


@pytest.mark.parametrize(
    "source",
    [
        *(
            "https://",
            "https://[::1",
            "https://host:port/b",
            "https://ho st/b",
            "https://h\u00f6st/b",
            "://",
            "https://a\nb",
        ),
        *(
            "https://" + "a" * 3000,
            "http://[fe80::%25]/b",
            "https://host:0/b",
            "https://host:99999999/b",
            "a/b/c",
            "\udcff://x",
        ),
    ],
)
def test_bad_addresses_are_one_sentence(run, source):
    done = run("bundle", "fetch", source)
    assert done.exit_code == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert len(done.stderr) < 400
