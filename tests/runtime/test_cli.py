import json
import os
import signal
import threading
import time

import numpy as np
import pytest
from PIL import Image

from grefine_rt import AssessOptions, Refiner, __version__
from grefine_rt.cli import app, output
from tests.support.fake_bundle import scene
from tests.support.paths import ROOT
from tests.support.processes import SLOW, finish, start

GOOD = [["house", "house", "sea", "sea"]] * 4
POOR = [GOOD[0], ["house", "poor", "sea", "sea"], *GOOD[2:]]
PROMPT = "a house, the sea"
REFINE_KEYS = {
    *("input", "output", "prompt", "seed", "bundle", "device", "backends", "before", "after"),
    *("phrases", "mask", "options", "plan", "reasons", "notes", "summary", "timings_ms"),
}
ASSESS_KEYS = REFINE_KEYS - {"output", "after", "options", "plan", "reasons", "notes", "summary"}


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "scene.png"
    Image.fromarray(scene(POOR)).save(path)
    return path


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


# refine


def test_refine_prints_one_json_object_with_exactly_the_documented_keys(run, fake, picture, tmp_path):
    out = tmp_path / "out.png"
    done = run("refine", picture, "-p", PROMPT, "-o", out, "--seed", 7, "--json")
    assert done.exit_code == 0
    assert all(line.startswith("note: ") for line in done.stderr.splitlines())
    result = json.loads(done.stdout)
    assert set(result) == REFINE_KEYS
    assert (result["input"], result["output"]) == (str(picture), str(out))
    assert (result["prompt"], result["seed"]) == (PROMPT, 7)
    assert (result["bundle"], result["device"]) == ("fake", "cpu")
    for scores in (result["before"], result["after"]):
        assert set(scores) == {"perceptual", "alignment", "ip_iqa", "scores"}
        assert 0 <= scores["perceptual"] <= 1
        assert 0 <= scores["alignment"] <= 1
    assert result["after"]["perceptual"] > result["before"]["perceptual"]
    assert [phrase["noun"] for phrase in result["phrases"]] == ["house", "sea"]
    for phrase in result["phrases"]:
        assert set(phrase) == {"text", "noun", "ancestor", "noun_score", "phrase_score", "defect"}
        assert phrase["defect"] in ("noun", "adjective", None)
    assert set(result["mask"]) == {"coverage", "boxes"}
    assert 0 < result["mask"]["coverage"] < 1
    assert all(len(box) == 4 for box in result["mask"]["boxes"])
    keys = {"stage1_steps", "stage2_steps", "restore_first", "keep_good", "strength", "prompt"}
    assert set(result["plan"]) == keys
    assert result["plan"]["stage1_steps"] == fake.engines["inpaint_step"].calls > 0
    assert result["plan"]["stage2_steps"] == fake.engines["restore_step"].calls > 0
    assert result["timings_ms"]["total"] >= result["timings_ms"]["load"] > 0
    assert (pixels(out) != pixels(picture)).any()


@pytest.mark.parametrize(("stages", "skipped"), [("1", "stage2_steps"), ("2", "stage1_steps")])
def test_a_stage_that_is_off_has_no_steps_in_the_json(run, fake, picture, stages, skipped):
    plan = json.loads(run("refine", picture, "-p", PROMPT, "--stages", stages, "--json").stdout)["plan"]
    assert plan[skipped] == 0
    assert plan["stage1_steps"] + plan["stage2_steps"] > 0


def test_the_default_output_lies_beside_the_input_and_is_not_replaced_unasked(run, fake, picture):
    out = picture.with_name("scene.refined.png")
    before = picture.read_bytes()
    assert run("refine", picture, "-p", PROMPT).exit_code == 0
    first = out.read_bytes()
    again = run("refine", picture, "-p", PROMPT, "--seed", 1)
    assert again.exit_code == 1
    assert "--overwrite" in again.stderr
    assert out.read_bytes() == first
    assert run("refine", picture, "-p", PROMPT, "--seed", 1, "--overwrite").exit_code == 0
    assert out.read_bytes() != first
    assert picture.read_bytes() == before


def test_the_same_run_repeats_itself_and_another_needs_leave_to_overwrite(run, fake, picture, tmp_path):
    out = tmp_path / "out.png"
    command = ("refine", picture, "-p", PROMPT, "-o", out, "--seed")
    for arguments in ((3,), (3,), (4, "--overwrite")):
        assert run(*command, *arguments).exit_code == 0
        kept = tmp_path / f"kept{len(list(tmp_path.glob('kept*')))}.png"
        kept.write_bytes(out.read_bytes())
    first, second, other = (path.read_bytes() for path in sorted(tmp_path.glob("kept*")))
    assert first == second != other
    for changed in ((5,), (4, "--delta", 0.2), (4, "--negative", "fog")):
        refused = run(*command, *changed)
        assert (refused.exit_code, "exists already" in refused.stderr) == (1, True)
    out.write_bytes(picture.read_bytes())  # no work of ours
    assert run(*command, 4).exit_code == 1
    assert out.read_bytes() == picture.read_bytes()


