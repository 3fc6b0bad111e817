"""Engines of TensorRT on stand-ins for the library and for cuda.core, which compute in host memory."""

import dataclasses
import hashlib
import importlib.util
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

from grefine_rt.bundle.manifest import FileEntry
from grefine_rt.diffusion.restore import restore
from grefine_rt.engine.base import TensorSpec
from grefine_rt.engine.device_memory import CudaDevice, Scratch
from grefine_rt.engine.onnxruntime.session import OnnxEngine
from grefine_rt.engine.sized import SIZES_KEPT, axis_sizes
from grefine_rt.engine.tensorrt import build, jit_cache, probe
from grefine_rt.engine.tensorrt.build import EngineBuilder
from grefine_rt.engine.tensorrt.jit_cache import JitCache
from grefine_rt.engine.tensorrt.run import TensorRTEngine, profile_for
from grefine_rt.engine.tensorrt.sidecar import RTX_TARGETS, Environment
from grefine_rt.errors import BundleError, DeviceError
from grefine_rt.models.bundle import Bundle
from tests.support import fake_cuda, fake_tensorrt, tiny
from tests.support.redraw import redraw
from tests.support.tiny_bundle import TinyBundle
from tests.support.tiny_loop import DECODE, STEP, assert_same, inputs_of, loop

GRAPHS = sorted({*tiny.manifest()["components"].values()})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.bundle(tmp_path_factory.mktemp("tiny"))


class Here:
    """A machine with a stand-in GPU of `memory` bytes and a flavour of TensorRT, and the tiny bundle's engines."""

    def __init__(self, folder, out, patch, flavour="tensorrt-rtx", memory=10**9, captures=True):
        self.cuda = fake_cuda.module(memory, captures)
        self.trt = fake_tensorrt.module(stream=flavour == "tensorrt-rtx", cuda=self.cuda)
        bindings = SimpleNamespace(driver=self.cuda.driver)
        patch.setitem(sys.modules, "cuda", SimpleNamespace(core=self.cuda, bindings=bindings))
        patch.setitem(sys.modules, "cuda.core", self.cuda)
        patch.setitem(sys.modules, "cuda.bindings", bindings)
        patch.setitem(sys.modules, flavour.replace("-", "_"), self.trt)
        patch.setattr(build, "gpu_target", lambda: "sm89")
        self.manifest = Bundle.open(folder, "cpu").manifest
        self._builder, self._folder, self._out = EngineBuilder(("sm89",), flavour), folder, out
        self._builders = {
            False: self._builder,
            True: EngineBuilder(("sm89",), flavour, weight_streaming=True),
        }

    def load(self, graph, *, streaming=False, **options):
        path = self._builder.engine_path(self._out, graph)
        sidecar = self._builders[streaming].build(self._folder, self.manifest, graph, path)
        return TensorRTEngine(path, sidecar, **options)

    @property
    def used(self):
        return self.cuda.device_memory.used


