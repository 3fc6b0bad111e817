"""`grefine-rt engine build` and `list` around a stand-in for the builder, and the parts of it that are arithmetic."""

import errno
import io
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from grefine_rt.bundle.store import write
from grefine_rt.cli import engine
from grefine_rt.engine.tensorrt import build, callbacks, memory, sidecar
from grefine_rt.engine.tensorrt.weights import Weights
from grefine_rt.system_memory import peak_memory
from tests.support import fake_tensorrt, tiny

GRAPHS = {Path(file).stem for file in tiny.manifest()["components"].values()}
MB = 10**6


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    monkeypatch.setenv("GREFINE_CACHE", str(tmp_path / "cache"))
    return tiny.bundle(tmp_path / "bundle")


@pytest.fixture
def use(monkeypatch):
    """Puts a stand-in in the place of a flavour of TensorRT, on a machine with this GPU."""

    def use(flavour="tensorrt-rtx", gpu=None, **options):
        fake = fake_tensorrt.module(stream=flavour == "tensorrt-rtx", **options)
        module = flavour.replace("-", "_")
        monkeypatch.setitem(sys.modules, module, fake)
        monkeypatch.setattr(sidecar, "version", {module: fake.__version__}.__getitem__)
        monkeypatch.setattr(sidecar, "PackageNotFoundError", KeyError)
        for place in (build, sidecar):
            monkeypatch.setattr(place, "gpu_target", lambda index=0: gpu)
        return fake

    return use


def run(*arguments):
    return CliRunner().invoke(engine.app, [str(argument) for argument in arguments])


def build_json(*arguments):
    done = run("build", *arguments, "--json")
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)["engines"]


def list_json(*arguments):
    done = run("list", *arguments, "--json")
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)["engines"]


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_build_makes_an_engine_and_a_sidecar_of_every_distinct_graph(bundle, use):
    fake = use()
    rows = build_json(bundle, "--target", "sm120,sm89")
    assert {Path(row["path"]).stem for row in rows} == GRAPHS
    assert all(row["built"] for row in rows)
    ends = {f"sm89+sm120/{name}.{end}" for name in GRAPHS for end in ("engine", "json")}
    assert files(bundle / "engines") == ends
    assert all(config.targets == {0: "SM89", 1: "SM120"} for config in fake.configs)
    assert all(found["valid"] for found in list_json(bundle))


def test_a_sidecar_holds_what_was_built(bundle, use):
    fake = use()
    (row,) = build_json(bundle, "--target", "sm89", "--component", "inpaint_step", "--weight-streaming")
    made = sidecar.read(Path(row["path"]))
    manifest = json.loads((bundle / "bundle.json").read_text())
    assert made.sources == {
        "components/inpaint_step.onnx": manifest["files"]["components/inpaint_step.onnx"]["sha256"]
    }
    rows = {"n": (1, 2, 2), "l": (1, 6, 6)}
    wide, square, high = made.profiles
    assert square == {"h": (2, 4, 6), "w": (2, 4, 6), **rows}
    assert wide == {"h": (2, 2, 2), "w": (6, 6, 12), **rows}
    assert high == {"h": (6, 6, 12), "w": (2, 2, 2), **rows}
    assert made.activations == (4096, 4096, 4096)
    assert made.attention == (1, 1)
    assert made.precision == "fp32"
    flags = "TF32 WEIGHT_STREAMING RUNTIME_ACTIVATION_RESIZE_10_10"
    assert made.options["flags"] == flags
    assert {*fake.configs[0].flags, *fake.configs[0].previews} == {*flags.split()}
    content = Path(row["path"]).read_bytes()
    assert (made.engine.size, made.engine.sha256) == (len(content), build.hashlib.sha256(content).hexdigest())  # type: ignore[attr-defined]
    _, profile, _ = fake.configs[0].profiles
    assert profile["sample"] == ((1, 4, 2, 2), (1, 4, 4, 4), (1, 4, 6, 6))
    assert profile["context"] == ((1, 1, 5), (2, 6, 5), (2, 6, 5))
    assert "timestep" not in profile


def test_what_is_built_and_valid_is_kept(bundle, use):
    fake = use()
    build_json(bundle, "--target", "sm89")
    count = len(fake.configs)
    assert not any(row["built"] for row in build_json(bundle, "--target", "SM89"))
    assert len(fake.configs) == count
    # Another target, another option, another release: built again.
    assert all(row["built"] for row in build_json(bundle, "--target", "sm86"))
    changed = build_json(bundle, "--target", "sm89", "--weight-streaming", "--component", "inpaint_text")
    assert [row["built"] for row in changed] == [True]
    newer = use()
    newer.__version__ = "1.8.0"
    assert all(row["built"] for row in build_json(bundle, "--target", "sm89"))


