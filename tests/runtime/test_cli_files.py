"""Files in, files out: prompts from files, masks, formats, streams, and what is never replaced."""

import json
import os
import signal
import stat
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from grefine_rt import Refiner
from grefine_rt.errors import OptionError, OutputError
from grefine_rt.files import write_whole
from grefine_rt.imaging.encode import Encoding, our_entry
from grefine_rt.imaging.image import load
from grefine_rt.imaging.mask_source import as_mask
from tests.support import generator_files as made
from tests.support.fake_bundle import scene
from tests.support.processes import ENVIRONMENT, SLOW, finish, start

PROMPT = "a house, the sea"
POOR = [
    ["house", "house", "sea", "sea"],
    ["house", "poor", "sea", "sea"],
    *[["house", "house", "sea", "sea"]] * 2,
]
TEXT = f"{PROMPT}\nNegative prompt: fog\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 42, Size: 128x128"
UNIX = pytest.mark.skipif(os.name == "nt", reason="files of Unix")


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "scene.png"
    path.write_bytes(made.png({"parameters": TEXT}, Image.fromarray(scene(POOR))))
    return path


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def half(path, side="left", mode="L"):
    """A mask whose one half is white."""
    values = np.zeros((128, 128), np.uint8)
    values[:, :64] = 255
    Image.fromarray(values if side == "left" else 255 - values).convert(mode).save(path)
    return path


# Prompts


@pytest.mark.parametrize("name", made.FILES)
def test_the_prompt_of_each_generator_is_shown(run, tmp_path, name):
    path = tmp_path / name
    path.write_bytes(made.FILES[name]())
    done = run("assess", path, "--show-prompt", "--json")
    assert done.exit_code == 0
    said = json.loads(done.stdout)
    assert said["prompt"] == made.PROMPT
    assert said["prompt_source"]
    people = run("assess", path, "--show-prompt").stdout
    assert made.PROMPT in people
    assert said["prompt_source"] in people


def test_the_option_comes_before_the_side_file_and_that_before_the_picture(run, fake, picture):
    def prompt_of(*arguments):
        done = run("refine", picture, *arguments, "--json", "--overwrite")
        assert done.exit_code == 0, done.stderr
        return json.loads(done.stdout), done.stderr

    said, notes = prompt_of()
    assert (said["prompt"], said["negative"]) == (PROMPT, "fog")
    assert "PNG text 'parameters' (AUTOMATIC1111 layout)" in said["prompt_source"]
    assert "note: The prompt and the negative prompt come from PNG text 'parameters'" in notes
    picture.with_suffix(".txt").write_text(TEXT.replace(PROMPT, "a house"))
    said, notes = prompt_of()
    assert (said["prompt"], said["negative"]) == ("a house", "fog")
    assert "come from" not in notes
    said, _ = prompt_of("--negative", "")
    assert "negative" not in said
    said, _ = prompt_of("-p", "the sea")
    assert said["prompt"] == "the sea"
    assert "negative" not in said


def test_a_picture_without_a_prompt_says_where_to_write_one(run, fake, tmp_path):
    path = tmp_path / "bare.png"
    Image.fromarray(scene(POOR)).save(path)
    for arguments in (("refine",), ("assess",), ("assess", "--show-prompt")):
        done = run(arguments[0], path, *arguments[1:])
        assert done.exit_code == 2
        assert done.stderr.count("\n") == 1
        assert "bare.txt" in done.stderr
    assert fake.loaded == []