@pytest.fixture
def machine(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("GREFINE_CACHE", str(tmp_path / "cache"))
    return lambda **options: Here(folder, tmp_path / "engines", monkeypatch, **options)


@pytest.mark.parametrize("flavour", ["tensorrt-rtx", "tensorrt"])
@pytest.mark.parametrize("graph", GRAPHS)
def test_a_run_is_that_of_onnx_runtime(folder, machine, graph, flavour):
    engine, there = machine(flavour=flavour).load(graph), OnnxEngine(folder / graph, "cpu")
    assert engine.inputs == there.inputs
    assert engine.outputs.keys() == there.outputs.keys()
    assert engine.device == "cuda:0"
    for seed in range(4):  # plain, captured, replayed
        arrays = inputs_of(folder, graph, seed=seed)
        assert_same(engine.run(arrays), there.run(arrays))
    assert engine.seconds > 0


def test_the_named_outputs_come_back_and_arrays_need_not_be_contiguous(folder, machine):
    engine, there = machine().load(STEP), OnnxEngine(folder / STEP, "cpu")
    arrays = inputs_of(folder, STEP)
    arrays["sample"] = arrays["sample"].transpose(0, 1, 3, 2)
    assert not arrays["sample"].flags.c_contiguous
    assert_same(engine.run(arrays, ["clean"]), there.run(arrays, ["clean"]))


class OnTensorRT(TinyBundle):
    """The tiny bundle with engines of TensorRT that share their scratch memory."""

    def use(self, here):
        self._here, self._scratch = here, Scratch()
        return self

    def engine(self, component):
        graph = self.manifest.components[component]
        if graph not in self._engines:
            self._engines[graph] = self._here.load(graph, scratch=self._scratch)
        return self._engines[graph]


@pytest.mark.parametrize("flavour", ["tensorrt-rtx", "tensorrt"])
@pytest.mark.parametrize("solver", ["euler", "dpm++2m"])
def test_both_stages_are_those_of_onnx_runtime(folder, machine, flavour, solver):
    picture = np.random.default_rng(3).random((32, 48, 3), dtype=np.float32)
    mask = np.zeros((32, 48), bool)
    mask[5:20, 10:33] = True
    results = []
    for bundle in (
        TinyBundle.open(folder, "cpu", threads=1),
        OnTensorRT.open(folder, "cpu").use(machine(flavour=flavour)),  # type: ignore[attr-defined]
    ):
        guidance = [3.0, 3.0, 1.0, 1.0]  # the last calls take one row
        first = redraw(
            bundle, picture, mask, "a red cat", strength=0.8, seed=5, solver=solver, guidance=guidance
        )
        second = restore(bundle, first.image, "a red cat", seed=5, solver=solver)
        results.append((first, second))
    for here, there in zip(*results, strict=True):
        np.testing.assert_array_equal(here.latent, there.latent)
        np.testing.assert_array_equal(here.image, there.image)


def test_nothing_is_copied_between_steps(machine):
    here = machine()
    engine = here.load(STEP)
    bindings, counts = [], []
    bind = engine.bind
    engine.bind = lambda: bindings.append(bind()) or bindings[0]

    def copies(steps):
        bindings.clear()
        before = here.cuda.host_copies
        loop(engine, steps=steps)
        counts.append(bindings[0].copies)
        return here.cuda.host_copies - before - bindings[0].copies

    assert copies(4) == copies(9) == 0  # nothing crosses that the binding does not count
    # A timestep and a row of coefficients a step go up before the first one; the result comes back.
    assert counts[1] - counts[0] == 2 * 5


def test_an_own_graph_is_captured_once_a_size_and_serves_later_loops(folder, machine):
    here = machine(flavour="tensorrt")
    engine = here.load(STEP)
    plain = loop(engine, steps=1)
    np.testing.assert_array_equal(loop(engine, steps=1), plain)
    assert (here.cuda.graphs, here.cuda.launches) == (0, 0)
    np.testing.assert_array_equal(loop(engine, steps=1), plain)
    assert (here.cuda.graphs, here.cuda.launches) == (1, 1)
    loop(engine, steps=7, seed=1)
    assert (here.cuda.graphs, here.cuda.launches) == (1, 8)
    np.testing.assert_array_equal(loop(engine, seed=2), loop(OnnxEngine(folder / STEP, "cpu"), seed=2))
    for cells in ((2, 4), (4, 4), (2, 4), (4, 4), (2, 4)):
        engine.run(inputs_of(folder, STEP, cells))
    assert here.cuda.graphs == 2
    assert engine.graphs == "captured at the third run of a size"


def test_what_cannot_be_captured_runs_plainly_and_says_so(folder, machine):
    here = machine(flavour="tensorrt", captures=False)
    engine = here.load(STEP)
    np.testing.assert_array_equal(loop(engine), loop(OnnxEngine(folder / STEP, "cpu")))
    assert here.cuda.launches == 0
    assert engine.graphs == "not used, for capturing failed (CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED)"


def test_tensorrt_for_rtx_captures_its_graphs_itself(machine):
    here = machine()
    engine = here.load(STEP)
    loop(engine)
    assert here.cuda.graphs == 0
    assert engine.graphs == "captured by TensorRT for RTX itself"
    assert engine._config.cuda_graph_strategy is fake_tensorrt.Graphs.WHOLE_GRAPH_CAPTURE


def test_kernels_are_specialised_before_a_run_not_during_a_loop(machine):
    """With LAZY ones the first loop would begin with other kernels than it ends with."""
    config = machine().load(STEP)._config
    chosen = config.dynamic_shapes_kernel_specialization_strategy
    assert chosen is fake_tensorrt.Specialization.EAGER


@pytest.mark.parametrize("flavour", ["tensorrt-rtx", "tensorrt"])
def test_weights_that_stream_are_not_captured_and_it_says_so(folder, machine, flavour):
    here = machine(flavour=flavour)
    engine = here.load(STEP, streaming=True, budget=400)
    for _ in range(4):
        engine.run(inputs_of(folder, STEP))
    assert (here.cuda.graphs, here.cuda.launches) == (0, 0)
    assert engine.graphs == "not used, for weights come from host memory in every run"
    if flavour == "tensorrt-rtx":
        assert engine._config.cuda_graph_strategy is fake_tensorrt.Graphs.DISABLED
    whole = here.load(STEP, streaming=True, budget=1000)
    assert "captured" in whole.graphs


@pytest.mark.parametrize("flavour", ["tensorrt-rtx", "tensorrt"])
def test_a_context_whose_scratch_memory_moves_is_made_anew(folder, machine, flavour):
    """TensorRT for RTX captures graphs itself, with the old address in them."""
    here = machine(flavour=flavour)
    scratch = Scratch()
    step, decode = (here.load(graph, scratch=scratch) for graph in (STEP, DECODE))
    here.trt.engines[1].need = lambda profile: 50_000
    arrays = inputs_of(folder, STEP)
    wanted = OnnxEngine(folder / STEP, "cpu").run(arrays)
    assert_same(step.run(arrays), wanted)
    (plan,) = step._executions.values()
    first = plan._context
    assert_same(step.run(arrays), wanted)
    assert plan._context is first
    decode.run(inputs_of(folder, DECODE))
    for _ in range(4):
        assert_same(step.run(arrays), wanted)
    assert plan._context is not first
    assert first.runs == 2


def test_no_answer_to_how_much_memory_is_an_error(folder, machine):
    here = machine()
    engine = here.load(STEP)
    here.trt.engines[0].need = lambda profile: 0
    with pytest.raises(DeviceError, match="the memory of these sizes was refused"):
        engine.run(inputs_of(folder, STEP))


def test_scratch_memory_is_shared_and_as_large_as_the_largest_need(folder, machine):
    here = machine(flavour="tensorrt")
    scratch = Scratch()
    step, decode = (here.load(graph, scratch=scratch) for graph in (STEP, DECODE))
    assert scratch.size == 0
    here.trt.engines[1].need = lambda profile: 50_000
    for seed in range(3):  # it grows after the graph of the first one was captured
        arrays = inputs_of(folder, STEP, seed=seed)
        assert_same(step.run(arrays), OnnxEngine(folder / STEP, "cpu").run(arrays))
    assert scratch.size == 2 * fake_tensorrt.SCRATCH  # of the second profile, neither wide nor high
    images = inputs_of(folder, DECODE)
    for _ in range(2):
        assert_same(decode.run(images), OnnxEngine(folder / DECODE, "cpu").run(images))
        assert_same(step.run(arrays), OnnxEngine(folder / STEP, "cpu").run(arrays))
    assert scratch.size == 50_000
    assert list(here.cuda.device_memory.live.values()).count(50_000) == 1


def test_many_loops_and_many_sizes_hold_no_more_memory(folder, machine):
    here = machine()
    engine = here.load(STEP)
    loop(engine)
    before = here.used
    for seed in range(50):
        loop(engine, seed=seed)
    assert here.used == before
    for cells in [(h, w) for h in range(2, 7) for w in range(2, 7)]:
        engine.run(inputs_of(folder, STEP, cells))
    assert len(engine._executions) == SIZES_KEPT
    largest = here.used
    for cells in [(6, 6 - n % 5) for n in range(10)]:
        engine.run(inputs_of(folder, STEP, cells))
    assert here.used <= largest


def test_an_upload_is_a_copy_of_its_own_and_a_buffer_may_be_read_while_another_is_written(folder, machine):
    binding = machine().load(STEP).bind()
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    held = binding.upload(array)
    array[:] = -1
    assert (held.shape, held.dtype) == ((2, 3), np.float32)
    np.testing.assert_array_equal(binding.fetch(held), np.arange(6).reshape(2, 3))
    back = binding.fetch(held)
    back[:] = 7
    np.testing.assert_array_equal(binding.fetch(held), np.arange(6).reshape(2, 3))


def test_outputs_never_set_are_left_alone(folder, machine):
    engine, arrays = machine().load(STEP), inputs_of(folder, STEP)
    binding = engine.bind()
    for name, array in arrays.items():
        binding.set_input(name, binding.upload(array))
    following = binding.buffer((1, 4, 4, 4))
    binding.set_output("next", following)
    binding.run()
    wanted = OnnxEngine(folder / STEP, "cpu").run(arrays)["next"]
    np.testing.assert_array_equal(binding.fetch(following), wanted)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sample": np.zeros((1, 3, 4, 4), np.float32)}, "must be float32 (1, 4, h, w)"),
        ({"sample": np.zeros((1, 4, 4, 4), np.float64)}, "must be float32 (1, 4, h, w)"),
        ({"sample": None}, "['sample'] are missing"),
        ({"noise": np.zeros((1, 4, 2, 4), np.float32)}, "axis 'h' of 'noise' is 2, but 4 in another input"),
    ],
)
def test_what_does_not_fit_the_graph_is_one_sentence(folder, machine, change, words):
    arrays = {**inputs_of(folder, STEP), **change}
    with pytest.raises(BundleError) as caught:
        machine().load(STEP).run({name: array for name, array in arrays.items() if array is not None})
    assert words in str(caught.value)


