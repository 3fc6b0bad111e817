"""Steps as CUDA graphs of ONNX Runtime, on stand-ins for it and for cuda.core; tests/gpu has the real ones."""

import gc
import sys
import threading
import time
import weakref
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from PIL import Image

from grefine_rt import bench
from grefine_rt.diffusion.restore import restore
from grefine_rt.engine import device_memory
from grefine_rt.engine.onnxruntime import session as onnxruntime
from grefine_rt.engine.onnxruntime.gate import Gate
from grefine_rt.engine.onnxruntime.one_thread import OneThread
from grefine_rt.engine.onnxruntime.replay import MOST_CAPTURES, ReplayEngine
from grefine_rt.engine.onnxruntime.session import OnnxEngine
from grefine_rt.engine.sized import SIZES_KEPT
from grefine_rt.errors import BundleError, DeviceError, OptionError
from grefine_rt.models import selection
from grefine_rt.models.bundle import Bundle
from grefine_rt.models.warm_up import work_sizes
from tests.support import fake_cuda, tiny
from tests.support.fake_bundle import scene
from tests.support.fake_replay import Onnxruntime
from tests.support.redraw import redraw
from tests.support.tiny_bundle import TinyBundle
from tests.support.tiny_loop import DECODE, STEP, assert_same, inputs_of, loop


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.bundle(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def machine(monkeypatch):
    """A machine with a GPU, on which steps are captured."""
    cuda = fake_cuda.module()
    fake = Onnxruntime(cuda)
    monkeypatch.setitem(sys.modules, "cuda", SimpleNamespace(core=cuda))
    monkeypatch.setitem(sys.modules, "cuda.core", cuda)
    monkeypatch.setattr(onnxruntime, "module", lambda: fake)
    monkeypatch.setattr(selection, "module", lambda: fake)
    monkeypatch.setattr("grefine_rt.engine.onnxruntime.replay.module", lambda: fake)
    monkeypatch.setattr(onnxruntime, "_preloaded", [])
    monkeypatch.setattr(device_memory, "find_spec", lambda name: name)
    monkeypatch.setattr("grefine_rt.engine.tensorrt.sidecar.gpu_target", lambda index=0: "sm89")
    return SimpleNamespace(cuda=cuda, fake=fake)


@pytest.fixture
def wanted(folder):
    """What ONNX Runtime gives on the CPU; opened before the stand-in takes its place."""
    engines = {graph: OnnxEngine(folder / graph, "cpu") for graph in (STEP, DECODE)}
    return lambda arrays, graph=STEP: engines[graph].run(arrays)


@pytest.fixture
def plain_loop(folder):
    engine = OnnxEngine(folder / STEP, "cpu")
    return lambda **options: loop(engine, **options)


@pytest.fixture
def both_stages(folder):
    picture = np.random.default_rng(3).random((32, 48, 3), dtype=np.float32)
    mask = np.zeros((32, 48), bool)
    mask[5:20, 10:33] = True

    def stages(bundle):
        guidance = [3.0, 3.0, 1.0, 1.0]  # the last calls take one row: another set of sizes
        first = redraw(bundle, picture, mask, "a red cat", strength=0.8, seed=5, guidance=guidance)
        return first, restore(bundle, first.image, "a red cat", seed=5)

    return stages, stages(TinyBundle.open(folder, "cpu", threads=1))


@pytest.fixture
def replayed(wanted, plain_loop, both_stages, machine):
    """The machine, after what is expected was made without it."""
    return machine


def test_a_replayed_run_is_that_of_onnx_runtime(folder, wanted, replayed):
    engine = ReplayEngine(folder / STEP, "cuda")
    session = engine.session
    assert session.settings["enable_cuda_graph"] == "1"
    for seed in range(4):  # captured, then replayed
        arrays = inputs_of(folder, STEP, seed=seed)
        assert_same(engine.run(arrays), wanted(arrays))
    assert (len(session.captured), session.replays, session.plain) == (1, 3, 0)
    assert engine.device == "cuda:0"
    assert engine.seconds > 0


def test_both_stages_are_those_of_onnx_runtime(folder, both_stages, replayed):
    stages, expected = both_stages
    bundle = TinyBundle.open(folder, "cuda", cuda_graphs=True)
    for found, there in zip(stages(bundle), expected, strict=True):
        np.testing.assert_array_equal(found.latent, there.latent)
        np.testing.assert_array_equal(found.image, there.image)
    settings = {session.settings["enable_cuda_graph"]: session for session in replayed.fake.sessions}
    assert settings.keys() == {"0", "1"}  # only steps capture
    inpaint, restoring = (s for s in replayed.fake.sessions if s.settings["enable_cuda_graph"] == "1")
    assert (len(inpaint.captured), len(restoring.captured)) == (2, 1)
    reasons = {choice.component: choice.reason for choice in bundle.choices}
    assert reasons["inpaint_step"] == reasons["restore_step"] == "Asked for by name, as CUDA graphs."
    assert reasons["inpaint_decode"] == "Asked for by name."


def test_loops_of_any_thread_use_a_session_from_one_thread(folder, plain_loop, replayed):
    engine = ReplayEngine(folder / STEP, "cuda")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda seed: loop(engine, seed=seed), range(8)))
    for seed, latent in enumerate(found):
        np.testing.assert_array_equal(latent, plain_loop(seed=seed))
    session = engine.session
    assert len(session.threads) == 1
    assert threading.get_ident() not in session.threads