def test_an_engine_for_another_gpu_than_the_one_here_is_kept_too(bundle, use):
    use(gpu="sm86")
    build_json(bundle, "--target", "sm89")
    assert not any(row["built"] for row in build_json(bundle, "--target", "sm89"))
    problems = [found["problem"] for found in list_json(bundle)]
    assert all("does not fit the GPU here, which is sm86" in problem for problem in problems)


def test_the_target_is_that_of_the_gpu_when_there_is_one(bundle, use):
    use(gpu="sm86")
    (row,) = build_json(bundle, "--component", "inpaint_text")
    assert row["targets"] == ["sm86"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "name the one that will run the engines"),
        (("--target", "sm90"), "cannot build for 'sm90': choose from sm86, sm89, sm120"),
        (("--target", ","), "No target is given"),
        (("--target", "sm89", "--component", "unet"), "no component 'unet': choose from perceptual"),
    ],
)
def test_wrong_usage_is_one_sentence(bundle, use, arguments, words):
    use()
    done = run("build", bundle, *arguments)
    assert done.exit_code == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_bundle_that_cannot_be_written_has_its_engines_in_the_cache(bundle, use, monkeypatch, tmp_path):
    use()
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != bundle and real(path, mode))
    rows = build_json(bundle, "--target", "sm89")
    assert all(Path(row["path"]).is_relative_to(tmp_path / "cache" / "engines") for row in rows)
    assert not (bundle / "engines").exists()
    assert len(list_json(bundle)) == len(GRAPHS)
    # Writable again: what lies in the cache is still good.
    monkeypatch.setattr(os, "access", real)
    assert not any(row["built"] for row in build_json(bundle, "--target", "sm89"))


def test_out_names_the_folder(bundle, use, tmp_path):
    use()
    build_json(bundle, "--target", "sm89", "--out", tmp_path / "there", "--component", "inpaint_text")
    assert files(tmp_path / "there") == {"sm89/inpaint_text.engine", "sm89/inpaint_text.json"}


def test_a_missing_library_is_one_sentence(bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    done = run("build", bundle, "--target", "sm89")
    assert done.exit_code == 1
    assert "pip install .[tensorrt]" in done.stderr


def fails(bundle, *arguments):
    """The one sentence of a build that fails and leaves nothing behind."""
    done = run("build", bundle, "--target", "sm89", "--component", "inpaint_step", *arguments)
    assert done.exit_code == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert not files(bundle / "engines")
    return done.stderr


def test_a_changed_graph_is_not_built(bundle, use):
    use()
    path = bundle / "components" / "inpaint_step.onnx"
    path.write_bytes(path.read_bytes() + b"\0")
    assert "was changed" in fails(bundle)


def test_a_build_that_memory_cannot_hold_is_refused_before_it_starts(bundle, use, monkeypatch):
    fake = use()
    monkeypatch.setattr(build, "free_memory", lambda: 10**8)
    # Neither is it parsed, for the parser alone may take more than there is.
    monkeypatch.setattr(fake, "OnnxParser", lambda *_: pytest.fail("parsed"))
    assert "needs about 0.4 GiB of memory, but 0.1 GiB are free" in fails(bundle)
    assert not fake.configs


def test_what_the_parser_holds_already_is_not_counted_twice(bundle, use, monkeypatch):
    use()
    left = iter([10**9])
    monkeypatch.setattr(build, "free_memory", lambda: next(left))  # asked once, before the graph is parsed
    build_json(bundle, "--target", "sm89", "--component", "inpaint_text")


def test_an_old_classic_tensorrt_is_refused(bundle, use):
    fake = use("tensorrt", gpu="sm90")
    fake.__version__ = "10.9.0.34"
    done = run("build", bundle, "--flavour", "tensorrt")
    assert done.exit_code == 1
    assert "need TensorRT 10.13 or later, but 10.9.0.34 is installed" in done.stderr


def test_a_full_disk_is_seen_before_and_during_the_build(bundle, use, monkeypatch):
    fake = use()
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(0, 0, -1))
        assert "free some space" in fails(bundle)
    assert not fake.configs

    class Full(io.FileIO):
        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    real = Path.open
    monkeypatch.setattr(
        Path,
        "open",
        lambda path, mode="r", *more, **options: (
            Full(path, "w")
            if path.suffix == ".grefine-tmp" and mode == "wb"
            else real(path, mode, *more, **options)
        ),
    )
    assert "No space left on device): free some space" in fails(bundle)