def test_a_binding_checks_as_it_is_set(folder, machine):
    engine = machine().load(STEP)
    binding = engine.bind()
    wrong = binding.buffer((1, 2, 4, 4))
    with pytest.raises(BundleError, match="must be float32"):
        binding.set_input("sample", wrong)
    with pytest.raises(BundleError, match="no tensor 'surprise'"):
        binding.set_output("surprise", wrong)
    with pytest.raises(BundleError, match="also wants the inputs"):
        binding.run()
    for name, array in inputs_of(folder, STEP).items():
        binding.set_input(name, binding.upload(array))
    binding.set_output("next", binding.buffer((1, 4, 5, 4)))
    with pytest.raises(BundleError, match="tensor 'next' must be"):
        binding.run()
    with pytest.raises(BundleError, match="no tensor 'surprise'"):
        engine.run(inputs_of(folder, STEP), ["surprise"])


def test_a_size_that_is_refused_drops_none_that_is_kept(folder, machine):
    engine = machine().load(STEP)
    for cells in [(h, w) for h in range(2, 5) for w in range(2, 5)]:
        engine.run(inputs_of(folder, STEP, cells))
    kept = list(engine._executions)
    assert len(kept) == SIZES_KEPT
    with pytest.raises(BundleError, match="no profile"):
        engine.run(inputs_of(folder, STEP, (4, 9)))
    assert list(engine._executions) == kept


