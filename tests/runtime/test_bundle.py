"""Bundles: a strict manifest, files proven by size and hash, components loaded once."""

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from grefine_rt import files
from grefine_rt.bundle import store
from grefine_rt.bundle.manifest import Manifest, TokenizerSpec
from grefine_rt.bundle.store import bundle_dir, find_bundle, list_bundles, verify, write
from grefine_rt.contract import Schedule
from grefine_rt.errors import BundleError, DeviceError
from grefine_rt.models.bundle import Bundle
from tests.support import tiny

MENDS = r"run 'grefine-rt bundle fetch ADDRESS' to fetch it again, or 'grefine-export bundle RECIPE'"
STEP = "components/inpaint_step.onnx"


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("GREFINE_CACHE", str(folder))
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tiny.save(tmp_path_factory.mktemp("made") / "tiny")
    words = {"<|startoftext|>": 0, "<|endoftext|>": 1, "red": 2, "cat": 3, "[UNK]": 4}
    tokenizer = Tokenizer(models.WordLevel(words, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["<|startoftext|>", "<|endoftext|>"])
    tokenizer.save(str(folder / "tokenizers" / "words.json"))
    write(folder, tiny.manifest())
    return folder


@pytest.fixture
def folder(made, tmp_path):
    """A copy that a test may break."""
    return Path(shutil.copytree(made, tmp_path / "tiny"))


def edit(folder, change):
    path = folder / "bundle.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def flip_byte(path):
    """Change one bit in the middle; size and time stay."""
    status = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def one_sentence(error):
    text = str(error.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


def test_manifest_round_trip(made):
    text = (made / "bundle.json").read_text()
    manifest = Manifest.from_json(text)
    assert manifest.to_json() == text
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert manifest.perceptual.alpha == (0.9, 0.5, 0.7)
    assert manifest.inpaint.schedule == Schedule(1000, 0.00085, 0.012, "leading", 1)
    assert manifest.tokenizers["inpaint_text"] == (TokenizerSpec("tokenizers/words.json", "ids", 6),)
    assert set(manifest.files) == {"tokenizers/words.json", *manifest.components.values()}


def test_verify_gives_the_manifest(made):
    assert verify(made) == Bundle.open(made, "cpu").manifest


def change(*path, value):
    def apply(data):
        for key in path[:-1]:
            data = data[key]
        data[path[-1]] = value

    return apply


def drop(*path):
    def apply(data):
        for key in path[:-1]:
            data = data[key]
        del data[path[-1]]

    return apply


@pytest.mark.parametrize(
    ("apply", "message"),
    [
        (change("format", value=2), "has format 2, but this version of grefine-rt reads format 1"),
        (drop("format"), "has format None"),
        (drop("plan", "tau"), r"lacks 'plan\.tau'"),
        (change("plan", "extra", value=1), r"has an unknown 'plan\.extra'"),
        (drop("name"), "lacks 'name'"),
        (change("name", value=3), "has 3 at 'name' where str is wanted"),
        (change("inpaint", "steps", value=2.5), r"2\.5 at 'inpaint\.steps' where int"),
        (change("inpaint", "time_ids", value=1), r"1 at 'inpaint\.time_ids' where bool"),
        (change("inpaint", "steps", value=True), r"True at 'inpaint\.steps' where int"),
        (change("inpaint", "solver", value="heun"), r"'heun' at 'inpaint\.solver' where 'euler' or 'ddim'"),
        (change("restore", "decoding", value="best"), "'plain' or 'difference' or 'quality' is wanted"),
        (change("restore", "schedule", value=[]), r"\[\] at 'restore\.schedule' where Schedule"),
        (change("weights", value={}), r"\{\} at 'weights'"),
        (change("perceptual", "alpha", 1, value="x"), r"'x' at 'perceptual\.alpha\.1' where float"),
        (change("perceptual", "alpha", value=[1, 1]), r"out of range in 'perceptual\.alpha'"),
        (change("perceptual", "alpha", value=[1, 0, 1]), "out of range in 'perceptual'"),
        (change("alignment", "temperature", value=float("nan")), r"nan at 'alignment\.temperature'"),
        (change("alignment", "grid", value=0), "out of range in 'alignment'"),
        (change("plan", "strength_min", value=1.0), "out of range in 'plan'"),
        (change("plan", "grow", value=-1), r"out of range in 'plan\.grow'"),
        (change("restore", "delta", value=1.5), r"out of range in 'restore\.delta'"),
        (change("restore", "multiple", value=12), r"out of range in 'restore\.multiple'"),
        (change("inpaint", "steps", value=0), "out of range in 'inpaint'"),
        (change("inpaint", "schedule", "beta_end", value=1.5), r"out of range in 'inpaint\.schedule'"),
        (change("files", STEP, "sha256", value="abc"), "out of range in 'files'"),
        (change("files", STEP, "size", value=-1), "out of range in 'files'"),
        (drop("components", "restore_step"), "lacks the component 'restore_step'"),
        (change("components", "upscaler", value=STEP), "unknown component 'upscaler'"),
        (
            change("components", "restore_step", value="no.onnx"),
            "lacks the size and SHA-256 of file 'no.onnx'",
        ),
        (drop("tokenizers", "inpaint_text"), "lacks the tokenizer of 'inpaint_text'"),
        (change("tokenizers", "inpaint_text", value=[]), "lacks the tokenizer of 'inpaint_text'"),
        (change("tokenizers", "alignment_text", 0, "length", value=0), "out of range in 'tokenizers'"),
    ],
)
def test_bad_manifests_are_refused(folder, apply, message):
    edit(folder, apply)
    for read in (verify, lambda path: Bundle.open(path, "cpu")):
        with pytest.raises(BundleError, match=message) as error:
            read(folder)
        assert "grefine-rt bundle fetch" in one_sentence(error)


@pytest.mark.parametrize(
    "path",
    [
        "../out.onnx",
        "a/../../out.onnx",
        "/etc/out.onnx",
        "a\\out.onnx",
        "C:out",
        "",
        ".",
        "./a",
        "bundle.json",
    ],
)
def test_paths_out_of_the_bundle_are_refused(folder, path):
    edit(folder, change("files", path, value={"size": 1, "sha256": "0" * 64}))
    with pytest.raises(BundleError, match="which is no path inside the bundle"):
        verify(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"'])
def test_malformed_json_is_refused(folder, text):
    (folder / "bundle.json").write_text(text)
    with pytest.raises(BundleError, match=MENDS) as error:
        verify(folder)
    one_sentence(error)


def test_unreadable_manifest_is_refused(folder):
    (folder / "bundle.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BundleError, match="cannot be read"):
        verify(folder)


def test_missing_file(folder):
    (folder / STEP).unlink()
    for read in (verify, lambda path: Bundle.open(path, "cpu")):
        with pytest.raises(BundleError, match=f"lacks its file '{STEP}'.*{MENDS}") as error:
            read(folder)
        one_sentence(error)


def test_truncated_file(folder):
    data = (folder / STEP).read_bytes()
    (folder / STEP).write_bytes(data[:-7])
    for read in (verify, lambda path: Bundle.open(path, "cpu")):
        with pytest.raises(BundleError, match=f"has {len(data) - 7} bytes instead of {len(data)}.*{MENDS}"):
            read(folder)


def test_changed_byte_is_found_before_anything_runs(folder):
    flip_byte(folder / STEP)
    with pytest.raises(BundleError, match=f"'{STEP}' was changed.*{MENDS}") as error:
        verify(folder)
    one_sentence(error)
    bundle = Bundle.open(folder, "cpu")
    bundle.engine("inpaint_encode")
    with pytest.raises(BundleError, match=f"'{STEP}' was changed"):
        bundle.engine("inpaint_step")


def test_a_changed_manifest_is_found(folder):
    edit(folder, lambda data: data["plan"].update(tau=0.123))
    with pytest.raises(
        BundleError, match=r"bundle\.json of bundle 'tiny' was changed after.*" + MENDS
    ) as error:
        verify(folder)
    one_sentence(error)
    edit(folder, lambda data: data.update(checksum=None))  # of a bundle from before there were checksums
    assert verify(folder).plan.tau == 0.123


def test_a_manifest_in_another_order_is_the_same(folder):
    """As a later version would write it, with keys that this one does not know of left out."""
    data = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps(dict(reversed(data.items()))))
    verify(folder)


def test_the_embedded_bundle_is_mended_by_another_command(folder, monkeypatch):
    monkeypatch.setattr(store, "_embedded_roots", lambda: (folder.parent,))
    flip_byte(folder / STEP)
    with pytest.raises(
        BundleError,
        match=r"run 'pip install --force-reinstall --no-deps \.' in the checkout of grefine-rt to get it",
    ):
        verify(folder)


def test_changed_tokenizer_is_found(folder):
    flip_byte(folder / "tokenizers" / "words.json")
    with pytest.raises(BundleError, match="was changed"):
        Bundle.open(folder, "cpu").tokenizer("inpaint_text")


def test_external_data_belongs_to_its_graph(folder):
    weights = np.ones((1, 3, 1, 1), np.float32)
    graph = tiny.model("g (float[b,3,H,W] image) => (float[b,3,H,W] y) { y = Add(image, k) }", {"k": weights})
    path = folder / "components" / "perceptual.onnx"
    path.unlink()
    onnx.save(graph, path, save_as_external_data=True, location="perceptual.onnx.data", size_threshold=0)
    manifest = write(folder, tiny.manifest())
    assert manifest.files_of("alignment_image") == (
        "components/perceptual.onnx",
        "components/perceptual.onnx.data",
    )
    image = np.zeros((1, 3, 2, 2), np.float32)
    np.testing.assert_array_equal(Bundle.open(folder).engine("perceptual").run({"image": image})["y"], 1)
    flip_byte(folder / "components" / "perceptual.onnx.data")
    with pytest.raises(BundleError, match=r"perceptual\.onnx\.data' was changed"):
        Bundle.open(folder).engine("perceptual")


def test_external_data_must_be_listed(folder):
    weights = np.ones((1, 3, 1, 1), np.float32)
    graph = tiny.model("g (float[b,3,H,W] image) => (float[b,3,H,W] y) { y = Add(image, k) }", {"k": weights})
    path = folder / "components" / "perceptual.onnx"
    path.unlink()
    onnx.save(graph, path, save_as_external_data=True, location="perceptual.onnx.data", size_threshold=0)
    (folder / "components" / "perceptual.onnx.data").rename(folder.parent / "kept")
    write(folder, tiny.manifest())
    (folder.parent / "kept").rename(folder / "components" / "perceptual.onnx.data")
    with pytest.raises(
        BundleError, match=r"reads 'perceptual\.onnx\.data', which bundle\.json does not list"
    ):
        Bundle.open(folder).engine("perceptual")


def test_extra_file(folder):
    (folder / "components" / "stray.onnx").write_bytes(b"x")
    with pytest.raises(
        BundleError, match=r"has the file 'components/stray\.onnx'.*delete it, or run"
    ) as error:
        verify(folder)
    one_sentence(error)


def test_engines_built_here_are_not_part_of_the_bundle(folder):
    (folder / "engines" / "sm89").mkdir(parents=True)
    (folder / "engines" / "sm89" / "inpaint_step.engine").write_bytes(b"x")
    verify(folder)
    assert not any(path.startswith("engines") for path in write(folder, tiny.manifest()).files)


def test_write_takes_a_manifest_or_its_json(folder, made):
    manifest = verify(made)
    (folder / "bundle.json").unlink()
    assert write(folder, manifest) == manifest
    (folder / STEP).unlink()
    before = (folder / "bundle.json").read_text()
    with pytest.raises(BundleError, match=f"SHA-256 of file '{STEP}'"):
        write(folder, manifest)
    assert (folder / "bundle.json").read_text() == before
    assert not list(folder.glob("*.part"))


def test_find_by_folder_name_and_hub_id(folder, cache):
    assert find_bundle(folder) == folder
    assert find_bundle(str(folder)) == folder
    for name in ("mine", "someone/sdxl"):
        shutil.copytree(folder, bundle_dir(name))
        assert find_bundle(name) == bundle_dir(name)
        assert bundle_dir(name).is_relative_to(cache)
        assert list_bundles()[name] == bundle_dir(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("someone/big-model", r"run 'grefine-rt bundle fetch someone/big-model'"),
        (
            "nothing",
            r"is here \(there is: mini\): run 'grefine-rt bundle fetch ADDRESS', or give",
        ),
        ("/no/such/folder", "No bundle folder '/no/such/folder' exists"),
    ],
)
def test_find_says_what_to_do(name, message):
    with pytest.raises(BundleError, match=message) as error:
        find_bundle(name)
    one_sentence(error)


def test_folder_without_manifest(tmp_path):
    with pytest.raises(BundleError, match=r"has no bundle\.json"):
        find_bundle(tmp_path)


def test_embedded_names_come_first(folder, monkeypatch, tmp_path):
    """The package's own folder, then the source checkout, then the cache."""
    package = tmp_path / "src" / "runtime" / "grefine_rt"
    monkeypatch.setattr(store, "_PACKAGE", package)
    shutil.copytree(folder, bundle_dir("mini"))
    assert find_bundle("mini") == bundle_dir("mini")
    for root in (tmp_path / "src" / "engines" / "mini", package / "bundles" / "mini"):
        shutil.copytree(folder, root)
        assert find_bundle("mini") == root


def test_components_load_late_and_once(folder):
    bundle = Bundle.open(folder, "cpu", threads=1)
    assert not bundle._engines
    with ThreadPoolExecutor(8) as pool:
        engines = list(pool.map(bundle.engine, ["inpaint_step", "perceptual", "alignment_image"] * 8))
    assert len({id(engine) for engine in engines}) == 2
    assert bundle.engine("perceptual") is bundle.engine("alignment_image")
    assert bundle.has("perceptual")
    assert not bundle.has("ip_iqa_image")


def test_tokenizers_load_once(folder):
    bundle = Bundle.open(folder, "cpu")
    (tokenizer,) = bundle.tokenizer("inpaint_text")
    assert tokenizer.encode("red cat").tolist()[:4] == [0, 2, 3, 1]
    assert bundle.tokenizer("inpaint_text")[0] is tokenizer


def test_components_that_are_not_there(folder):
    bundle = Bundle.open(folder, "cpu")
    with pytest.raises(BundleError, match=r"no component 'ip_iqa_image'.*grefine-rt bundle show"):
        bundle.engine("ip_iqa_image")
    with pytest.raises(BundleError, match="no tokenizer for 'ip_iqa_text'"):
        bundle.tokenizer("ip_iqa_text")


def test_open_refuses_a_device_before_loading(folder):
    with pytest.raises(DeviceError, match="Unknown device"):
        Bundle.open(folder, "tpu")


def test_large_files_are_hashed_once_while_untouched(folder, monkeypatch, cache):
    hashed = []
    sha256 = files.sha256
    for module in (files, store):
        monkeypatch.setattr(module, "sha256", lambda path: hashed.append(path.name) or sha256(path))
    Bundle.open(folder).engine("inpaint_step")
    Bundle.open(folder).engine("inpaint_step")
    assert hashed == ["inpaint_step.onnx"] * 2  # small ones: every time

    monkeypatch.setattr(files, "_STAMP_FROM", 0)
    hashed.clear()
    Bundle.open(folder).engine("inpaint_step")
    Bundle.open(folder).engine("inpaint_step")
    assert hashed == ["inpaint_step.onnx"]
    assert list((cache / "verified").iterdir())
    os.utime(folder / STEP, ns=(1, 1))
    Bundle.open(folder).engine("inpaint_step")
    assert hashed == ["inpaint_step.onnx"] * 2
    verify(folder)
    assert hashed.count("inpaint_step.onnx") == 3  # verify trusts no stamp


def test_cache_that_cannot_be_written_does_no_harm(folder, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GREFINE_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(files, "_STAMP_FROM", 0)
    Bundle.open(folder, "cpu").engine("inpaint_step")