def test_nothing_is_copied_between_steps(folder, replayed):
    engine = ReplayEngine(folder / STEP, "cuda")
    bindings, bind = [], engine.bind
    engine.bind = lambda: bindings.append(bind()) or bindings[-1]
    for steps in (4, 9):
        before = replayed.cuda.host_copies
        loop(engine, steps=steps)
        assert replayed.cuda.host_copies - before == bindings[-1].copies
    # A timestep and a row of coefficients a step go up before the first one.
    assert bindings[1].copies - bindings[0].copies == 2 * 5


def test_many_sizes_hold_no_more_memory_and_no_more_graphs(folder, wanted, replayed):
    engine = ReplayEngine(folder / STEP, "cuda")
    sizes = [(h, w) for h in range(6, 1, -1) for w in range(6, 1, -1)]
    for cells in sizes:
        arrays = inputs_of(folder, STEP, cells)
        assert_same(engine.run(arrays), wanted(arrays))
    session = engine.session
    assert (len(session.captured), session.plain) == (SIZES_KEPT, len(sizes) - SIZES_KEPT)
    held = replayed.cuda.device_memory.used
    for cells in sizes * 2:
        arrays = inputs_of(folder, STEP, cells)
        assert_same(engine.run(arrays), wanted(arrays))
    assert len(session.captured) == SIZES_KEPT
    assert session.replays == 2 * SIZES_KEPT  # the first ones stay
    assert replayed.cuda.device_memory.used == held


def test_nobody_asks_for_memory_while_a_graph_is_captured(folder, wanted, replayed):
    """Others' runs, uploads and loads wait, also those of another scratch memory."""
    engine, other = ReplayEngine(folder / STEP, "cuda"), OnnxEngine(folder / DECODE, "cuda")
    beside = ReplayEngine(folder / STEP, "cuda").bind()
    arrays, images = inputs_of(folder, STEP), inputs_of(folder, DECODE)
    replayed.fake.pause.clear()
    with ThreadPoolExecutor(4) as pool:
        captured = pool.submit(engine.run, arrays)
        assert replayed.fake.paused.wait(10)
        waiting = [
            pool.submit(other.run, images),
            pool.submit(OnnxEngine, folder / DECODE, "cuda"),
            pool.submit(beside.upload, np.ones(3, np.float32)),
        ]
        time.sleep(0.1)
        assert not any(one.done() for one in waiting)  # type: ignore[attr-defined]
        replayed.fake.pause.set()
        assert_same(captured.result(10), wanted(arrays))
        assert_same(waiting[0].result(10), wanted(images, DECODE))  # type: ignore[attr-defined]
        assert waiting[1].result(10).device == "cuda:0"  # type: ignore[attr-defined]
        np.testing.assert_array_equal(beside.fetch(waiting[2].result(10)), np.ones(3))  # type: ignore[attr-defined]


def test_a_larger_size_makes_all_be_captured_anew(folder, wanted, replayed):
    """ONNX Runtime may have replaced buffers of its own that the older graphs read."""
    engine = ReplayEngine(folder / STEP, "cuda")
    one, two = (inputs_of(folder, STEP, rows=rows) for rows in (1, 2))
    for arrays in (one, two, one, two, one):
        assert_same(engine.run(arrays), wanted(arrays))
    assert engine.session.numbers == [1, 2, 3]
    assert engine.session.replays == 2
    assert len(engine._captured) == 2


def test_a_set_larger_than_each_on_some_axis_is_larger(folder, wanted, replayed):
    engine = ReplayEngine(folder / STEP, "cuda")
    for cells in ((2, 6), (6, 2), (6, 6), (2, 6), (6, 2), (6, 6)):
        arrays = inputs_of(folder, STEP, cells)
        assert_same(engine.run(arrays), wanted(arrays))
    assert engine.session.numbers == [1, 2, 3, 4, 5]
    assert engine.session.replays == 1