def test_a_negative_prompt_reaches_both_stages(fake, monkeypatch):
    from grefine_rt import PlanOptions, RefineOptions
    from grefine_rt.diffusion import regenerate, restore

    asked = []

    def condition(bundle, component, prompt, negative):
        asked.append((component, negative))
        return original(bundle, component, prompt, negative)

    original = regenerate.condition  # type: ignore[attr-defined]
    monkeypatch.setattr(regenerate, "condition", condition)
    monkeypatch.setattr(restore, "condition", condition)
    options = RefineOptions(plan=PlanOptions(negative="fog, (rain:1.2)"))
    with Refiner(fake) as refiner:
        refiner.refine(scene(POOR), PROMPT, options=options)
        assert ("inpaint_text", "fog, (rain:1.2)") in asked
        # This bundle's stage 2 is not guided, so it reads none.
        assert ("restore_text", None) in asked
        monkeypatch.setattr(restore, "rows_of", guided(restore.rows_of))  # type: ignore[attr-defined]
        refiner.refine(scene(POOR), PROMPT, options=options)
        assert ("restore_text", "fog, (rain:1.2), blurry") in asked
        asked.clear()
        refiner.refine(scene(POOR), PROMPT)
        assert ("inpaint_text", None) in asked
    with pytest.raises(OptionError, match="negative"):
        PlanOptions(negative=3)


def guided(rows_of):
    return lambda stage, strength: rows_of(replace(stage, guidance=2.0), strength)


# What comes out


def test_the_result_keeps_what_came_in_and_says_what_was_done(run, fake, picture):
    done = run("refine", picture, "--seed", 3, "--json")
    out = load(picture.with_name("scene.refined.png"))
    texts = dict(out.metadata.texts)
    assert texts["parameters"] == TEXT
    entry = our_entry(out.metadata)
    said = json.loads(done.stdout)
    assert entry["seed"] == 3
    assert entry["before"]["perceptual"] == pytest.approx(said["before"]["perceptual"], abs=1e-4)
    assert entry["after"]["alignment"] == pytest.approx(said["after"]["alignment"], abs=1e-4)
    assert (entry["bundle"], entry["prompt"], entry["negative"]) == ("fake 1", PROMPT, "fog")


def test_the_format_is_the_pictures_own_unless_told_otherwise(run, fake, tmp_path):
    jpeg = tmp_path / "photo.JPG"
    jpeg.write_bytes(
        made.saved("JPEG", Image.fromarray(scene(POOR)), exif=made.comment_exif(TEXT), quality=95)
    )
    assert run("refine", jpeg).exit_code == 0
    written = tmp_path / "photo.refined.JPG"
    assert Image.open(written).format == "JPEG"
    assert run("refine", jpeg, "--format", "webp", "--quality", 50).exit_code == 0
    assert Image.open(tmp_path / "photo.refined.webp").format == "WEBP"
    assert "lossless" in run("refine", jpeg, "-o", tmp_path / "x.png", "--quality", 50).stderr
    assert run("refine", jpeg, "-o", tmp_path / "c.jpg", "--provenance", "composite").exit_code == 0
    assert b"compositeWithTrainedAlgorithmicMedia" in load(tmp_path / "c.jpg").metadata.xmp


def test_a_result_saves_itself(fake, tmp_path, picture):
    with Refiner(fake) as refiner:
        result = refiner.refine(picture, PROMPT)
    out = tmp_path / "out.webp"
    assert "no text chunks" not in " ".join(result.save(out, Encoding(quality=90)))
    assert our_entry(load(out).metadata)["run"] == result.run
    with pytest.raises(OutputError, match="exists already"):
        result.save(out)
    result.save(out, overwrite=True)
    with pytest.raises(OutputError, match="overwrite the input"):
        result.save(picture, overwrite=True, not_over=[picture])


# Masks


def test_only_the_mask_changes(run, fake, picture, tmp_path):
    out = tmp_path / "out.png"
    kept = tmp_path / "mask.png"
    mask = half(tmp_path / "m.png")
    done = run("refine", picture, "--mask", mask, "-o", out, "--save-mask", kept, "--json")
    assert done.exit_code == 0, done.stderr
    before, after = pixels(picture), pixels(out)
    assert (before[:, 64:] == after[:, 64:]).all()
    assert (before[:, :56] != after[:, :56]).any(axis=2).mean() > 0.9
    assert (as_mask(kept, (128, 128)) == as_mask(mask, (128, 128))).all()
    assert json.loads(done.stdout)["mask"]["coverage"] == 0.5