def test_the_prompt_may_lie_beside_the_picture(run, fake, picture):
    picture.with_suffix(".txt").write_text("\ufeffa house and a tree\n", encoding="utf-8")
    result = json.loads(run("refine", picture, "--json").stdout)
    assert result["prompt"] == "a house and a tree"
    assert {phrase["noun"]: phrase["defect"] for phrase in result["phrases"]}["tree"] == "noun"
    assert "(a tree:1.1)" in result["plan"]["prompt"]
    given = json.loads(run("refine", picture, "-p", PROMPT, "--force", "--json").stdout)
    assert given["prompt"] == PROMPT


def test_people_get_scores_phrases_reasons_time_and_the_file(run, fake, picture):
    done = run("refine", picture, "-p", "a house and a tree")
    assert done.exit_code == 0
    for expected in ("perceptual quality", "prompt alignment", "a tree", "missing", "- The region", "time:"):
        assert expected in done.stdout
    assert f"written: {picture.with_name('scene.refined.png')}" in done.stdout


def test_square_brackets_and_colons_of_the_prompt_are_printed_as_they_are(run, fake, picture):
    done = run("refine", picture, "-p", "a [/bold] :smile: house")
    assert done.exit_code == 0, done.stderr


def test_options_reach_the_runtime(run, fake, picture, monkeypatch):
    seen = []
    refine = Refiner.refine

    def spy(self, image, prompt, seed, options, **more):
        seen.append(options)
        return refine(self, image, prompt, seed, options, **more)

    monkeypatch.setattr(Refiner, "refine", spy)
    switches = (
        "--only perceptual --stages 1 --tau otsu --stage1-steps 3 --strength 0.7 --delta 0.2 --stage2-steps 5"
    )
    switches += " --interval 0 0.5 --grow 2 --all-drafts --bundle other --device cpu --threads 2"
    readings = "joining=product missing_region=free scoring=published factors=product bounds=own"
    readings += " upsampling=bicubic adjective_rule=printed"
    for reading in (*readings.split(), "restore_first=off", "decoding=plain"):
        switches += f" --reading {reading}"
    done = run("refine", picture, "-p", PROMPT, "--json", *switches.split())
    assert done.exit_code == 0, done.stderr
    (options,) = seen
    assert json.loads(done.stdout)["options"] == {
        "indicators": ["perceptual"],
        "stages": [1],
        "tau": "otsu",
        "grow": 2,
        "all_drafts": True,
        "strength_min": 0.7,
        "strength_max": 0.7,
        "strength_rule": "deficit",
        "delta": 0.2,
        "stage1_steps": 3,
        "stage2_steps": 5,
        "interval": [0, 0.5],
        "restore_first": False,
        **dict(reading.split("=") for reading in readings.split()),
        "decoding": "plain",
    }
    assert options.plan.indicators == ("perceptual",)
    assert options.plan.stages == (1,)
    assert not options.plan.restore_first
    assert (options.plan.tau, options.plan.joining, options.plan.missing_region) == (
        "otsu",
        "product",
        "free",
    )
    assert (options.plan.strength_min, options.plan.strength_max, options.plan.delta) == (0.7, 0.7, 0.2)
    assert (options.plan.stage1_steps, options.plan.stage2_steps) == (3, 5)
    assert options.assess == AssessOptions(
        "published", "printed", factors="product", bounds="own", upsampling="bicubic"
    )
    assert options.decoding == "plain"
    assert fake.loaded == [("other", "cpu", 2)]


@pytest.mark.parametrize("command", ["refine", "assess"])
def test_the_reward_as_alignment_score_needs_a_bundle_that_has_it(run, fake, picture, command):
    refused = run(command, picture, "-p", PROMPT, "--reading", "alignment_score=reward")
    assert refused.exit_code == 2
    assert "no ImageReward" in refused.stderr


def test_a_given_strength_is_the_strength(run, fake, picture):
    result = json.loads(run("refine", picture, "-p", PROMPT, "--strength", 0.8, "--json").stdout)
    assert result["plan"]["strength"] == pytest.approx(0.8)
    whole = run("refine", picture, "-p", PROMPT, "--full-image", "--force", "--json")
    assert json.loads(whole.stdout)["mask"]["coverage"] == 1