def test_an_engine_goes_with_its_last_reference(folder, replayed):
    """Not when the garbage collector likes: sessions give memory back as they go."""
    engine = ReplayEngine(folder / STEP, "cuda")
    engine.run(inputs_of(folder, STEP))
    session = weakref.ref(engine.session)
    replayed.fake.sessions.clear()
    gc.disable()
    try:
        del engine
        deadline = time.monotonic() + 10
        while session() is not None and time.monotonic() < deadline:
            time.sleep(0.01)  # its thread lets go of the last call
        assert session() is None
        assert replayed.cuda.device_memory.used == 0
    finally:
        gc.enable()


def test_what_was_run_twice_is_only_replayed_later(folder, replayed):
    """As `Assessor.warm_up` runs what it is told of."""
    engine = ReplayEngine(folder / STEP, "cuda")
    manifest = Bundle.open(folder, "cpu").manifest
    sizes = work_sizes(manifest, "inpaint_step", [(128, 32), (32, 128), (64, 32)])
    assert len(sizes) == 4
    every = [
        inputs_of(folder, STEP, (4, 4) if size is None else (size[1] // 8, size[0] // 8), rows=rows)
        for rows in (2, 1)
        for size in sizes * 2
    ]
    for arrays in every:
        engine.run(arrays)
    captured = list(engine.session.numbers)
    for arrays in every:
        engine.run(arrays)
    assert engine.session.numbers == captured
    assert engine.session.plain == 0


def test_captures_end_somewhere(folder, wanted, replayed):
    engine = ReplayEngine(folder / STEP, "cuda")
    for side in range(2, MOST_CAPTURES + 20):
        arrays = inputs_of(folder, STEP, (side, side))
        assert_same(engine.run(arrays), wanted(arrays))
    assert len(engine.session.numbers) == MOST_CAPTURES
    assert len(engine._captured) + len(engine._executions) <= 2 * SIZES_KEPT


def test_a_first_run_that_fails_is_one_sentence_and_its_graph_is_never_replayed(folder, wanted, replayed):
    engine = ReplayEngine(folder / STEP, "cuda")
    held = replayed.cuda.device_memory.used
    arrays = inputs_of(folder, STEP)
    for reason, words in (
        (
            "Failed to allocate memory for requested buffer of size 12\nmore",
            "memory ran out on 'cuda:0' .*size 12",
        ),
        (
            "CUDA failure 900: not permitted",
            r"failed on 'cuda:0' \(CUDA failure 900.*or do without CUDA graphs\.",
        ),
    ):
        replayed.fake.refuses.append(reason)
        with pytest.raises(DeviceError, match=words) as caught:
            engine.run(arrays)
        assert "\n" not in str(caught.value)
        assert replayed.cuda.device_memory.used == held
    for _ in range(2):
        assert_same(engine.run(arrays), wanted(arrays))
    assert (engine.session.numbers, engine.session.replays) == ([1, 2, 3], 1)


def test_memory_that_runs_out_is_one_sentence_and_frees_what_it_took(folder, wanted, replayed):
    engine = ReplayEngine(folder / STEP, "cuda")
    small, large = inputs_of(folder, STEP, (2, 2)), inputs_of(folder, STEP, (6, 6))
    engine.run(small)
    held = replayed.cuda.device_memory.used
    replayed.cuda.device_memory.size = held + 2000
    with pytest.raises(DeviceError, match=r"memory ran out on 'cuda:0' \(CUDA_ERROR_OUT_OF_MEMORY"):
        engine.run(large)
    assert replayed.cuda.device_memory.used <= held
    assert_same(engine.run(small), wanted(small))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sample": np.zeros((1, 3, 4, 4), np.float32)}, "must be float32 (1, 4, h, w)"),
        ({"noise": np.zeros((1, 4, 2, 4), np.float32)}, "axis 'h' of 'noise' is 2, but 4 in another input"),
    ],
)
def test_what_does_not_fit_the_graph_is_one_sentence(folder, replayed, change, words):
    with pytest.raises(BundleError) as caught:
        ReplayEngine(folder / STEP, "cuda").run({**inputs_of(folder, STEP), **change})
    assert words in str(caught.value)


def test_only_graphs_whose_sizes_are_known_before_a_run(folder, replayed, tmp_path):
    with pytest.raises(
        BundleError, match=r"inpaint_decode: no input has the axes \['H', 'W'\] of output 'image'"
    ):
        ReplayEngine(folder / DECODE, "cuda")
    with pytest.raises(BundleError, match="is missing"):
        ReplayEngine(tmp_path / "none.onnx", "cuda")
    graph = tiny.model("g (complex64[n] x) => (complex64[n] y) { y = Identity(x) }")
    onnx.save(graph, tmp_path / "strange.onnx")
    with pytest.raises(DeviceError, match="ONNX Runtime cannot open it on 'cuda'"):
        ReplayEngine(tmp_path / "strange.onnx", "cuda")