def test_what_is_protected_never_changes(run, fake, picture, tmp_path):
    out = tmp_path / "out.png"
    assert run("refine", picture, "--protect", half(tmp_path / "p.png", mode="RGB"), "-o", out).exit_code == 0
    before, after = pixels(picture), pixels(out)
    assert (before[:, :64] == after[:, :64]).all()
    assert (before[:, 80:] != after[:, 80:]).any()
    both = ("--mask", half(tmp_path / "m.png", "right"), "--protect", half(tmp_path / "p.png", "right"))
    assert run("refine", picture, *both, "-o", tmp_path / "none.png").exit_code == 0
    assert (pixels(tmp_path / "none.png") == before).all()


def test_masks_in_python_have_any_type(fake, picture):
    values = np.zeros((128, 128), bool)
    values[:, :64] = True
    with Refiner(fake) as refiner:
        wanted = np.asarray(refiner.refine(picture, PROMPT, mask=values).image)
        for mask in (
            values.astype(np.uint8),
            values.astype(np.uint8) * 255,
            values.astype(np.uint16) * 65535,
            values.astype(np.float32),
            values[..., None],
            values.tolist(),
            Image.fromarray(values),
            Image.fromarray(values.astype(np.uint8) * 255),
            Image.fromarray(np.dstack([values * 0, values * 0, values * 0, values * 255]).astype(np.uint8)),
        ):
            assert (np.asarray(refiner.refine(picture, PROMPT, mask=mask).image) == wanted).all()


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (np.zeros((64, 64), bool), "64 x 64 pixels, but the picture has 128 x 128"),
        (np.full((128, 128), 2.0), "must lie in"),
        (np.full((128, 128), np.nan), "must lie in"),
        (np.full((128, 128), -1), "beyond 0..65535"),
        (np.zeros(128), "must be"),
        (np.zeros((128, 128), complex), "type complex128"),
        (3, "not int"),
    ],
)
def test_bad_masks_are_one_sentence(mask, words):
    with pytest.raises(OptionError, match=words):
        as_mask(mask, (128, 128))


def test_a_bad_mask_file_is_one_sentence(run, fake, picture, tmp_path):
    small = tmp_path / "small.png"
    Image.new("L", (20, 20)).save(small)
    for arguments, words in (
        ((small,), "20 x 20"),
        ((tmp_path / "none.png",), "no image"),
        ((tmp_path,), "folder"),
    ):
        done = run("refine", picture, "--mask", *arguments)
        assert done.exit_code in (1, 2)
        assert done.stderr.count("\n") == 1
        assert words in done.stderr
    assert (
        "overwrite the input"
        in run("refine", picture, "--mask", half(tmp_path / "m.png"), "-o", tmp_path / "m.png").stderr
    )


# Files that are kept


@UNIX
def test_the_mode_of_a_file_that_is_replaced_is_kept(run, fake, picture, tmp_path):
    out = tmp_path / "out.png"
    out.write_bytes(b"old")
    out.chmod(0o640)
    assert run("refine", picture, "-o", out, "--overwrite").exit_code == 0
    assert stat.S_IMODE(out.stat().st_mode) == 0o640


@UNIX
def test_a_link_stays_and_what_it_leads_to_is_written(run, fake, picture, tmp_path):
    (tmp_path / "store").mkdir()
    target, link = tmp_path / "store" / "real.png", tmp_path / "link.png"
    link.symlink_to(target)
    assert run("refine", picture, "-o", link, "--overwrite").exit_code == 0
    assert link.is_symlink()
    assert Image.open(target).size == (128, 128)
    assert sorted(path.name for path in tmp_path.rglob("*.grefine-tmp")) == []