def test_report_and_maps_are_written(run, fake, picture, tmp_path):
    report, maps = tmp_path / "report.html", tmp_path / "new" / "maps"
    done = run("refine", picture, "-p", PROMPT, "--report", report, "--maps", maps, "--json")
    assert done.exit_code == 0, done.stderr
    json.loads(done.stdout)
    text = report.read_text("utf-8")
    assert "Refinement report" in text
    assert PROMPT in text
    with np.load(maps / "scene.maps.npz") as values:
        names = set(values)
        assert values["perceptual"].shape == values["mask"].shape == (128, 128)
        assert values["perceptual"][40:56, 40:56].max() < 0.3
    assert names == {
        *("perceptual", "alignment", "technical", "rationality", "naturalness", "mask"),
        *("perceptual-after", "alignment-after"),
    }
    assert {path.name for path in maps.glob("*.png")} == {f"scene.{name}.png" for name in names}
    mask = pixels(maps / "scene.mask.png")
    assert set(np.unique(mask)) == {0, 255}


def test_notes_are_part_of_what_is_printed(run, fake, picture, tmp_path):
    grey = tmp_path / "grey.png"
    Image.open(picture).convert("L").save(grey)
    done = run("refine", grey, "-p", PROMPT, "--json")
    json.loads(done.stdout)
    note = "Converted from greyscale to RGB of 8 bits."
    assert json.loads(done.stdout)["notes"][0] == note
    assert done.stderr.startswith(f"note: {note}\n")
    assert all(line.startswith("note: ") for line in done.stderr.splitlines())


def test_there_is_a_progress_bar_on_a_terminal_only(run, fake, picture, monkeypatch):
    seen = []

    class Bars:
        def __init__(self, *columns, **settings):
            assert settings["console"].stderr

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def add_task(self, description, total):
            seen.append((description, 0))
            return 0

        def update(self, task, description, completed):
            seen.append((description, completed))

    monkeypatch.setattr("rich.progress.Progress", Bars)
    assert run("refine", picture, "-p", PROMPT).exit_code == 0
    assert seen == []
    monkeypatch.setattr(output.sys, "stderr", type("Terminal", (), {"isatty": lambda self: True})())  # type: ignore[attr-defined]
    with output.progress({"load": "Reading", "restore": "Restoring"}) as on_step:
        on_step("load", 1, 1)
        on_step("restore", 1, 4)
    assert seen == [("Reading", 0), ("Reading", 1.0), ("Restoring", 1.25)]


# assess


def test_assess_prints_the_same_keys_without_what_it_does_not_do(run, fake, picture, tmp_path):
    done = run("assess", picture, "-p", "a house and a tree", "--json", "--maps", tmp_path / "maps")
    assert (done.exit_code, done.stderr) == (0, "")
    result = json.loads(done.stdout)
    assert set(result) == ASSESS_KEYS
    assert result["mask"]["coverage"] > 0
    assert [phrase["defect"] for phrase in result["phrases"]] == [None, "noun"]
    assert fake.engines["inpaint_step"].calls == fake.engines["restore_step"].calls == 0
    assert sorted(tmp_path.glob("*.png")) == [picture]
    assert len(list((tmp_path / "maps").iterdir())) == 7


def test_assess_for_people_and_as_a_report(run, fake, picture, tmp_path):
    done = run("assess", picture, "-p", PROMPT, "--report", tmp_path / "report.html")
    assert done.exit_code == 0, done.stderr
    assert "perceptual quality" in done.stdout
    assert "after" not in done.stdout
    assert "Assessment report" in (tmp_path / "report.html").read_text("utf-8")


# doctor and the whole


def test_doctor_tries_the_devices(run):
    done = run("doctor", "--json")
    facts = json.loads(done.stdout)
    assert facts["grefine_rt"] == __version__
    assert facts["packages"]["numpy"] == np.__version__
    devices = {entry["device"].partition(":")[0]: entry for entry in facts["devices"]}
    assert devices["cpu"]["works"]
    assert devices["cuda"]["works"] or "cuda" in devices["cuda"]["problem"]
    assert facts["hints"]
    whole = any(entry["works"] for entry in facts["bundles"])
    assert done.exit_code == (0 if whole else 1)
    assert "cpu (onnxruntime): works" in run("doctor").stdout


def test_doctor_fails_when_no_device_works(run):
    done = run("doctor", "--device", "abacus")
    assert done.exit_code == 1
    assert "Unknown device 'abacus'" in done.stdout
    assert done.stderr.startswith("error: Nothing can be refined here, for no device works")


def test_version_and_help(run):
    assert run("--version").stdout == f"grefine-rt {__version__}\n"
    text = run("--help").stdout
    for command in ("refine", "assess", "bundle", "doctor"):
        assert command in text
    names = {command.name or command.callback.__name__ for command in app.registered_commands}
    for command in names:
        assert run(command, "--help").exit_code == 0