def test_a_folder_that_cannot_be_made_is_one_sentence(bundle, use):
    use()
    (bundle / "file").write_text("")
    assert "cannot be written to" in fails(bundle, "--out", bundle / "file")


def test_a_graph_that_cannot_be_parsed_names_the_operator(bundle, use):
    use(refuse={"inpaint_step"})
    assert "No importer registered for op: Surprise" in fails(bundle)


def test_a_free_axis_without_a_range_names_itself(bundle, use):
    use()
    path = bundle / "components" / "inpaint_text.onnx"
    path.write_bytes(path.read_bytes().replace(b"\x12\x01l", b"\x12\x01q"))
    write(bundle, json.loads((bundle / "bundle.json").read_text()))
    done = run("build", bundle, "--target", "sm89", "--component", "inpaint_text")
    assert done.exit_code == 1
    assert "the free axis 'q'" in done.stderr


@pytest.fixture
def hears_ctrl_c():
    """Whatever a parent of the tests made of it: jobs in the background are deaf to Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_cancels_through_the_monitor_and_leaves_no_part(bundle, use, hears_ctrl_c):
    def interrupt(step):
        if step == 1:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.5)  # the main thread hears it

    steps = []
    use(on_step=lambda step: (steps.append(step), interrupt(step)))
    done = run("build", bundle, "--target", "sm89")
    assert done.exit_code == 130
    assert done.stderr == "cancelled\n"
    assert steps == [0, 1]
    assert not files(bundle / "engines")


def test_classic_tensorrt_builds_only_for_the_gpu_here(bundle, use):
    use("tensorrt")
    assert "none is here" in fails(bundle, "--flavour", "tensorrt")
    use("tensorrt", gpu="sm86")
    done = run("build", bundle, "--target", "sm89", "--flavour", "tensorrt")
    assert done.exit_code == 2
    assert "choose from sm86" in done.stderr


def test_classic_tensorrt_is_built_for_its_release_alone_and_remembers_its_timings(bundle, use, tmp_path):
    fake = use("tensorrt", gpu="sm89")
    rows = build_json(bundle, "--flavour", "tensorrt")
    assert {Path(row["path"]).parent.name for row in rows} == {"sm89-tensorrt"}
    assert all(config.flags == {"TF32"} for config in fake.configs)
    (kept,) = (tmp_path / "cache" / "timings").iterdir()
    assert kept.name == "tensorrt-10.14.1-sm89.cache"
    assert kept.read_bytes() == b"measured;" * len(fake.configs)
    assert all(found["valid"] for found in list_json(bundle))


def test_list_says_what_is_wrong_and_what_mends_it(bundle, use):
    use()
    assert "No engine is here" in run("list", bundle).stdout
    build_json(bundle, "--target", "sm89", "--component", "inpaint_text", "--component", "inpaint_decode")
    (bundle / "components" / "inpaint_text.onnx").write_bytes(b"another")
    write(bundle, json.loads((bundle / "bundle.json").read_text()))
    done = run("list", bundle)
    assert done.exit_code == 0
    assert "GPU here: none" in done.stdout
    assert "another 'components/inpaint_text.onnx' than the bundle has now" in done.stdout
    assert f"'grefine-rt engine build {bundle} --target sm89 --component inpaint_text'" in done.stdout
    valid = {Path(row["path"]).stem: row["valid"] for row in list_json(bundle)}
    assert valid == {"inpaint_text": False, "inpaint_decode": True}


def test_a_graph_whose_bytes_changed_under_its_engine_names_itself(bundle, use):
    use()
    build_json(bundle, "--target", "sm89", "--component", "inpaint_text")
    path = bundle / "components" / "inpaint_text.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"\7")
    (found,) = list_json(bundle)
    assert "was built from another 'components/inpaint_text.onnx' than lies in" in found["problem"]
    assert "run 'grefine-rt bundle fetch" in found["problem"]
    path.unlink()  # an engine needs none
    assert [found["valid"] for found in list_json(bundle)] == [True]


def test_what_cannot_be_built_keeps_no_other_graph_from_it(bundle, use):
    use(refuse={"inpaint_step", "inpaint_decode"})
    done = run("build", bundle, "--target", "sm89", "--json")
    assert done.exit_code == 1
    report = json.loads(done.stdout)
    assert len(report["engines"]) == len(GRAPHS) - 2
    assert {Path(row["graph"]).stem for row in report["failed"]} == {"inpaint_step", "inpaint_decode"}
    notes = done.stderr.splitlines()
    assert sum("No importer registered for op: Surprise" in line for line in notes) == 2
    assert len(notes) == 3
    assert notes[-1] == f"error: 2 of {len(GRAPHS)} engines could not be built: the notes above say why."
    use()
    built = {Path(row["path"]).stem: row["built"] for row in build_json(bundle, "--target", "sm89")}
    assert {name for name, made in built.items() if made} == {"inpaint_step", "inpaint_decode"}


def test_engines_in_another_folder_are_listed_from_there(bundle, use, tmp_path):
    use()
    elsewhere = tmp_path / "elsewhere"
    (row,) = build_json(bundle, "--target", "sm89", "--component", "inpaint_text", "--out", elsewhere)
    assert list_json(bundle) == []
    (found,) = list_json(bundle, "--out", elsewhere)
    assert (found["path"], found["valid"]) == (row["path"], True)
    use(gpu="sm120")
    (found,) = list_json(bundle, "--out", elsewhere)
    assert found["problem"].endswith(f"--target sm120 --component inpaint_text --out {elsewhere}'.")
    for arguments, words in (
        (["--out", elsewhere], "the bundle that the engines were built from is needed"),
        ([bundle, "--out", tmp_path / "nowhere"], "No folder"),
    ):
        done = run("list", *arguments)
        assert done.exit_code == 2
        assert words in done.stderr


def test_an_unreadable_sidecar_is_listed_and_built_again(bundle, use):
    use()
    (row,) = build_json(bundle, "--target", "sm89", "--component", "inpaint_text")
    Path(row["path"]).with_suffix(".json").write_text("{")
    (found,) = list_json(bundle)
    assert "is missing or no sidecar" in found["problem"]
    assert build_json(bundle, "--target", "sm89", "--component", "inpaint_text")[0]["built"]


def test_progress_of_nested_phases_never_goes_back():
    phases, seen = callbacks.Phases(), []
    phases.start("engine", 2)
    for part in ("parse", "compile"):
        phases.start(part, 4)
        for step in range(5):  # one more than was said
            phases.step(part, step)
            seen.append(phases.done)
        phases.finish(part)
        phases.step("engine", ["parse", "compile"].index(part))
        seen.append(phases.done)
    assert seen == sorted(seen)
    assert seen[1] == 0.25
    assert seen[-1] == 1.0


LAYERS = """Engine Layer Information:
Name: __myl_MaxrSubExpSumDivMul_myl0_11, LayerType: kgen, Inputs: [ { Name: _gemm_mha_v2_myl0_1_out } ]
Name: _gemm_mha_v2_myl0_23, LayerType: kgen, Inputs: []
Name: node_linear_6_myl0_30, LayerType: gemm, Inputs: []
Name: _gemm_mha_v2_myl0_35, LayerType: kgen, Inputs: []
Name: _gemm_mha_v2_myl1_23, LayerType: kgen, Inputs: []
"""


def test_fused_attention_is_counted():
    assert callbacks.fused_attention(LAYERS) == 3
    assert callbacks.fused_attention("Parsing node: scaled_dot_product_attention_v2") == 0


@pytest.mark.parametrize(
    ("weights", "measured"),
    [
        # Peak resident memory of builds by TensorRT for RTX 1.7, SM89, written as a stream: docs/engines.md.
        (Weights(half=201 * MB, widened=0, single=0, inline=0, layers=74), 884 * MB),
        (Weights(half=201 * MB, widened=0, single=0, inline=201 * MB, layers=74), 1067 * MB),
        (Weights(half=403 * MB, widened=0, single=0, inline=403 * MB, layers=146), 1925 * MB),
        (Weights(half=0, widened=201 * MB, single=0, inline=201 * MB, layers=98), 1346 * MB),
        (Weights(half=0, widened=0, single=403 * MB, inline=403 * MB, layers=74), 1523 * MB),
        (Weights(half=125 * MB, widened=0, single=0, inline=125 * MB, layers=300), 1020 * MB),
        (Weights(half=0, widened=11 * MB, single=0, inline=11 * MB, layers=3323), 685 * MB),
        (Weights(half=5130 * MB, widened=0, single=0, inline=3 * MB, layers=4500), 16536 * MB),
    ],
)
def test_predicted_memory_is_near_what_was_measured_and_hardly_below(weights, measured):
    assert 0.94 * measured < weights.peak < 1.45 * measured


def test_free_memory_and_the_peak_are_known_on_linux():
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux tells")
    memory.forget_peak()
    before = peak_memory()
    held = bytearray(os.urandom(1) * (64 * MB))
    assert peak_memory() - before > 50 * MB
    assert len(held) == 64 * MB