def test_a_size_that_no_profile_holds_names_the_largest(folder, machine):
    with pytest.raises(BundleError) as caught:
        machine().load(STEP).run(inputs_of(folder, STEP, (4, 9)))
    assert "no profile of the engine holds h = 4, w = 9, n = 2, l = 6" in str(caught.value)
    assert "its largest is h = 6, w = 6, n = 2, l = 6: use a smaller picture" in str(caught.value)


def one_line(error):
    text = str(error.value)
    assert text.endswith(".")
    assert "\n" not in text
    return text


def test_out_of_memory_is_one_sentence_frees_what_it_took_and_the_process_goes_on(folder, machine):
    here = machine()
    engine = here.load(STEP)
    small, large = inputs_of(folder, STEP, (2, 2)), inputs_of(folder, STEP, (6, 6))
    wanted = OnnxEngine(folder / STEP, "cpu").run(small)
    assert_same(engine.run(small), wanted)
    before = here.used
    here.cuda.device_memory.size = before + 2000
    binding = engine.bind()
    for fails in (lambda: engine.run(large), lambda: binding.buffer((1000,))):
        with pytest.raises(DeviceError) as caught:
            fails()
        assert "CUDA_ERROR_OUT_OF_MEMORY" in one_line(caught)
        assert "use a smaller image or the device 'cpu'" in one_line(caught)
        assert here.used == before  # while the error itself is still held
        assert len(here.trt.engines[0].contexts) == 1
    assert_same(engine.run(small), wanted)


