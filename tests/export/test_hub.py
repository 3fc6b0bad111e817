"""`hub`: only what is needed, resumed, proven, and one sentence for everything that goes wrong."""

import pytest

from grefine_export.hub import Unreachable, fetch, file_names, gigabytes, is_hub_id, listing, not_cached
from tests.support.fake_hub import FakeHub

REPO, NAMES = "owner/model", ["config.json", "unet/weights.safetensors"]


@pytest.fixture
def hub(monkeypatch, tmp_path):
    for name, text in (
        ("config.json", "{}"),
        ("unet/weights.safetensors", "w" * 40),
        ("unet/weights.bin", "b" * 70),
    ):
        path = tmp_path / "hub" / REPO / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return FakeHub(monkeypatch, tmp_path / "hub", tmp_path / "cache")


def _quiet(line):
    pass


def test_only_the_wanted_files_are_fetched(hub):
    folder = fetch(REPO, "abc", NAMES, _quiet)
    assert hub.fetched == NAMES
    assert folder.name == "abc"
    assert (folder / NAMES[1]).read_text() == "w" * 40


def test_says_how_much_is_left(hub):
    files = listing(REPO, None, ["unet/*"])
    assert {file.name: file.size for file in files} == {
        "unet/weights.safetensors": 40,
        "unet/weights.bin": 70,
    }
    assert not_cached(REPO, None, files) == 110
    fetch(REPO, None, NAMES, _quiet)
    assert not_cached(REPO, None, files) == 70


def test_a_broken_download_goes_on(hub):
    hub.breaks = 1
    with pytest.raises(
        ConnectionError, match=r"^the download of 'owner/model' stopped \(peer closed connection\): "
    ):
        fetch(REPO, None, NAMES, _quiet)
    hub.breaks = None
    fetch(REPO, None, NAMES, _quiet)
    assert hub.fetched == NAMES  # each once


def test_without_the_hub_the_cache_serves(hub):
    fetch(REPO, None, NAMES, _quiet)
    hub.offline = True
    lines = []
    assert (fetch(REPO, None, NAMES, lines.append) / "config.json").read_text() == "{}"
    assert lines == ["owner/model: the hub does not answer, its files are in the cache"]


def test_names_of_the_hub_or_else_of_the_cache(hub):
    fetch(REPO, None, NAMES, _quiet)
    assert file_names(REPO, "vae/*") == ["config.json", "unet/weights.bin", NAMES[1]]
    hub.offline = True
    assert file_names(REPO, "unet/*") == NAMES
    with pytest.raises(Unreachable, match="'owner/model' cannot be had"):
        file_names(REPO, "vae/*")


@pytest.mark.parametrize("names", [NAMES, ["**/*.bin"]])
def test_without_the_hub_and_without_a_file(hub, names):
    if names != NAMES:
        fetch(REPO, None, NAMES, _quiet)
    hub.offline = True
    with pytest.raises(Unreachable) as caught:
        fetch(REPO, None, names, _quiet)
    assert str(caught.value) == (
        "'owner/model' cannot be had from the hub ([Errno 101] Network is unreachable): fetch it on a machine that "
        "reaches the hub and give its folder"
    )


def test_a_model_that_is_not_there(hub):
    with pytest.raises(Unreachable, match=r"^'owner/other' cannot be had from the hub \(404"):
        fetch("owner/other", None, NAMES, _quiet)


def test_a_file_that_the_model_has_not(hub):
    with pytest.raises(
        ValueError, match=r"^the model 'owner/model' on the hub has no file 'vae/\*': give a local"
    ):
        fetch(REPO, None, ["config.json", "vae/*"], _quiet)


@pytest.mark.parametrize("size", [40, 39])
@pytest.mark.parametrize("offline", [False, True])
def test_a_damaged_file_is_removed_and_fetched_anew(hub, size, offline):
    path = fetch(REPO, None, NAMES, _quiet) / NAMES[1]
    path.resolve().write_text("x" * size)
    hub.offline = offline
    with pytest.raises(
        ValueError, match=r"^the file 'weights.safetensors' of 'owner/model' was damaged .* run the"
    ):
        fetch(REPO, None, NAMES, _quiet)
    assert not path.is_symlink()
    hub.offline = False
    assert (fetch(REPO, None, NAMES, _quiet) / NAMES[1]).read_text() == "w" * 40


def test_what_the_hub_lists_decides(hub):
    hub.lies = True
    with pytest.raises(ValueError, match="was damaged"):
        fetch(REPO, None, NAMES, _quiet)


def test_hub_ids(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "here").mkdir(parents=True)
    assert is_hub_id("owner/model-1.0")
    assert not any(
        map(is_hub_id, ["model", "owner/here", "./owner/model", "~/model", "a/b/c", "/owner/model", ""])
    )


def test_sizes_for_people():
    assert [gigabytes(count) for count in (12_940_000_000, 999_000_000, 0)] == ["12.9 GB", "999 MB", "0 MB"]