def test_the_command_starts_without_what_only_runs_need():
    program = "import json, sys, grefine_rt.cli; print(json.dumps(sorted(sys.modules)))"
    code, stdout, _ = finish(start(program=("-c", program)))
    assert code == 0
    assert not {"numpy", "PIL", "onnxruntime", "nltk", "tokenizers"} & set(json.loads(stdout))


def test_debugging_shows_the_traceback(run, fake, picture, monkeypatch):
    monkeypatch.setattr(Refiner, "refine", lambda *arguments, **options: 1 / 0)
    plain = run("refine", picture, "-p", PROMPT)
    assert plain.exit_code == 1
    assert plain.stderr.count("\n") == 1
    assert "GREFINE_DEBUG=1" in plain.stderr
    monkeypatch.setenv("GREFINE_DEBUG", "1")
    assert "Traceback" in run("refine", picture, "-p", PROMPT).stderr


# Ctrl-C


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
def test_ctrl_c_stops_between_two_steps_and_leaves_nothing(picture, tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    process = start(
        *("refine", picture, "-p", PROMPT, "-o", folder / "out.png", "--stage2-steps", 100, "--json"),
        *("--report", folder / "out.html", "--stages", "2"),
        program=("-c", SLOW),
    )
    assert process.stderr.readline() == "step\n"
    process.send_signal(signal.SIGINT)
    code, stdout, stderr = finish(process)
    assert code == 130
    assert stdout == ""
    assert stderr.splitlines()[-1] == "cancelled"
    assert stderr.count("step") <= 2
    assert list(folder.iterdir()) == []


def test_ctrl_c_while_writing_lets_the_files_be_finished(run, fake, picture, monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    show = output.say_notes

    def interrupt(notes):
        signal.raise_signal(signal.SIGINT)
        show(notes)

    monkeypatch.setattr("grefine_rt.cli.refining.say_notes", interrupt)
    assert run("refine", picture, "-p", PROMPT, "--json").exit_code == 0
    assert picture.with_name("scene.refined.png").is_file()
    assert signal.getsignal(signal.SIGINT) is before


def test_another_thread_leaves_signals_alone():
    before = signal.getsignal(signal.SIGINT)

    class Token:
        def cancel(self):
            raise AssertionError

    def work():
        with output.cancelled_by_ctrl_c(Token()):
            time.sleep(0)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGINT) is before


# On the embedded bundle, as a user runs it


@pytest.fixture
def example(tmp_path):
    """A picture and its prompt, away from the project's own."""
    found = sorted((ROOT / "examples").glob("*.png"))
    path = tmp_path / "example.png"
    if found:
        path.write_bytes(found[0].read_bytes())
    else:
        Image.fromarray(scene(POOR)).save(path)
    path.with_suffix(".txt").write_text("a red house under a yellow sun", encoding="utf-8")
    return path


def test_the_embedded_bundle_refines_and_repeats_itself(mini, example, tmp_path):
    outs = [tmp_path / "first.png", tmp_path / "second.png"]
    for out in outs:
        code, stdout, stderr = finish(start("refine", example, "-o", out, "--seed", 5, "--json"))
        assert code == 0
        assert all(line.startswith("note: ") for line in stderr.splitlines())
        result = json.loads(stdout)
        assert set(result) == REFINE_KEYS | {"domain"}
        assert result["bundle"] == "mini"
        assert pixels(out).shape == pixels(example).shape
    assert outs[0].read_bytes() == outs[1].read_bytes()


def test_the_embedded_bundle_assesses_with_a_report(mini, example, tmp_path):
    report = tmp_path / "report.html"
    code, stdout, stderr = finish(start("assess", example, "--report", report, "--json"))
    assert (code, stderr) == (0, "")
    assert set(json.loads(stdout)) == ASSESS_KEYS | {"domain"}
    assert report.stat().st_size > 10_000


@pytest.mark.timing
def test_the_whole_command_assess_is_quick(mini, example):
    seconds = []
    for _ in range(3):  # the best of them, for the machine may be busy
        begin = time.perf_counter()
        assert finish(start("assess", example))[0] == 0
        seconds.append(time.perf_counter() - begin)
    assert min(seconds) < 3  # twice what it may take on the machine that docs/speed.md tells of


def test_the_embedded_bundle_is_listed_shown_and_whole(mini, run):
    listed = json.loads(run("bundle", "list", "--json").stdout)["bundles"]
    assert "mini" in [entry["name"] for entry in listed]
    shown = json.loads(run("bundle", "show", "--json").stdout)
    assert shown["name"] == "mini"
    assert shown["weights"]
    assert "mini" in run("bundle", "show", "mini").stdout
    verified = run("bundle", "verify", "mini")
    assert verified.exit_code == 0, verified.stderr
    assert "is whole" in verified.stdout
