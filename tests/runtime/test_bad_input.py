"""Whatever a user hands in: it works, or one clear sentence says why not. Never a traceback."""

import json
import os
import re
import shutil
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tests.support.fake_bundle import scene
from tests.support.processes import finish, start

PROMPT = "a house, the sea"
ROWS = [["house", "house", "sea", "sea"]] * 4


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "scene.png"
    Image.fromarray(scene(ROWS)).save(path)
    return path


def one_error(done, code=1):
    """The one line on standard error of a run that failed as it should."""
    exit_code, stdout, stderr = (
        done if isinstance(done, tuple) else (done.exit_code, done.stdout, done.stderr)
    )
    assert exit_code == code, stderr
    assert stdout == ""
    assert re.fullmatch(r"error: [^\n]{20,}\.\n", stderr), stderr
    return stderr


def png_header(width, height):
    """A PNG file that claims a size and holds almost no data."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


BAD_PICTURES = {
    "missing": (None, "no image"),
    "empty": (b"", "is empty"),
    "text": (b"This is no picture. " * 50, "not an image"),
    "random": (bytes(np.random.default_rng(0).integers(0, 256, 5000, np.uint8)), "not an image"),
    "truncated": ("truncated", "damaged or incomplete"),
    "one_pixel": ("one", "1 x 1 pixels"),
    "bomb": (png_header(20_000, 20_000), "million pixels"),
    "huge_bomb": (png_header(2**31 - 1, 2**31 - 1), "pixels|damaged"),
}


@pytest.mark.parametrize("command", ["refine", "assess"])
@pytest.mark.parametrize("case", BAD_PICTURES)
def test_a_bad_picture_is_one_sentence(run, fake, picture, tmp_path, case, command):
    data, says = BAD_PICTURES[case]
    path = tmp_path / f"{case}.png"
    if data == "truncated":
        noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(noise).save(path)
        path.write_bytes(path.read_bytes()[:4000])
    elif data == "one":
        Image.new("RGB", (1, 1)).save(path)
    elif data is not None:
        path.write_bytes(data)
    before = sorted(tmp_path.iterdir())
    assert re.search(says, one_error(run(command, path, "-p", PROMPT)))
    assert sorted(tmp_path.iterdir()) == before
    assert fake.loaded == []


def test_a_folder_is_no_picture(run, fake, tmp_path):
    assert "is a folder" in one_error(run("refine", tmp_path, "-p", PROMPT))


def unusual(kind):
    rgb = Image.fromarray(scene(ROWS, 96, 64))
    if kind == "sixteen_bit":
        return Image.fromarray(np.asarray(rgb.convert("L")).astype(np.uint16) * 257), "png", {}
    if kind == "cmyk":
        return rgb.convert("CMYK"), "jpg", {}
    if kind == "palette":
        return rgb.convert("P", palette=Image.Palette.ADAPTIVE), "png", {}
    if kind == "rgba":
        rgba = rgb.convert("RGBA")
        rgba.putalpha(Image.linear_gradient("L").resize(rgb.size))
        return rgba, "png", {}
    if kind == "animated":
        return rgb, "gif", {"save_all": True, "append_images": [rgb.rotate(180)]}
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    return rgb, "jpg", {"exif": exif}


@pytest.mark.parametrize("kind", ["sixteen_bit", "cmyk", "palette", "rgba", "animated", "exif_rotated"])
def test_unusual_pictures_work(run, fake, tmp_path, kind):
    image, suffix, options = unusual(kind)
    path, out = tmp_path / f"{kind}.{suffix}", tmp_path / "out.png"
    image.save(path, **options)
    done = run("refine", path, "-p", PROMPT, "-o", out, "--json")
    assert done.exit_code == 0, done.stderr
    json.loads(done.stdout)
    assert all(line.startswith("note: ") for line in done.stderr.splitlines())
    with Image.open(out) as result:
        assert result.size == ((64, 96) if kind == "exif_rotated" else (96, 64))
        assert result.mode == ("RGBA" if kind == "rgba" else "RGB")
        if kind == "rgba":
            np.testing.assert_array_equal(np.asarray(result)[..., 3], np.asarray(image)[..., 3])


@pytest.mark.parametrize("prompt", ["", "   ", "<lora:style:1>"])
def test_an_empty_prompt_is_one_sentence(run, fake, picture, prompt):
    assert "prompt is empty" in one_error(run("refine", picture, "--prompt", prompt))
    assert fake.loaded == []


def test_no_prompt_at_all_is_wrong_usage(run, fake, picture):
    message = one_error(run("refine", picture), code=2)
    assert "--prompt" in message
    assert "scene.txt" in message


@pytest.mark.parametrize(
    ("data", "says"), [(b"", "is empty"), (b"\xff\xfe\xfa", "UTF-8"), (b" \n ", "is empty")]
)
def test_a_bad_prompt_file_is_one_sentence(run, fake, picture, data, says):
    picture.with_suffix(".txt").write_bytes(data)
    message = one_error(run("refine", picture))
    assert says in message
    assert "scene.txt" in message


@pytest.mark.parametrize(
    "prompt",
    [
        ("a house, the sea, a tall tree, " * 400)[:10_000],
        "🏠 🌊",
        "дом у моря",
        "海辺の家",
        "بيت على البحر",
        "((a house, [the sea",
        "a house)), the sea]]",
        "a (house:",
        "\udcff a house",
        "a house\nthe sea\x00\x1b[31m",
    ],
)
def test_unusual_prompts_work(run, fake, picture, prompt):
    done = run("refine", picture, "-p", prompt, "--json", "--report", picture.with_name("report.html"))
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["prompt"] == prompt
    assert all(line.startswith("note: ") for line in done.stderr.splitlines())


def test_an_output_that_cannot_be_written_is_told_before_anything_runs(run, fake, picture, tmp_path):
    (tmp_path / "file").write_text("")
    cases = {
        tmp_path / "no" / "folder" / "out.png": "no folder",
        tmp_path: "overwrite the input",  # a folder holds results by the names of their pictures
        tmp_path / "out.xyz": "no known image format",
        tmp_path / "out": "no known image format",
        tmp_path / "file" / "out.png": "folder",
        picture: "overwrite the input",
        tmp_path / "sub" / ".." / "scene.png": "overwrite the input|no folder",
    }
    before = picture.read_bytes()
    for out, says in cases.items():
        assert re.search(says, one_error(run("refine", picture, "-p", PROMPT, "-o", out)))
    assert picture.read_bytes() == before
    assert fake.loaded == []


def test_no_other_output_replaces_an_input_either(run, fake, picture, tmp_path):
    prompt = picture.with_suffix(".txt")
    prompt.write_text(PROMPT, encoding="utf-8")
    for command in ("refine", "assess"):
        for target in (picture, prompt):
            assert "overwrite" in one_error(run(command, picture, "--report", target))
    out = tmp_path / "out.png"
    assert "both" in one_error(run("refine", picture, "-o", out, "--report", out))
    for folder in (picture, picture / "maps"):
        assert "cannot be made" in one_error(run("assess", picture, "--maps", folder))
    assert fake.loaded == []
    assert prompt.read_text(encoding="utf-8") == PROMPT


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_write_permission_is_one_sentence(run, fake, picture, tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    assert "not writable" in one_error(run("refine", picture, "-p", PROMPT, "-o", folder / "out.png"))


def test_jpeg_for_a_transparent_picture_is_told_before_anything_runs(run, fake, tmp_path):
    path = tmp_path / "clear.png"
    image, *_ = unusual("rgba")
    image.save(path)
    assert "transparency" in one_error(run("refine", path, "-p", PROMPT, "-o", tmp_path / "out.jpg"))
    assert fake.loaded == []


@pytest.mark.parametrize(
    "options",
    [
        *(
            "--tau 5",
            "--tau high",
            "--tau nan",
            "--drafts 65",
            "--stages 3",
            "--interval 0.5 0.4",
            "--crop square",
        ),
        "--strength 0.5 --reading strength_rule=printed",
        *(
            "--reading joining",
            "--reading joining=sum",
            "--reading tau=1",
            "--reading =",
            "--reading keep_good=maybe",
        ),
    ],
)
def test_options_out_of_range_are_wrong_usage_in_one_sentence(run, fake, picture, options):
    one_error(run("refine", picture, "-p", PROMPT, *options.split()), code=2)


@pytest.mark.parametrize(
    "arguments",
    [
        "refine",
        "refine x.png --stages",
        "refine x.png --interval 1",
        "refine x.png --seed one",
        "redo",
        "",
        "bundle",
    ],
)
def test_wrong_usage_exits_with_2(run, arguments):
    done = run(*arguments.split())
    assert done.exit_code == 2
    assert "Traceback" not in done.stderr + done.stdout


def test_an_unexpected_failure_is_one_line_too(run, fake, picture, monkeypatch):
    def fail(**arrays):
        raise RuntimeError("first line\nsecond line")

    fake.engines["perceptual"]._function = fail
    done = run("refine", picture, "-p", PROMPT)
    assert done.exit_code == 1
    assert done.stderr == (
        "error: Unexpected RuntimeError: first line second line (set GREFINE_DEBUG=1 to see where it arose)\n"
    )
    assert not picture.with_name("scene.refined.png").exists()


def test_an_unknown_bundle_is_one_sentence(run, picture, tmp_path):
    assert "'nowhere'" in one_error(run("refine", picture, "-p", PROMPT, "--bundle", "nowhere"))
    assert "no bundle.json" in one_error(run("assess", picture, "-p", PROMPT, "--bundle", tmp_path))
    for command in ("show", "verify"):
        assert "'nowhere'" in one_error(run("bundle", command, "nowhere"))


# On the embedded bundle


@pytest.mark.parametrize("device", ["abacus", "cuda:x", "cuda"])
def test_a_device_that_is_not_there_is_one_sentence(run, mini, picture, device):
    import onnxruntime

    if device == "cuda" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime drives GPUs")
    assert f"'{device}'" in one_error(run("refine", picture, "-p", PROMPT, "--device", device))


@pytest.mark.parametrize("harm", ["changed", "missing", "extra", "manifest"])
def test_a_harmed_bundle_is_one_sentence(run, mini, picture, tmp_path, harm):
    folder = shutil.copytree(mini, tmp_path / "mini")
    manifest = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    victim = folder / manifest["components"]["perceptual"]
    if harm == "changed":
        data = bytearray(victim.read_bytes())
        data[len(data) // 2] ^= 1
        victim.write_bytes(data)
    elif harm == "missing":
        victim.unlink()
    elif harm == "extra":
        victim.write_bytes(victim.read_bytes() + b"\x00")
    else:
        (folder / "bundle.json").write_text("{", encoding="utf-8")
    for arguments in (
        ("refine", picture, "-p", PROMPT, "--bundle", folder),
        ("bundle", "verify", folder),
    ):
        message = one_error(run(*arguments))
        assert harm == "manifest" or "perceptual" in message
        assert "grefine-" in message
    assert not picture.with_name("scene.refined.png").exists()


def test_the_real_command_says_one_line(mini, tmp_path):
    path = tmp_path / "broken.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    assert "broken.png" in one_error(finish(start("refine", path, "-p", PROMPT)))
    assert "nowhere" in one_error(finish(start("refine", tmp_path / "nowhere.png", "-p", PROMPT)))