def test_scratch_that_cannot_grow_leaves_the_engines_usable(folder, machine):
    here = machine(memory=10**5)
    engine = here.load(STEP)
    arrays = inputs_of(folder, STEP, (2, 2))
    wanted = engine.run(arrays)
    (inner,) = here.trt.engines
    need, inner.need = inner.need, lambda profile: 10**6
    with pytest.raises(DeviceError, match="OUT_OF_MEMORY"):
        engine.run(inputs_of(folder, STEP, (2, 3)))
    inner.need = need  # of the smaller size, whose context is made anew
    assert_same(engine.run(arrays), wanted)


def test_what_tensorrt_refuses_is_one_sentence_with_its_reason(folder, machine):
    here = machine()
    engine = here.load(STEP)
    here.cuda.refuse_runs = True
    with pytest.raises(DeviceError) as caught:
        engine.run(inputs_of(folder, STEP))
    assert "TensorRT failed on 'cuda:0' (the run was refused: the kernel did not like it)" in one_line(caught)


def test_a_file_that_is_no_engine_or_missing_is_one_sentence(machine, tmp_path):
    here = machine()
    engine = here.load(STEP)
    path = next(tmp_path.rglob("inpaint_step.engine"))
    sidecar = build.Sidecar.from_json(path.with_suffix(".json").read_text())  # type: ignore[attr-defined]
    del engine
    for content, kind, words in (
        (b"junk", DeviceError, "(Magic tag does not match)"),
        (b"", BundleError, "cannot be read"),
        (None, BundleError, "No such file"),
    ):
        path.unlink() if content is None else path.write_bytes(content)
        built = FileEntry(len(content or b""), hashlib.sha256(content or b"").hexdigest())
        with pytest.raises(kind) as caught:
            TensorRTEngine(path, dataclasses.replace(sidecar, engine=built))
        assert words in one_line(caught)


def test_an_engine_changed_after_it_was_built_is_not_loaded(machine, tmp_path):
    machine().load(STEP)
    path = next(tmp_path.rglob("inpaint_step.engine"))
    sidecar = build.Sidecar.from_json(path.with_suffix(".json").read_text())  # type: ignore[attr-defined]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError) as caught:
        TensorRTEngine(path, sidecar)
    assert "inpaint_step.engine' was changed after it was built" in one_line(caught)


@pytest.mark.parametrize("flavour", ["tensorrt-rtx", "tensorrt"])
def test_what_is_installed_can_be_tried_without_an_engine(machine, monkeypatch, flavour):
    here = machine(flavour=flavour)
    # With both installed the GPU decides: TensorRT for RTX knows no sm90.
    versions = dict.fromkeys(("tensorrt-rtx", "tensorrt"), "1.7")
    installed = Environment("", versions, "sm90" if flavour == "tensorrt" else "sm89")
    monkeypatch.setattr(Environment, "here", classmethod(lambda *_: installed))
    monkeypatch.setattr(probe, "library", lambda name: {flavour: here.trt}[name])
    probe.probe("cuda:0")
    with pytest.raises(DeviceError, match="'cuda:3' cannot be used"):
        probe.probe("cuda:3")

    def failing(log):
        log.log(here.trt.ILogger.Severity.ERROR, "CUDA driver is too old")
        raise TypeError("factory function returned nullptr")

    monkeypatch.setattr(here.trt.Runtime, "deserialize_cuda_engine", lambda runtime, data: None)
    with pytest.raises(DeviceError, match="its engine was refused"):
        probe.probe("cuda:0")
    monkeypatch.setattr(here.trt, "Runtime", failing)
    with pytest.raises(DeviceError) as caught:
        probe.probe("cuda:0")
    assert "(factory function returned nullptr; CUDA driver is too old)" in one_line(caught)