@UNIX
def test_a_fifo_is_written_to_and_read_from(run, fake, picture, tmp_path):
    fifo = tmp_path / "pipe.png"
    os.mkfifo(fifo)
    got = []
    reader = threading.Thread(target=lambda: got.append(fifo.read_bytes()))
    reader.start()
    assert run("refine", picture, "-o", fifo).exit_code == 0
    reader.join(20)
    assert stat.S_ISFIFO(fifo.stat().st_mode)
    assert load(got[0]).size == (128, 128)
    writer = threading.Thread(target=lambda: fifo.write_bytes(picture.read_bytes()))
    writer.start()
    assert run("assess", fifo, "--show-prompt").exit_code == 0
    writer.join(20)


@UNIX
def test_a_device_is_written_to(run, fake, picture):
    before = os.stat("/dev/null").st_ino
    assert run("refine", picture, "-o", "/dev/null").exit_code == 0
    assert os.stat("/dev/null").st_ino == before
    full = run("refine", picture, "-o", "/dev/full", "--format", "png")
    assert (full.exit_code, full.stderr.count("cannot be written")) == (1, 1)


@UNIX
def test_what_a_killed_run_left_is_cleaned_by_the_next(tmp_path):
    out = tmp_path / "out.bin"
    left = "import os, sys; from pathlib import Path; from grefine_rt.files import written_whole\n"
    left += "with written_whole(Path(sys.argv[1])) as path: path.write_bytes(b'half'); print('ready', flush=True); "
    left += "sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", left, str(out)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=ENVIRONMENT,
    )
    process.stdout.readline()
    (temporary,) = tmp_path.iterdir()
    sweep = [
        sys.executable,
        "-c",
        "import sys; from grefine_rt.files import write_whole; write_whole(sys.argv[1], b'x')",
    ]
    subprocess.run([*sweep, str(tmp_path / "other")], env=ENVIRONMENT, check=True)
    assert temporary.exists()  # its writer lives
    process.kill()
    process.wait()
    process.stdin.close()
    subprocess.run([*sweep, str(tmp_path / "other")], env=ENVIRONMENT, check=True)
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_files_of_others_are_never_cleaned(tmp_path):
    for name in (".x.tmp", ".out.0123.grefine-tmp", "out.grefine-tmp"):
        (tmp_path / name).write_text("")
    write_whole(tmp_path / "a", b"")
    assert len(list(tmp_path.iterdir())) == 4


# Streams


def test_standard_input_and_output(picture, tmp_path):
    command = [sys.executable, "-c", SLOW.replace("time.sleep(0.3)", ""), "refine", "-", "-o", "-"]
    done = subprocess.run(
        command, input=picture.read_bytes(), capture_output=True, env=ENVIRONMENT, check=True
    )
    result = load(done.stdout)
    assert result.metadata.format == "PNG"
    assert dict(result.metadata.texts)["parameters"] == TEXT
    assert b"perceptual" in done.stderr


def test_standard_output_has_one_owner(run, fake, picture):
    done = run("refine", picture, "-o", "-", "--json")
    assert (done.exit_code, "standard output" in done.stderr) == (2, True)


@UNIX
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_leave_nothing(picture, tmp_path, number):
    folder = tmp_path / "results"
    folder.mkdir()
    process = start(
        *("refine", picture, "-p", PROMPT, "-o", folder / "out.png", "--stage2-steps", 100, "--stages", "2"),
        program=("-c", SLOW),
    )
    assert process.stderr.readline() == "step\n"
    process.send_signal(number)
    code, stdout, stderr = finish(process)
    assert code == 128 + number
    assert stdout == ""
    assert "Traceback" not in stderr
    assert list(folder.iterdir()) == []


@UNIX
@pytest.mark.parametrize("arguments", ["--help", "refine --help", "--version", "doctor"])
def test_a_full_device_is_one_line(arguments):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "grefine_rt.cli", *arguments.split()],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["error: Standard output cannot be written: No space left on device."]


def test_standard_input_without_a_picture(run, fake):
    done = run("refine", "-", "-p", "x")
    assert (done.exit_code, "empty" in done.stderr) == (1, True)