@pytest.mark.parametrize("device", ["auto", "cpu", "tensorrt", "rtx"])
def test_cuda_graphs_go_with_cuda_alone(folder, device):
    with pytest.raises(OptionError, match=f"CUDA graphs go with the device 'cuda', not with '{device}'"):
        Bundle.open(folder, device, cuda_graphs=True)
    with pytest.raises(DeviceError, match=f"need the device 'cuda', but got '{device}'"):
        ReplayEngine(folder / STEP, device)


def test_without_cuda_core_the_sentence_says_what_to_install(folder, replayed, monkeypatch):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device_memory, "find_spec", lambda name: None if name == "cuda.core" else name)
        with pytest.raises(
            DeviceError, match=r"asked for, but cuda\.core is not installed: run 'pip install \.\[tensorrt"
        ):
            Bundle.open(folder, "cuda", cuda_graphs=True)
    monkeypatch.setitem(sys.modules, "cuda.core", None)
    with pytest.raises(DeviceError, match=r"cuda\.core is not installed"):
        ReplayEngine(folder / STEP, "cuda")


def test_a_gate_lets_many_pass_at_once():
    gate, inside = Gate(), threading.Barrier(3)

    def together():
        with gate.together():
            inside.wait(10)  # nobody goes on before all are in

    with ThreadPoolExecutor(3) as pool:
        for one in [pool.submit(together) for _ in range(3)]:
            one.result(10)


def test_one_alone_waits_for_those_inside_and_keeps_others_out():
    gate, order = Gate(), []

    def alone(name):
        with gate.alone():
            order.append(name)
            time.sleep(0.02)
            order.append(name)

    def together():
        with gate.together():
            order.append("together")

    with ThreadPoolExecutor(4) as pool:
        with gate.together():
            tasks = [pool.submit(alone, "a"), pool.submit(alone, "b")]
            while not gate._closed:
                time.sleep(0.01)
            tasks.append(pool.submit(together))  # comes after who waits for those inside to leave
            time.sleep(0.05)
            assert order == []
        for task in tasks:
            task.result(10)
    assert order[0] != "together"
    assert sorted(order) == ["a", "a", "b", "b", "together"]
    assert [order.index(name, order.index(name) + 1) - order.index(name) for name in "ab"] == [1, 1]


def test_an_interrupted_wait_leaves_the_gate_open(monkeypatch):
    gate = Gate()
    with gate.together():
        calls = []

        def interrupted(test, timeout=None):
            calls.append(test)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return test()

        monkeypatch.setattr(gate._changed, "wait_for", interrupted)
        with pytest.raises(KeyboardInterrupt), gate.alone():
            pytest.fail("somebody is inside")
        monkeypatch.undo()
    with gate.together(), pytest.raises(ZeroDivisionError):
        raise ZeroDivisionError
    with gate.alone():
        pass


def test_what_one_thread_runs_has_ended_whatever_interrupts_the_wait(monkeypatch):
    thread, ended = OneThread("test"), threading.Event()
    assert thread.run(threading.get_ident) == thread.run(threading.get_ident) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        thread.run(lambda: 1 / 0)
    result = Future.result

    def interrupted(self, timeout=None):
        monkeypatch.setattr(Future, "result", result)
        raise KeyboardInterrupt

    monkeypatch.setattr(Future, "result", interrupted)
    with pytest.raises(KeyboardInterrupt):
        thread.run(lambda: time.sleep(0.1) or ended.set())
    assert ended.is_set()
    name = "test-that-ends"
    another = OneThread(name)
    another.run(int)
    del another
    gc.collect()
    for _ in range(100):
        if all(one.name != name for one in threading.enumerate()):
            break
        time.sleep(0.02)
    else:
        pytest.fail("the thread did not end")


@pytest.mark.parametrize("command", ["refine", "bench"])
def test_the_commands_pass_the_option_on(run, fake, tmp_path, monkeypatch, command):
    asked = []
    monkeypatch.setattr(bench, "measure", lambda *_: {"resolution": 64})
    monkeypatch.setattr(bench, "cold_start", lambda *arguments: asked.append(arguments))
    picture = tmp_path / "scene.png"
    Image.fromarray(scene([["house", "sea"]] * 2)).save(picture)
    more = (picture, "-p", "a house") if command == "refine" else ("--json",)
    run(command, *more, "--device", "cuda", "--cuda-graphs")
    assert fake.loaded == [("mini", "cuda", None, "cuda-graphs")]
    assert asked == ([] if command == "refine" else [("mini", "cuda", None, 64, True)])


@pytest.mark.parametrize("command", [("refine", "examples/wrong_colour.png", "--plan-only"), ("bench",)])
def test_the_commands_refuse_cuda_graphs_elsewhere(run, command):
    done = run(*command, "--cuda-graphs", "--device", "cpu")
    assert done.exit_code == 2
    assert done.stderr.strip().splitlines()[-1].endswith("TensorRT engines use them unasked.")