def test_a_missing_library_or_gpu_is_one_sentence(machine, monkeypatch):
    here = machine()
    with pytest.raises(DeviceError) as caught:
        here.load(STEP, device="cuda:3")
    assert "Device 'cuda:3' cannot be used (device_id must be within [0, 1), got 3)" in one_line(caught)
    with pytest.raises(DeviceError, match="scratch memory is on 'cuda:0', but the engine on 'cuda:1'"):
        here.load(STEP, device="cuda:1", scratch=Scratch())
    monkeypatch.setitem(sys.modules, "cuda.core", None)
    monkeypatch.setitem(sys.modules, "cuda", SimpleNamespace())
    with pytest.raises(DeviceError, match=r"pip install \.\[tensorrt\]"):
        Scratch()


@pytest.mark.parametrize(
    ("streaming", "budget", "wanted"),
    [(True, 400, 400), (True, 5000, 1000), (False, 400, 1000), (True, None, 1000)],
)
def test_a_budget_is_for_engines_that_stream_their_weights(machine, streaming, budget, wanted):
    here = machine()
    here.load(STEP, streaming=streaming, budget=budget)
    assert here.trt.engines[0].weight_streaming_budget_v2 == wanted


def test_the_driver_tells_what_memory_is_free(machine):
    here = machine()
    gpu = CudaDevice("cuda:0")
    assert gpu.free_memory == 10**9
    held = gpu.allocate(4 * 10**8)
    assert gpu.free_memory == 6 * 10**8
    gpu.free(held)
    assert gpu.free_memory == 10**9
    here.cuda.driver.cuMemGetInfo = lambda: ("CUDA_ERROR_UNKNOWN", 0, 0)
    with pytest.raises(
        DeviceError, match=r"does not tell how much memory is free \(CUDA_ERROR_UNKNOWN\): see"
    ):
        _ = gpu.free_memory


@pytest.mark.parametrize("flavour", ["tensorrt-rtx", "tensorrt"])
def test_threads_and_bindings_do_not_disturb_each_other(folder, machine, flavour):
    here = machine(flavour=flavour)
    scratch = Scratch()
    step, decode = (here.load(graph, scratch=scratch) for graph in (STEP, DECODE))
    there = OnnxEngine(folder / STEP, "cpu"), OnnxEngine(folder / DECODE, "cpu")
    images = inputs_of(folder, DECODE)
    start = threading.Barrier(4)

    def work(seed):
        start.wait()
        for _ in range(5):
            latent = loop(step, seed)
            decoded = decode.run(images)
        return latent, decoded

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(work, range(4)))
    for seed, (latent, decoded) in enumerate(found):
        np.testing.assert_array_equal(latent, loop(there[0], seed))
        assert_same(decoded, there[1].run(images))


def kernels(cache):
    return sorted(path.relative_to(cache).as_posix() for path in cache.rglob("*.cache"))


def test_compiled_kernels_are_kept_for_the_next_process(folder, machine, tmp_path):
    here = machine()
    engine = here.load(STEP)
    engine.run(inputs_of(folder, STEP))
    (name,) = kernels(tmp_path / "cache")
    assert name.startswith("kernels/Pretended_GPU_4090-sm89-driver580.65.6-tensorrt1.7.1.116/")
    again = here.load(STEP)
    assert again._kernels.cache.kernels == engine._kernels.cache.kernels != set()


def test_where_the_driver_does_not_tell_its_version_it_is_known_by_its_cuda(machine):
    def unknown():
        raise RuntimeError("NVML is not there")

    here = machine()
    here.cuda.system.get_kernel_mode_driver_version = unknown
    assert Scratch().gpu.key == "Pretended GPU 4090-sm89-driver-cuda13020"


