"""The order of choice, explicit devices that never fall back, and what ONNX Runtime is told on a GPU; no GPU needed."""

import ctypes
import json
import sys
from collections import namedtuple
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from grefine_rt import Assessor, DeviceError
from grefine_rt.cli import doctor
from grefine_rt.engine import nvidia
from grefine_rt.engine.devices import Choice, parse_device, summary
from grefine_rt.engine.onnxruntime import kernels, plugin
from grefine_rt.engine.onnxruntime import session as onnxruntime
from grefine_rt.engine.onnxruntime.session import CudaOptions, OnnxEngine, cuda_settings
from grefine_rt.engine.tensorrt import sidecar
from grefine_rt.engine.tensorrt.sidecar import Found
from grefine_rt.models.selection import Selection
from tests.support.fake_bundle import scene
from tests.support.fake_onnxruntime import CPU, CUDA, RTX, Onnxruntime
from tests.support.fat_binary import library_with

COMPONENTS = {
    "perceptual": "components/perceptual.onnx",
    "inpaint_step": "components/inpaint_step.onnx",
    "inpaint_decode": "components/inpaint_decode.onnx",
}
STEP = COMPONENTS["inpaint_step"]
NO_GPU = "No NVIDIA GPU with a driver is here."
NOT_BUILT = (
    "No TensorRT engine of 'inpaint_step' is built: "
    "run 'grefine-rt engine build mini --component inpaint_step'."
)
NONE_FOR_SM90 = (
    "TensorRT for RTX builds no engines for the GPU here, which is sm90: run 'grefine-rt engine build mini "
    "--component inpaint_step --target sm90 --flavour tensorrt' for one of classic TensorRT."
)
NO_CUDA_HERE = "This ONNX Runtime has no CUDA support"
STALE = "Engine 'inpaint_step' for sm89 does not fit the GPU here, which is sm90: run 'grefine-rt engine build mini'."


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A bundle's folder; its graphs are empty files, for nothing here reads them."""
    monkeypatch.setenv("GREFINE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "components").mkdir()
    for file in COMPONENTS.values():
        (tmp_path / file).touch()
    return tmp_path


@pytest.fixture
def machine(monkeypatch):
    """machine(gpu=, plugged=, built=, **more) makes one; gives its fake `onnxruntime`, which `more` describes."""

    def machine(gpu="sm89", plugged=False, built=(), **more):
        module = Onnxruntime(**more)
        monkeypatch.setitem(sys.modules, "onnxruntime", module)
        monkeypatch.setattr(sidecar, "gpu_target", lambda index=0: gpu)
        monkeypatch.setattr(sidecar, "engines", lambda *_: iter(built))
        monkeypatch.setattr(plugin, "installed", lambda: plugged)
        monkeypatch.setattr(plugin, "_registered", set())
        monkeypatch.setattr(onnxruntime, "_preloaded", [])
        package = SimpleNamespace(
            get_ep_name=lambda: RTX,
            get_library_path=lambda: "plugin.so",
            __version__="0.5.0",
            __spec__=ModuleSpec(plugin.MODULE, None),
        )
        monkeypatch.setitem(sys.modules, plugin.MODULE, package if plugged else None)
        return module

    return machine


@pytest.fixture
def tensorrt(monkeypatch):
    """Stands in for the module with TensorRT's engines; notes how they are made, or raises `problem`."""
    module = SimpleNamespace(made=[], budgets=[], problem=None, free=10**10)

    def engine(path, sidecar, device, *, scratch, budget):
        if module.problem:
            raise DeviceError(module.problem)
        module.made.append((path, sidecar, device, scratch))
        module.budgets.append(budget)
        return SimpleNamespace(device=device)

    module.TensorRTEngine = engine
    monkeypatch.setitem(sys.modules, "grefine_rt.engine.tensorrt.run", module)
    gpu = property(lambda self: SimpleNamespace(free_memory=module.free))
    scratch = type("Scratch", (namedtuple("Scratch", "device"),), {"gpu": gpu, "size": 0})
    memory = SimpleNamespace(Scratch=scratch)
    monkeypatch.setitem(sys.modules, "grefine_rt.engine.device_memory", memory)
    return module


WHOLE = SimpleNamespace(
    streams=False,
    graph=STEP,
    engine=SimpleNamespace(size=3 * 10**9),
    targets=("sm86", "sm89"),
    flavour="tensorrt-rtx",
)
"""A sidecar of an engine whose weights all lie on the device."""


def found(problem=None, name="inpaint_step", of=WHOLE):
    return Found(Path(f"engines/sm89/{name}.engine"), of if problem is None else None, problem)


def select(folder, device="auto"):
    return Selection(folder, SimpleNamespace(components=COMPONENTS), device, 1, "mini")


# The order


@pytest.mark.parametrize(
    ("facts", "backend", "device", "reason"),
    [
        ({"gpu": None}, "onnxruntime-cpu", "cpu", NO_GPU),
        ({"gpu": None, "plugged": True, "built": [found()]}, "onnxruntime-cpu", "cpu", NO_GPU),
        (
            {"plugged": True, "built": [found()]},
            *("tensorrt", "cuda:0", "A TensorRT engine for this GPU (sm89) is built and valid."),
        ),
        ({"plugged": True}, "onnxruntime-cuda", "cuda:0", NOT_BUILT),
        ({"gpu": "sm90", "plugged": True}, "onnxruntime-cuda", "cuda:0", NONE_FOR_SM90),
        ({"plugged": True, "providers": [CPU]}, "onnxruntime-rtx", "cuda:0", f"{NOT_BUILT} {NO_CUDA_HERE}."),
        ({"built": [found(STALE)]}, "onnxruntime-cuda", "cuda:0", STALE),
        ({"built": [found(name="perceptual")]}, "onnxruntime-cuda", "cuda:0", NOT_BUILT),
        (
            {"built": [found(STALE), found()]},
            "tensorrt",
            "cuda:0",
            "A TensorRT engine for this GPU (sm89) is",
        ),
        ({"providers": [CPU]}, "onnxruntime-cpu", "cpu", f"{NOT_BUILT} {NO_CUDA_HERE}"),
    ],
)
def test_auto_takes_the_first_that_serves_and_says_why(
    folder, machine, tensorrt, facts, backend, device, reason
):
    machine(**facts)
    engine, choice = select(folder).open(STEP)
    assert (choice.component, choice.backend, choice.device) == ("inpaint_step", backend, device)
    assert choice.reason.startswith(reason)
    assert engine.device == device
    assert select(folder).foresee(STEP) == choice


def test_auto_goes_on_when_a_backend_fails_and_says_so(folder, machine, tensorrt):
    tensorrt.problem = "inpaint_step: cuda.core is not installed: run 'pip install .[tensorrt]'."
    module = machine(plugged=True, built=[found()], failing={RTX: "no kernel for Foo"}, broken=[CUDA])
    _, choice = select(folder).open(STEP)
    assert choice.backend == "onnxruntime-cpu"
    for part in ("inpaint_step: cuda.core is not installed", "(no kernel for Foo)", "libcudnn.so.9"):
        assert part in choice.reason
    assert [session.get_providers() for session in module.sessions] == [[CPU], [CPU]]


def test_nothing_of_a_gpu_is_looked_for_without_a_driver(folder, machine, tensorrt, monkeypatch):
    module = machine(gpu=None, plugged=True, built=[found()])
    for owner, name in ((plugin, "installed"), (sidecar, "engines"), (sidecar.Environment, "here")):
        monkeypatch.setattr(owner, name, lambda *_: pytest.fail("looked for"))
    _, choice = select(folder).open(STEP)
    assert choice == Choice("inpaint_step", "onnxruntime-cpu", "cpu", NO_GPU)
    assert (module.preloads, module.registered, tensorrt.made) == (0, [], [])


def test_engines_of_tensorrt_share_their_scratch_memory(folder, machine, tensorrt):
    machine(built=[found(), found(name="perceptual")])
    chosen = select(folder)
    chosen.open(STEP)
    chosen.open(COMPONENTS["perceptual"])
    assert [made[2:] for made in tensorrt.made] == [("cuda:0", ("cuda:0",))] * 2
    assert tensorrt.made[0][:2] == (found().engine, WHOLE)


def test_engines_that_stream_their_weights_share_what_is_free(folder, machine, tensorrt):
    step, decode, look = (
        SimpleNamespace(streams=streams, activations=(most,), engine=SimpleNamespace(size=size * 10**9))
        for streams, size, most in ((True, 6, 10**9), (True, 3, 5 * 10**8), (False, 2, 10**8))
    )
    names = ("inpaint_step", "inpaint_decode", "perceptual")
    machine(built=[found(name=name, of=of) for name, of in zip(names, (step, decode, look), strict=True)])
    chosen = select(folder)
    chosen.open(STEP)
    tensorrt.free = 6 * 10**9
    chosen.open(COMPONENTS["perceptual"])
    tensorrt.free = 4 * 10**9
    chosen.open(COMPONENTS["inpaint_decode"])
    # Of 10 GB, 1 are for activations, 2 for weights that stay there and 0.5 for the rest: two thirds of 6.5 are left.
    # Then the decoder is the last: of 4 GB it may have 2.5, for the step may still need the activations.
    assert tensorrt.budgets == [6_500_000_000 * 2 // 3, None, 2_500_000_000]


def test_weights_that_the_gpu_cannot_hold_are_refused_with_what_would_let_them_in(folder, machine, tensorrt):
    machine(built=[found()])
    tensorrt.free = 2 * 10**9
    assert (
        select(folder, "tensorrt").open(STEP)[1].backend == "tensorrt"
    )  # memory may be shared with the host
    tensorrt.problem = "inpaint_step: it does not load"
    with pytest.raises(DeviceError) as caught:
        select(folder, "tensorrt").open(STEP)
    assert "'inpaint_step' take 3.0 GB, but 'cuda:0' has 2.0 GB free" in str(caught.value)
    command = "engine build mini --target sm86,sm89 --component inpaint_step --weight-streaming'."
    assert str(caught.value).endswith(command)
    _, choice = select(folder).open(STEP)
    assert choice.backend == "onnxruntime-cuda"
    assert "take 3.0 GB" in choice.reason
    tensorrt.free = 4 * 10**9
    with pytest.raises(DeviceError, match="it does not load"):
        select(folder, "tensorrt").open(STEP)


def test_engines_run_without_onnxruntime(folder, machine, tensorrt, monkeypatch):
    machine(built=[found()])
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert select(folder).open(STEP)[1].backend == "tensorrt"
    machine(gpu=None)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(DeviceError, match="ONNX Runtime is not installed"):
        select(folder)


def test_engines_are_judged_for_the_gpu_that_was_asked_for(folder, machine, tensorrt, monkeypatch):
    machine()
    seen = []
    monkeypatch.setattr(sidecar, "gpu_target", ("sm80", "sm89", None).__getitem__)
    monkeypatch.setattr(sidecar, "engines", lambda *args: seen.append(args[-1].gpu) or iter([found()]))
    for device in ("tensorrt:1", "tensorrt"):
        select(folder, device).open(STEP)
    assert seen == ["sm89", "sm80"]
    assert [made[2] for made in tensorrt.made] == ["cuda:1", "cuda:0"]
    with pytest.raises(
        DeviceError, match="'tensorrt:2' was asked for, but no NVIDIA GPU number 2 with a driver"
    ):
        select(folder, "tensorrt:2")


def test_a_machine_as_this_one():
    if sidecar.gpu_target() is not None:
        pytest.skip("there is a GPU here")
    with Assessor.load("mini", threads=1) as assessor:
        result = assessor.assess(np.full((64, 64, 3), 90, np.uint8), "a red house")
        assert {(choice.backend, choice.device, choice.reason) for choice in result.backends} == {
            ("onnxruntime-cpu", "cpu", NO_GPU)
        }
        assert {"perceptual", "alignment_image"} <= {choice.component for choice in result.backends}
        assert "inpaint_step" not in {choice.component for choice in result.backends}
        foreseen = assessor.bundle.foresee()
        assert {choice.backend for choice in foreseen} == {"onnxruntime-cpu"}
        assert [choice.component for choice in foreseen] == list(assessor.bundle.manifest.components)


# Asked for by name


@pytest.mark.parametrize(
    ("name", "kind", "index", "place"),
    [
        ("auto", "auto", 0, "cuda:0"),
        ("cpu", "cpu", 0, "cpu"),
        ("cuda", "cuda", 0, "cuda:0"),
        ("cuda:3", "cuda", 3, "cuda:3"),
        ("tensorrt:1", "tensorrt", 1, "cuda:1"),
        ("rtx", "rtx", 0, "cuda:0"),
    ],
)
def test_names_of_devices(name, kind, index, place):
    device = parse_device(name)
    assert (device.kind, device.index, device.tensor_device, str(device)) == (kind, index, place, name)


@pytest.mark.parametrize("name", ["cpu:0", "auto:1", "tensorrt:", "rtx:x", "gpu", ""])
def test_unknown_names(name):
    with pytest.raises(DeviceError, match=f"Unknown device '{name}': use 'auto', 'cpu', 'cuda'"):
        parse_device(name)


@pytest.mark.parametrize(
    ("facts", "device", "message"),
    [
        ({"gpu": None}, "cuda", "'cuda' was asked for, but no NVIDIA GPU with a driver is here, so use"),
        ({"gpu": None}, "rtx:1", "'rtx:1' was asked for, but no NVIDIA GPU number 1 with"),
        ({"gpu": None}, "tensorrt", "'tensorrt' was asked for, but no NVIDIA GPU"),
        ({"providers": [CPU]}, "cuda:1", r"'cuda:1' was asked for, but this ONNX .*pip install \.\[gpu\]"),
        (
            {},
            "rtx",
            r"but the TensorRT-RTX plugin .* is not installed: run .pip install \.\[rtx\]. in the",
        ),
    ],
)
def test_a_device_that_is_not_there_is_refused_before_anything_is_loaded(
    folder, machine, facts, device, message
):
    machine(**facts)
    with pytest.raises(DeviceError, match=message):
        select(folder, device)


@pytest.mark.parametrize(
    ("built", "message"),
    [
        (
            [],
            "'tensorrt' was asked for, but no TensorRT engine of 'inpaint_step' is built: run 'grefine-rt engine b",
        ),
        (
            [found(STALE)],
            "'tensorrt' was asked for, but Engine 'inpaint_step' for sm89 does not fit the GPU here",
        ),
    ],
)
def test_tensorrt_asked_for_takes_built_engines_alone(folder, machine, tensorrt, built, message):
    machine(plugged=True, built=built)
    chosen = select(folder, "tensorrt")
    for ask in (chosen.open, chosen.foresee):
        with pytest.raises(DeviceError, match=message) as error:
            ask(STEP)
        assert str(error.value).endswith(".")
        assert not str(error.value).endswith("..")


def test_a_device_asked_for_never_becomes_another(folder, machine, tensorrt):
    machine(broken=[CUDA])
    with pytest.raises(DeviceError, match=r"'cuda' cannot be used by ONNX Runtime \(Failed to load libcudnn"):
        select(folder, "cuda").open(STEP)
    machine(plugged=True, failing={RTX: "no kernel for Foo\nand more"})
    with pytest.raises(DeviceError, match=r"cannot open it on 'rtx' \(no kernel for Foo\)") as error:
        select(folder, "rtx").open(STEP)
    assert "\n" not in str(error.value)
    tensorrt.problem = "it does not load"
    machine(built=[found()])
    with pytest.raises(DeviceError, match="it does not load"):
        select(folder, "tensorrt").open(STEP)
    machine()
    _, choice = select(folder, "cuda:2").open(STEP)
    assert choice == Choice("inpaint_step", "onnxruntime-cuda", "cuda:2", "Asked for by name.")


# ONNX Runtime CUDA


def test_what_cuda_is_told(folder, machine, capsys):
    module = machine(broken=())
    select(folder, "cuda:1").open(STEP)
    (session,) = module.sessions
    assert session.providers == [(CUDA, cuda_settings(1, CudaOptions())), CPU]
    assert session.enable_fallback == 0
    assert module.level == 3
    assert session.options.use_deterministic_compute is True
    assert session.options.enable_mem_pattern is False
    assert cuda_settings(1, CudaOptions(nhwc=True)) == {
        "device_id": "1",
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
        "use_tf32": "0",
        "prefer_nhwc": "1",
        "enable_cuda_graph": "0",
    }
    assert session.providers[0][1]["prefer_nhwc"] == "0"
    select(folder, "cuda:1").open(COMPONENTS["perceptual"])
    assert module.preloads == 1


def test_what_is_printed_while_libraries_load_stays_off_standard_output(folder, machine, capsys):
    machine(broken=[CUDA])
    with pytest.raises(DeviceError, match="libcudnn"):
        OnnxEngine(folder / STEP, "cuda")
    assert capsys.readouterr().out == ""


def test_autoencoders_give_their_memory_back_and_loops_keep_theirs(folder, machine):
    module = machine()
    chosen, x = select(folder, "cuda:1"), {"x": np.ones(3, np.float32)}
    for name, entries in (
        ("inpaint_decode", {"memory.enable_memory_arena_shrinkage": "gpu:1"}),
        ("inpaint_step", None),
    ):
        engine, _ = chosen.open(COMPONENTS[name])
        engine.run(x)
        (options,) = module.sessions[-1].runs
        assert (options and options.entries) == entries


def test_tensors_of_a_loop_lie_on_the_gpu(folder, machine):
    module = machine()
    binding = OnnxEngine(folder / STEP, "cuda:2").bind()
    x, y = binding.upload(np.ones(3, np.float32)), binding.buffer((3,))
    binding.set_input("x", x)
    binding.set_output("y", y)
    binding.run()
    assert module.sessions[0].bindings[0].bound == [("x", ("cuda", 2)), ("y", ("cuda", 2))]
    np.testing.assert_array_equal(binding.fetch(x), np.ones(3))
    assert binding.copies == 2


def test_memory_that_ran_out_while_opening_is_named(folder, machine):
    machine(failing={CUDA: "Failed to allocate memory for requested buffer of size 5135"})
    with pytest.raises(
        DeviceError, match=r"inpaint_step: memory ran out on 'cuda' .*5135.*use the device 'cpu'"
    ):
        OnnxEngine(folder / STEP, "cuda")


# The plugin of TensorRT for RTX


def test_the_plugin_is_registered_once_and_keeps_its_kernels_in_our_cache(folder, machine):
    module = machine(plugged=True, rtx=2)
    for device in ("rtx", "rtx:1"):
        OnnxEngine(folder / STEP, device)
    assert module.registered == [(RTX, "plugin.so")]
    cache = folder / "cache" / "onnxruntime-rtx" / "0.5.0"
    assert cache.is_dir()
    for index, session in enumerate(module.sessions):
        ((device,), settings) = session.options.plugged
        assert device.memory_info("default") == ("rtx", index, "default")
        assert settings == {"nv_runtime_cache_path": str(cache)}
        assert session.options.entries["session.disable_cpu_ep_fallback"] == "1"
        assert session.providers is None


def test_a_cache_that_cannot_be_written_is_done_without(folder, machine, monkeypatch):
    machine(plugged=True)
    (folder / "file").touch()
    monkeypatch.setenv("GREFINE_CACHE", str(folder / "file"))
    assert plugin.settings() == {}


def test_tensors_of_the_plugin_lie_in_its_memory(folder, machine):
    module = machine(plugged=True)
    binding = OnnxEngine(folder / STEP, "rtx").bind()
    given = np.arange(3, dtype=np.float32)
    x = binding.upload(given)
    assert x.value.place == ("rtx", 0, "default")
    assert binding.buffer((3,)).value.place == ("rtx", 0, "default")
    np.testing.assert_array_equal(binding.fetch(x), given)
    assert module.copied == binding.copies == 2


def test_a_gpu_that_the_plugin_does_not_serve(folder, machine):
    machine(plugged=True, rtx=0)
    with pytest.raises(DeviceError, match="serves 0 GPUs here"):
        OnnxEngine(folder / STEP, "rtx")


def test_a_plugin_that_cannot_be_registered(folder, machine, monkeypatch):
    module = machine(plugged=True)

    def refuse(name, path):
        raise RuntimeError("needs API 99")

    monkeypatch.setattr(module, "register_execution_provider_library", refuse)
    with pytest.raises(DeviceError, match=r"does not fit this ONNX Runtime or driver \(needs API 99\)"):
        OnnxEngine(folder / STEP, "rtx")


# Where it is shown


def test_a_summary_names_components_where_they_differ():
    one, two, three = (Choice(name, "onnxruntime-cpu", "cpu", "No GPU.") for name in "abc")
    assert summary([one, two]) == {"onnxruntime-cpu on cpu": "all components: No GPU."}
    other = Choice("c", "onnxruntime-cpu", "cpu", "Too large.")
    assert summary([one, two, other]) == {"onnxruntime-cpu on cpu": "a, b: No GPU. c: Too large."}
    there = Choice("d", "tensorrt", "cuda:0", "Built.")
    assert list(summary([three, there])) == ["onnxruntime-cpu on cpu", "tensorrt on cuda:0"]


def test_json_and_report_say_what_was_chosen_and_why(run, fake, tmp_path):
    picture, report = tmp_path / "scene.png", tmp_path / "report.html"
    Image.fromarray(scene([["house", "sea"]] * 2)).save(picture)
    for command in ("refine", "assess"):
        done = run(command, picture, "-p", "a house", "--json", "--report", report)
        assert json.loads(done.stdout)["backends"] == [
            {"component": "perceptual", "backend": "onnxruntime-cpu", "device": "cpu", "reason": NO_GPU}
        ]
        assert (
            f"<dt>onnxruntime-cpu on cpu</dt><dd dir=auto>all components: {NO_GPU}</dd>"
            in report.read_text("utf-8")
        )
        report.unlink()


def test_doctor_names_gpus_and_what_runs_each_bundle(run, mini, monkeypatch):
    monkeypatch.setattr(
        nvidia, "gpus", lambda: (nvidia.Gpu("RTX 4090", "580.65", 25_000_000_000, 500_000_000),)
    )
    monkeypatch.setattr(sidecar, "gpu_target", lambda index: "sm89")
    monkeypatch.setattr(sidecar, "engines", lambda *_: iter([found()]))
    monkeypatch.setattr(plugin, "installed", lambda: False)
    done = run("doctor")
    for line in (
        "RTX 4090, driver 580.65, 0.5 of 25.0 GB in use",
        "tensorrt on cuda:0: inpaint_step: A TensorRT engine for this GPU (sm89) is built and valid.",
        doctor._RTX_HINT,
    ):
        assert line in done.stdout
    facts = json.loads(run("doctor", "--json").stdout)
    assert facts["gpus"][0]["name"] == "RTX 4090"
    (bundle,) = (entry for entry in facts["bundles"] if entry["name"] == "mini")
    assert {choice["component"]: choice["backend"] for choice in bundle["backends"]}[
        "inpaint_step"
    ] == "tensorrt"
    assert {"tensorrt-rtx", "cuda-core", "onnxruntime-ep-nv-tensorrt-rtx"} <= facts["packages"].keys()


def test_doctor_looks_at_bundles_in_other_folders(run, mini, tmp_path):
    done = run("doctor", mini, "--json", "--device", "cpu")
    (entry,) = (entry for entry in json.loads(done.stdout)["bundles"] if entry["name"] == str(mini))
    assert entry["works"]
    assert {choice["component"] for choice in entry["backends"]} >= {"inpaint_step", "restore_step"}
    done = run("doctor", tmp_path / "none")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "none" in done.stderr


@pytest.mark.parametrize(
    ("plugged", "core", "flavours", "gpu", "tried"),
    [
        (False, None, {}, True, ["cpu", "cuda"]),
        (True, "1.0", {"tensorrt-rtx": "1.7"}, False, ["cpu", "cuda"]),
        (True, None, {}, True, ["cpu", "cuda", "rtx"]),
        (False, "1.0", {"tensorrt": "10.13"}, True, ["cpu", "cuda", "tensorrt"]),
        (False, None, {"tensorrt-rtx": "1.7"}, True, ["cpu", "cuda"]),
    ],
)
def test_doctor_tries_what_is_installed(monkeypatch, plugged, core, flavours, gpu, tried):
    monkeypatch.setattr(plugin, "installed", lambda: plugged)
    monkeypatch.setattr(doctor, "_version", {"cuda-core": core}.__getitem__)
    here = sidecar.Environment("", flavours, None)
    monkeypatch.setattr(sidecar.Environment, "here", classmethod(lambda *_: here))
    assert doctor._to_try(gpu) == tried


def test_tensorrt_alone_is_no_device_that_anything_runs_on():
    """It needs engines: the hint how to install what runs graphs stays."""
    tried = [
        {"device": "cuda:0", "backend": "tensorrt", "works": True, "problem": None},
        {"device": "cuda", "backend": "onnxruntime", "works": False, "problem": "no CUDA"},
    ]
    assert not any(entry["works"] for entry in doctor._that_run_graphs(tried))
    facts = {"packages": dict.fromkeys(doctor._PACKAGES, "1.0"), "devices": tried, "gpus": [], "bundles": []}
    assert doctor._GPU_HINT in doctor._hints(facts)


def test_doctor_tries_tensorrt_itself(monkeypatch):
    asked = []
    module = SimpleNamespace(probe=asked.append)
    monkeypatch.setitem(sys.modules, "grefine_rt.engine.tensorrt.probe", module)
    assert doctor._try_device("tensorrt:1") == {
        "device": "cuda:1",
        "backend": "tensorrt",
        "works": True,
        "problem": None,
    }

    def refuse(place):
        raise DeviceError(f"'{place}' is of no use.")

    module.probe = refuse
    found = doctor._try_device("tensorrt")
    assert (found["works"], found["problem"], asked) == (False, "'cuda:0' is of no use.", ["cuda:1"])


def test_gpus_are_asked_of_the_driver(monkeypatch):
    class Nvml:
        """Two GPUs; writes through the pointers it is given."""

        closed = 0

        def __getattr__(self, name):
            return lambda *arguments: 0

        def nvmlDeviceGetCount_v2(self, count):
            count._obj.value = 2

        def nvmlSystemGetDriverVersion(self, text, size):
            text.value = b"580.65"

        def nvmlDeviceGetHandleByIndex_v2(self, index, handle):
            handle._obj.value = index + 1

        def nvmlDeviceGetName(self, handle, text, size):
            text.value = b"GPU %d" % handle.value

        def nvmlDeviceGetMemoryInfo(self, handle, memory):
            memory._obj.total, memory._obj.used = 100 * handle.value, handle.value

        def nvmlShutdown(self):
            Nvml.closed += 1

        def nvmlDeviceGetUUID(self, handle, text, size):
            text.value = b"GPU-%d000" % handle.value

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Nvml())
    assert nvidia.gpus() == (nvidia.Gpu("GPU 1", "580.65", 100, 1), nvidia.Gpu("GPU 2", "580.65", 200, 2))
    assert Nvml.closed == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert [gpu.name for gpu in nvidia.gpus()] == ["GPU 2"]
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(nvmlInit_v2=lambda: 9))
    assert nvidia.gpus() == ()


def test_a_gpu_without_kernels_is_refused_before_anything_is_opened(folder, machine, tmp_path):
    module = machine(gpu="sm100")
    module.__file__ = str(tmp_path / "onnxruntime" / "__init__.py")
    library_with(tmp_path / "onnxruntime" / kernels.PROVIDER, (2, 90), (2, 120))
    with pytest.raises(
        DeviceError, match="'cuda' was asked for, but the installed ONNX Runtime has no kernels"
    ):
        select(folder, "cuda")
    _, choice = select(folder).open(STEP)
    assert choice.backend == "onnxruntime-cpu"
    assert "no kernels for the GPU here, which is sm100" in choice.reason
    assert not any("CUDA" in str(session.providers) for session in module.sessions)
