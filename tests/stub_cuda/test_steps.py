"""Denoising steps on ONNX Runtime CUDA: plain, and as CUDA graphs over all sizes of pictures."""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import onnx
import pytest

from grefine_rt.contract import Schedule
from grefine_rt.diffusion.loop import denoise
from grefine_rt.diffusion.solver import step_table
from grefine_rt.diffusion.tiled_step import TiledStep
from grefine_rt.engine.onnxruntime.replay import ReplayEngine
from grefine_rt.engine.onnxruntime.session import OnnxEngine
from grefine_rt.engine.sized import SIZES_KEPT
from grefine_rt.errors import DeviceError
from grefine_rt.imaging.tiles import cut
from tests.stub_cuda.conftest import MINI, graphs, inputs
from tests.support import tiny
from tests.support.stub_cuda import counts

SCHEDULE = Schedule(1000, 0.00085, 0.012, "leading", 1)
SIDES = (8, 16, 24, 32, 16, 8)
"""Latent sides in the order in which they are asked for; the largest is neither first nor last."""

steps = pytest.mark.parametrize("graph", graphs(steps=True), ids=str)


class Loop:
    """A binding with all tensors of a step on the device, as the loop has them."""

    def __init__(self, engine, side, rows=2):
        self.engine, self.binding, self.made = engine, engine.bind(), {}
        height, width = (side, side) if isinstance(side, int) else side
        for name, array in inputs(engine.inputs, side, rows).items():
            self.binding.set_input(name, self.binding.upload(array))
        for name in engine.outputs:
            self.made[name] = self.binding.buffer((1, 4, height, width))
            self.binding.set_output(name, self.made[name])

    def step(self):
        """What one step asks of CUDA."""
        counts.reset()
        self.binding.run()
        return counts.counts()


@steps
def test_a_plain_step_waits_once_and_copies_nothing(graph, kept_rules):
    engine = OnnxEngine(graph.path, "cuda")
    for side in SIDES:
        loop = Loop(engine, side)
        first, *later = (loop.step() for _ in range(3))
        for step in (first, *later):
            assert step.host_copies == 0
            assert step.waits == 1
        assert all(step.allocations == step.frees == 0 for step in later)
        assert all(step.kernels == first.kernels > 50 for step in later)


@steps
def test_a_replayed_step_is_one_launch_one_wait_and_no_copy(graph, kept_rules):
    engine = ReplayEngine(graph.path, "cuda")
    for side in SIDES:
        for rows in (2, 1):
            loop = Loop(engine, side, rows)
            loop.step()
            for step in (loop.step(), loop.step()):
                assert step.graph_launches == 1
                assert step.kernels == step.captures == 0
                assert step.host_copies == 0
                assert step.synchronisations == step.waits == 1
                assert step.allocations == step.frees == 0


@pytest.mark.parametrize("kind", [OnnxEngine, ReplayEngine])
@steps
def test_nothing_crosses_inside_a_loop(graph, kind, kept_rules):
    """The loop as refiners run it, after its first step: guidance in the first half alone, a changing row a step."""
    engine, seen = kind(graph.path, "cuda"), []
    rows = step_table(SCHEDULE, "dpm++2m", 8, guidance=3.0, interval=(0.0, 0.5))
    given = inputs(engine.inputs, 16)
    conditioning = {name: given[name] for name in ("context", "pooled", "time_ids") if name in given}
    constants = {name: array for name, array in given.items() if name not in conditioning}
    latent = given["sample"]

    def on_step(made, of):
        found = counts.counts()
        seen.append((found.host_copies, found.waits))

    denoise(engine, rows, latent, latent, constants, conditioning, on_step)
    copies, waits = zip(*seen, strict=True)
    assert len(set(copies)) == 1
    plain = [later - earlier for earlier, later in pairwise(waits)]
    assert plain[1:3] == [1, 1]
    assert plain[-2:] == [1, 1]


@steps
def test_a_capture_follows_two_plain_runs_and_asks_for_no_memory(graph, kept_rules):
    engine = ReplayEngine(graph.path, "cuda")
    for side in (8, 16, 24, 32):
        capture = Loop(engine, side).step()
        assert capture.captures == 1
        assert capture.kernels >= 2 * capture.captured_kernels > 100
        assert capture.captured_allocations == capture.captured_host_copies == 0
        assert capture.host_copies == 0