def test_a_cache_is_written_when_it_grew_and_never_by_a_smaller_one(tmp_path):
    def cache(*kernels):
        made = fake_tensorrt.RuntimeCache()
        made.kernels = {*kernels}
        return made

    path = tmp_path / "deep" / "x.cache"
    first, second = JitCache(cache(b"one"), path), JitCache(cache(b"1"), path)
    first.keep()
    assert path.read_bytes() == b"cache:one"
    written = path.stat().st_ino
    first.keep()
    second.keep()
    assert (path.read_bytes(), path.stat().st_ino) == (b"cache:one", written)
    first.cache.kernels.add(b"two")
    first.keep()
    assert path.read_bytes() == b"cache:one;two"
    assert [other.name for other in path.parent.iterdir()] == ["x.cache"]
    assert JitCache(cache(), path).cache.kernels == {b"one", b"two"}


def test_a_cache_of_another_release_is_dropped_and_an_unwritable_folder_is_no_matter(tmp_path):
    path = tmp_path / "x.cache"
    path.write_bytes(b"another release, and much longer")
    mine = fake_tensorrt.RuntimeCache()
    held = JitCache(mine, path)
    mine.kernels = {b"a"}
    held.keep()
    assert path.read_bytes() == b"cache:a"
    (tmp_path / "file").write_text("")
    JitCache(mine, tmp_path / "file" / "x.cache").keep()


def test_a_cache_is_looked_at_after_a_few_runs_and_then_ever_more_seldom():
    assert [runs for runs in range(1, 40) if jit_cache.worth_keeping(runs)] == [1, 2, 4, 8, 16, 32]


BUCKETS = tuple({"h": (side // 2, side, side * 3 // 2), "n": (1, 2, 2)} for side in (64, 96, 128))


@pytest.mark.parametrize(
    ("h", "n", "wanted"),
    [
        *((64, 2, 0), (96, 2, 1), (128, 2, 2), (32, 1, 0), (76, 1, 0), (80, 2, 1), (144, 1, 2), (192, 2, 2)),
        *((193, 2, None), (31, 2, None), (64, 3, None)),
    ],
)
def test_the_profile_built_for_the_nearest_sizes_is_taken(h, n, wanted):
    assert profile_for(BUCKETS, {"h": h, "n": n}) == wanted
    turned = profile_for(BUCKETS[::-1], {"h": h, "n": n})
    assert turned == (None if wanted is None else 2 - wanted)


def test_a_graph_without_free_axes_has_one_profile():
    assert profile_for(({},), {}) == 0


def test_axes_of_the_same_name_have_one_size():
    specs = {name: TensorSpec(name, np.dtype(np.float32), (1, "h")) for name in "ab"}
    assert axis_sizes("g", specs, {"a": (1, 3), "b": (1, 3)}) == {"h": 3}
    with pytest.raises(BundleError, match="axis 'h' of 'b' is 4, but 3"):
        axis_sizes("g", specs, {"a": (1, 3), "b": (1, 4)})


def named(kind, *names):
    missing = [name for name in names if not hasattr(kind, name)]
    assert not missing, f"{kind} lacks {missing}"


def test_every_name_of_tensorrt_is_there_in_the_real_library(tmp_path, folder, monkeypatch):
    if importlib.util.find_spec("tensorrt_rtx") is None:
        pytest.fail("missing") if os.environ.get("CI") else pytest.skip("TensorRT for RTX is not installed")
    import tensorrt_rtx as trt

    named(trt.Runtime, "deserialize_cuda_engine")
    named(trt.ICudaEngine, "create_execution_context", "create_runtime_config", "streamable_weights_size")
    named(trt.ICudaEngine, "weight_streaming_budget_v2")
    named(trt.IExecutionContext, "set_optimization_profile_async", "set_input_shape", "get_tensor_shape")
    named(trt.IExecutionContext, "update_device_memory_size_for_shapes")
    named(trt.IExecutionContext, "set_tensor_address", "set_device_memory", "execute_async_v3")
    named(trt.IRuntimeConfig, "set_execution_context_allocation_strategy", "cuda_graph_strategy")
    named(trt.IRuntimeConfig, "create_runtime_cache", "set_runtime_cache")
    named(trt.IRuntimeCache, "serialize", "deserialize")
    named(trt.IRuntimeConfig, "dynamic_shapes_kernel_specialization_strategy")
    named(trt.DynamicShapesKernelSpecializationStrategy, "EAGER")
    named(trt.CudaGraphStrategy, "WHOLE_GRAPH_CAPTURE", "DISABLED")
    named(trt.IExecutionContext, "engine")
    named(trt.ICudaEngine, "device_memory_size_v2")
    named(trt.IHostMemory, "nbytes")
    assert not hasattr(trt.IHostMemory, "__len__")
    named(trt.BuilderFlag, "REQUIRE_USER_ALLOCATION")
    named(trt.PreviewFeature, "RUNTIME_ACTIVATION_RESIZE_10_10")
    named(trt.ExecutionContextAllocationStrategy, "USER_MANAGED")
    known = {name.lower() for name in trt.ComputeCapability.__members__ if name.startswith("SM")}
    assert set(RTX_TARGETS) == known


def test_without_a_driver_the_real_library_loads_nothing_in_one_sentence(folder, tmp_path, monkeypatch):
    if importlib.util.find_spec("tensorrt_rtx") is None:
        pytest.skip("TensorRT for RTX is not installed")
    if build.gpu_target() is not None:  # type: ignore[attr-defined]
        pytest.skip("a driver is here")
    path = tmp_path / "x.engine"
    sidecar = EngineBuilder(("sm89",)).build(folder, Bundle.open(folder, "cpu").manifest, DECODE, path)
    core = fake_cuda.module()
    monkeypatch.setitem(sys.modules, "cuda", SimpleNamespace(core=core))
    monkeypatch.setitem(sys.modules, "cuda.core", core)
    with pytest.raises(DeviceError) as caught:
        TensorRTEngine(path, sidecar)
    assert "cannot be loaded on 'cuda:0'" in one_line(caught)
    assert "driver" in one_line(caught)


def test_the_real_library_tells_that_it_cannot_be_tried_without_a_driver(monkeypatch):
    if importlib.util.find_spec("tensorrt_rtx") is None or build.gpu_target() is not None:  # type: ignore[attr-defined]
        pytest.skip("TensorRT for RTX is not installed, or a driver is here")
    core = fake_cuda.module()
    monkeypatch.setitem(sys.modules, "cuda", SimpleNamespace(core=core))
    monkeypatch.setitem(sys.modules, "cuda.core", core)
    here = Environment("", {"tensorrt-rtx": "1.7"}, "sm89")
    monkeypatch.setattr(Environment, "here", classmethod(lambda *_: here))
    with pytest.raises(DeviceError, match=r"TensorRT cannot use 'cuda:0' \(its engine was refused; .*driver"):
        probe.probe("cuda:0")


def test_every_name_of_cuda_core_is_there_in_the_real_one():
    core = pytest.importorskip(
        "cuda.core", reason="cuda-core with cuda-bindings is not installed", exc_type=ImportError
    )
    from cuda.bindings import driver
    from cuda.core.graph import Graph, GraphBuilder

    named(core.Device, "set_current", "create_stream", "create_graph_builder", "compute_capability", "name")
    named(core.Stream, "handle", "sync")
    named(core.Buffer, "from_handle", "copy_from", "handle", "size", "close")
    named(core.DeviceMemoryResource, "allocate")
    named(core, "DeviceMemoryResourceOptions")
    named(core.system, "get_kernel_mode_driver_version")
    named(driver, "cuDriverGetVersion", "cuMemGetInfo")
    named(GraphBuilder, "begin_building", "end_building", "complete", "stream")
    named(Graph, "launch")


def test_the_stand_in_finds_memory_that_is_used_after_it_was_freed(machine):
    machine()
    gpu = CudaDevice("cuda:0")
    first, second = gpu.allocate(8), gpu.allocate(8)
    gpu.copy(first, second)
    second.close()
    with pytest.raises(fake_cuda.CUDAError, match="ILLEGAL_ADDRESS"):
        gpu.sync()