@pytest.mark.parametrize("kind", [OnnxEngine, ReplayEngine])
def test_a_tiled_step_sends_what_changes_and_nothing_else(kind, kept_rules):
    tiles = cut(16, 24, 8, 2, 2)
    loop = Loop(TiledStep(kind(MINI / "restore_step.onnx", "cuda"), tiles, 9), (16, 24))
    loop.step()
    step = loop.step()
    assert step.host_to_device == 0  # nothing was set anew: no step wrote its inputs
    assert step.device_to_host == 2 * len(tiles)
    for name in ("timestep", "coefficients"):
        loop.binding.set_input(name, loop.binding.upload(inputs(loop.engine.inputs)[name]))
    loop.binding.set_input("sample", loop.made["next"])
    assert loop.step().host_to_device == len(tiles) + 2


def test_more_sizes_than_are_captured_run_plainly(kept_rules):
    engine = ReplayEngine(MINI / "inpaint_step.onnx", "cuda")
    Loop(engine, 4 * SIZES_KEPT).step()
    for side in range(4, 4 * SIZES_KEPT, 4):
        Loop(engine, side).step()
    plain = Loop(engine, 4 * SIZES_KEPT - 2)
    plain.step()
    step = plain.step()
    assert (step.graph_launches, step.captures) == (0, 0)
    assert step.kernels > 100
    assert step.synchronisations == 1


def test_what_cannot_be_captured_is_refused(tmp_path):
    """The real library admits no graph whose nodes run on the CPU."""
    onnx.save(
        tiny.model(
            "g (float[1,4,h,w] sample) => (float[1,4,h,w] next) { size = Shape(sample) n = ReduceProd(size) "
            "f = Cast<to=1>(n) next = Mul(sample, f) }"
        ),
        tmp_path / "counting_step.onnx",
    )
    with pytest.raises(
        DeviceError, match=r"counting_step: .*not been partitioned to the CUDAExecutionProvider"
    ):
        ReplayEngine(tmp_path / "counting_step.onnx", "cuda")


def test_loops_of_several_threads_keep_the_rules(kept_rules):
    replayed = ReplayEngine(MINI / "inpaint_step.onnx", "cuda")
    other = ReplayEngine(MINI / "restore_step.onnx", "cuda", scratch=replayed._scratch)
    plain = OnnxEngine(MINI / "inpaint_decode.onnx", "cuda")

    def loops(engine):
        for side in SIDES:
            loop = Loop(engine, side)
            for _ in range(3):
                loop.binding.run()

    def decodes():
        for side in SIDES * 4:
            plain.run(inputs(plain.inputs, side))

    with ThreadPoolExecutor(5) as pool:
        work = [pool.submit(loops, engine) for engine in (replayed, replayed, other)]
        work += [pool.submit(decodes) for _ in range(2)]
        for done in work:
            done.result()
    assert counts.counts().captures >= 2


@pytest.mark.parametrize("kind", [OnnxEngine, ReplayEngine])
def test_memory_that_runs_out_is_told_and_the_engine_goes_on(kind, kept_rules):
    engine = kind(MINI / "restore_step.onnx", "cuda")
    Loop(engine, 8).step()
    counts.limit(counts.counts().live + 2**20)
    with pytest.raises(DeviceError, match="memory ran out on 'cuda"):
        engine.run(inputs(engine.inputs, 64))
    with pytest.raises(DeviceError, match="memory ran out on 'cuda"):
        engine.bind().buffer((4096, 4096))
    counts.limit(2**35)
    assert engine.run(inputs(engine.inputs, 16))["next"].shape == (1, 4, 16, 16)


@pytest.mark.parametrize("kind", [OnnxEngine, ReplayEngine])
def test_a_gpu_that_is_not_there_is_refused(kind):
    with pytest.raises(DeviceError, match="'cuda:1'"):
        kind(MINI / "inpaint_step.onnx", "cuda:1")


@pytest.mark.parametrize("kind", [OnnxEngine, ReplayEngine])
def test_closed_engines_give_their_memory_back(kind, kept_rules):
    import gc

    held = []
    for _ in range(3):
        engine = kind(MINI / "inpaint_step.onnx", "cuda")
        Loop(engine, 16).step()
        del engine
        gc.collect()
        held.append(counts.counts().live)
    assert held[2] - held[1] < 2**20
