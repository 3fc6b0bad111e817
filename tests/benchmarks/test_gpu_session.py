"""The session for a GPU, without one: its scheduler, its luggage, graphs without weights and the parts on a CPU."""

import json
import lzma
import os
import struct
import sys
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from benchmarks import gpu_luggage, gpu_parts, gpu_peers, gpu_session, skeletons
from benchmarks.gpu_session import Part
from grefine_export.onnx import convert
from grefine_rt.engine.onnxruntime import kernels
from grefine_rt.engine.onnxruntime.session import OnnxEngine
from tests.support.fat_binary import library_with
from tests.support.paths import MINI

# --- the scheduler


def python(code):
    return (sys.executable, "-c", code, "{json}")


WRITES = "import json, sys; open(sys.argv[1], 'w').write(json.dumps({'ms': 4}));"


def test_parts_that_die_or_hang_do_not_stop_the_rest(tmp_path):
    session = tmp_path / "session.json"
    hangs = "import signal, subprocess, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    hangs += f"child = subprocess.Popen([{sys.executable!r}, '-c', 'import time; time.sleep(60)']);"
    hangs += f"open({str(tmp_path / 'child')!r}, 'w').write(str(child.pid)); time.sleep(60)"
    parts = [
        Part("good", python(WRITES), 60),
        Part("fails", python(WRITES + "sys.exit(3)"), 60),
        Part("dies", python(WRITES + "import os; os.kill(os.getpid(), 9)"), 60),
        Part("hangs", python(WRITES + hangs), 3),
        Part("says nothing", python("print('hello')"), 60),
        Part("sees those before", python(WRITES + f"assert 'hangs' in open({str(session)!r}).read()"), 60),
        Part("sees itself", python(WRITES + SEES_ITSELF.format(str(session))), 60),
    ]
    found = gpu_session.run_parts(parts, tmp_path, 300, os.environ, {"python": "3"})
    assert found == json.loads(session.read_text())
    rows = found["parts"]
    assert {name: (row["state"], row["code"]) for name, row in rows.items()} == {
        "good": ("done", 0),
        "fails": ("failed", 3),
        "dies": ("failed", -9),
        "hangs": ("stopped", None),
        "says nothing": ("done", 0),
        "sees those before": ("done", 0),
        "sees itself": ("done", 0),
    }
    for name in ("good", "fails", "dies", "hangs"):
        assert rows[name]["found"] == {"ms": 4}
    assert "found" not in rows["says nothing"]
    assert 3 <= rows["hangs"]["seconds"] < 50
    assert not alive(int((tmp_path / "child").read_text()))
    assert "== says nothing\nhello" in (tmp_path / "session.log").read_text()


SEES_ITSELF = """
import time
def row(): return json.load(open({!r}))['parts']['sees itself']
while 'found' not in row(): time.sleep(0.1)
assert (row()['state'], row()['found']) == ('running', {{'ms': 4}})
"""
"""What a part has found stands in the session's file while it still runs; one that never sees it is stopped."""


def test_a_part_that_cannot_be_killed_does_not_hold_up_the_rest(tmp_path, monkeypatch):
    killed = []
    monkeypatch.setattr(gpu_session, "GRACE", 0.5)
    monkeypatch.setattr(os, "killpg", lambda pid, signal: killed.append(pid))
    parts = [Part("hangs", python("import time; time.sleep(20)"), 1), Part("good", python(WRITES), 60)]
    rows = gpu_session.run_parts(parts, tmp_path, 100, os.environ, {})["parts"]
    monkeypatch.undo()
    os.kill(killed[0], 9)
    assert [row["state"] for row in rows.values()] == ["stopped", "done"]


def alive(pid):
    """Whether a process runs; one that ended and waits to be reaped does not."""
    for _ in range(50):
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    return False
        except FileNotFoundError:
            return False
        time.sleep(0.1)
    return True


def test_time_that_is_gone_skips_and_what_is_left_is_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_session, "LEAST", 0.5)
    parts = [Part(name, python("import time; time.sleep(60)"), 60) for name in ("first", "second")]
    started = time.monotonic()
    rows = gpu_session.run_parts(parts, tmp_path, 2, os.environ, {})["parts"]
    assert time.monotonic() - started < 30
    assert [row["state"] for row in rows.values()] == ["stopped", "skipped"]


def test_every_part_is_a_command_that_is_understood(monkeypatch):
    graphs = ["vae_decode.plain", "inpaint_step.fused", "restore_step.plain", "inpaint_step.plain"]
    parts = gpu_session.parts(graphs, bundle=True)
    names = [part.name for part in parts]
    assert names[:3] == ["cuda.core", "onnxruntime", "fill"]
    assert names.index("inpaint_step.plain plain") == 3  # what the others are compared with
    of_plain = [f"inpaint_step.plain {engine}" for engine in gpu_session.ENGINES]
    assert names[3:8] == [*of_plain, "inpaint_step.fused plain", "inpaint_step.fused graphs"]
    without = {part.name for part in gpu_session.parts(graphs, bundle=False)}
    assert {*names} - without == {"onnxruntime", "memory"}
    ordered = ["restore_step.plain graphs", "vae_decode.plain", "torch", "peak", "profile inpaint_step.fused"]
    assert sorted(ordered, key=names.index) == ordered
    assert len({*names}) == len(names)
    ran = []
    monkeypatch.setattr(gpu_parts, "KINDS", {kind: lambda r, o: ran.append(o) for kind in gpu_parts.KINDS})
    for part in [*parts, *gpu_session.parts(graphs, bundle=True, rehearse=True)]:
        assert part.command[1:3] == ("-m", "benchmarks.gpu_parts")
        assert 0 < part.limit <= 150
        assert gpu_parts.main(part.command[3:]) == 0
    assert {options.side for options in ran[: len(parts)]} == {1024}
    assert {options.side for options in ran[len(parts) :]} == {128}


def test_a_session_gives_its_parts_the_luggage_first(tmp_path, monkeypatch):
    luggage, out = tmp_path / "luggage", tmp_path / "out"
    (luggage / "site").mkdir(parents=True)
    (luggage / "luggage.json").write_text('{"capability": 90}')
    (luggage / "site/onnx.py").write_text("here = True\n")
    code = "import json, os, sys, onnx, grefine_rt; names = 'CUDA_MODULE_LOADING', 'GREFINE_SESSION_LUGGAGE';"
    code += "found = [onnx.here, *map(os.environ.get, names)]; json.dump(found, open(sys.argv[1], 'w'))"
    parts = [Part("one", python(code), 10), Part("two", python("raise SystemExit(1)"), 10)]
    monkeypatch.setattr(gpu_session, "parts", lambda graphs, bundle, rehearse: parts if bundle else [])
    arguments = ["--luggage", str(luggage), "--out", str(out), "--patience", "10"]
    assert gpu_session.main(arguments) == 1
    found = json.loads((out / "session.json").read_text())
    assert (found["capability"], found["rehearsal"]) == (90, False)
    assert found["versions"]["onnx"]
    assert found["parts"]["one"]["found"] == [True, "LAZY", str(luggage)]
    assert found["parts"]["two"]["state"] == "failed"
    assert gpu_session.main([*arguments, "--only", "on"]) == 0
    assert [*json.loads((out / "session.json").read_text())["parts"]] == ["one"]
    assert gpu_session.main([*arguments, "--only", "three"]) == 2  # nothing that ran is no success


@pytest.mark.parametrize("content", [None, b"no archive", lzma.compress(bytes(4096))[:-20]])
def test_luggage_that_is_not_there_or_broken_is_one_sentence(tmp_path, capsys, content):
    if content is not None:
        (tmp_path / gpu_luggage.NAME).write_bytes(content)
    assert gpu_session.main(["--luggage", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("Error: ")
    assert "gpu_luggage pack" in said
    assert said.count("\n") == 1


# --- the luggage


def library(path, *names):
    """A library with an entry for each (capability, kernel name), and each payload a name as in a cubin."""
    library_with(path, *((kernels.MACHINE_CODE, capability) for capability, _ in names))
    data = bytearray(path.read_bytes())
    for entry, (_, name) in zip([*kernels.entries(data)], names, strict=True):
        start = entry.at + entry.header
        data[start : start + entry.payload] = f".text.{name}\0".encode().ljust(entry.payload, b"x")
    path.write_bytes(data)
    return data


def test_kernels_of_other_gpus_and_unused_ones_become_zeros(tmp_path):
    before = library(tmp_path / "a.so", (80, "conv"), (90, "conv"), (90, "moe_gemm"), (90, "norm"))
    after = bytearray(before)
    assert gpu_luggage.strip(after, 90) == (48, 48)
    entries = [*kernels.entries(after)]
    stays = [after[e.at + e.header : e.at + e.header + e.payload] for e in entries]
    assert [bool(any(payload)) for payload in stays] == [False, True, False, True]
    # The headers are those of before, but that the unused kernels are nobody's here.
    assert [entry.capability for entry in entries] == [80, 90, gpu_luggage._ELSEWHERE, 90]
    assert len(after) == len(before)
    assert gpu_luggage.kernel_names(after, entries[3]) == {"norm"}
    again = bytearray(after)
    assert gpu_luggage.strip(again, 90)[0] == 48
    assert again == after


@pytest.mark.parametrize(
    "name", ["flash_fwd_splitkv_kernelINS0_23Flash_fwd_kernel_traitsILi128ELi64E", "x__nv_fp8"]
)
def test_kernels_of_language_models_are_unused(name):
    assert gpu_luggage.UNUSED.search(name)


@pytest.mark.parametrize(
    "name",
    [
        "flash_fwd_splitkv_kernelINS0_23Flash_fwd_kernel_traitsILi64ELi64E",
        "flash_fwd_kernelINS0_23Flash_fwd_kernel_traitsILi128ELi64E",
        "_Z29attention_kernel_batched_implI15AttentionKernelIN7cutlass6half_t",
        "groupNormNHWCSumKernelI6__half",
    ],
)
def test_kernels_of_the_steps_are_used(name):
    assert not gpu_luggage.UNUSED.search(name)


@pytest.fixture
def wheel(tmp_path):
    library(tmp_path / "p.so", (80, "conv"), (90, "conv"))
    file = tmp_path / "onnxruntime_gpu-1-cp312-cp312-linux.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("onnxruntime/__init__.py", "x = 1\n")
        archive.writestr("onnxruntime/transformers/large.py", "x = 1\n")
        archive.writestr("onnxruntime/capi/libonnxruntime.so.1", b"x")
        archive.writestr("onnxruntime_gpu-1.dist-info/METADATA", "Name: onnxruntime-gpu\n")
        archive.write(tmp_path / "p.so", f"onnxruntime/{kernels.PROVIDER}")
    return file


@pytest.fixture
def empty_skeletons(tmp_path):
    folder = tmp_path / "skeletons"
    folder.mkdir()
    (folder / "inpaint_step.plain.onnx").write_bytes(b"graph")
    (folder / skeletons.MADE).write_text("{}")
    return folder


def test_luggage_is_laid_down_as_it_was_packed(tmp_path, wheel, empty_skeletons):
    out = tmp_path / "luggage"
    first = gpu_luggage.pack([wheel], empty_skeletons, out, 90, preset=0).read_bytes()
    assert gpu_luggage.pack([wheel], empty_skeletons, out, 90, preset=0).read_bytes() == first
    there = gpu_luggage.unpack(out, tmp_path / "there")
    files = {str(path.relative_to(there)) for path in there.rglob("*") if path.is_file()}
    assert files == {
        "luggage.json",
        "skeletons/inpaint_step.plain.onnx",
        f"skeletons/{skeletons.MADE}",
        "site/onnxruntime/__init__.py",
        f"site/onnxruntime/{kernels.PROVIDER}",
        "site/onnxruntime_gpu-1.dist-info/METADATA",
    }
    provider = bytearray((there / "site/onnxruntime" / kernels.PROVIDER).read_bytes())
    assert [
        any(provider[e.at + e.header : e.at + e.header + e.payload]) for e in kernels.entries(provider)
    ] == [False, True]
    assert gpu_luggage.unpack(there, tmp_path / "elsewhere") == there
    assert json.loads((there / "luggage.json").read_text()) == {"wheels": [wheel.name], "capability": 90}


def test_packages_are_laid_where_they_can_be_loaded_and_weights_in_memory(
    tmp_path, wheel, empty_skeletons, monkeypatch
):
    luggage, memory, out = (tmp_path / name for name in ("luggage", "memory", "out"))
    gpu_luggage.pack([wheel], empty_skeletons, luggage, 90, preset=0)
    memory.mkdir()
    code = "import json, os, sys; names = 'GREFINE_SESSION_LUGGAGE', 'GREFINE_SESSION_WORK';"
    code += "json.dump([*map(os.environ.get, names)], open(sys.argv[1], 'w'))"
    monkeypatch.setattr(gpu_session, "roomy", lambda: memory)
    monkeypatch.setattr(gpu_session, "parts", lambda graphs, bundle, rehearse: [Part("a", python(code), 60)])
    assert gpu_session.main(["--luggage", str(luggage), "--out", str(out)]) == 0
    laid, work = json.loads((out / "session.json").read_text())["parts"]["a"]["found"]
    assert Path(work).parent == memory
    assert memory not in Path(laid).parents


def test_luggage_that_is_too_large_is_refused_and_leaves_nothing(
    tmp_path, wheel, empty_skeletons, monkeypatch
):
    monkeypatch.setattr(gpu_luggage, "MOST", 200)
    with pytest.raises(ValueError, match="take less along"):
        gpu_luggage.pack([wheel], empty_skeletons, tmp_path / "luggage", 90, preset=0)
    assert not [*(tmp_path / "luggage").iterdir()]
    with pytest.raises(ValueError, match=r"skeletons make"):
        gpu_luggage.pack([wheel], tmp_path / "none", tmp_path / "luggage", 90)


def test_whether_one_call_takes_luggage_and_tree():
    assert "one call" in gpu_luggage.told(10 << 20, 40 << 20)
    assert "two calls" in gpu_luggage.told(30 << 20, 50 << 20)


# --- graphs without weights


class Small(nn.Module):
    """Every kind of weight: convolutions, norms, square and other matrices, vectors, and a constant."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 3, padding=1)
        self.norm = nn.GroupNorm(2, 8)
        self.square = nn.Linear(8, 8)
        self.wide = nn.Linear(8, 200, bias=False)

    def forward(self, sample):
        x = self.norm(self.conv(sample.to(self.conv.weight.dtype)))
        x = self.wide(self.square(x.flatten(2).transpose(1, 2)))
        return (x * torch.linspace(0, 1, 200).to(x.dtype)).float()


@pytest.fixture(scope="module", params=[convert.EXTERNAL_DATA_BYTES, 0], ids=["inside", "beside"])
def skeleton(tmp_path_factory, request):
    """Made of a file with its weights inside, or, as large ones are, beside it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convert, "EXTERNAL_DATA_BYTES", request.param)
        return skeletons.make("small.plain", small, tmp_path_factory.mktemp("skeletons"))


def small(**told):
    with torch.device("meta"):
        module = Small().eval()
    axes, inputs = {"sample": {2: "h", 3: "w"}}, {"sample": torch.ones(1, 4, 6, 8)}
    return SimpleNamespace(module=module, inputs=inputs, outputs=["next"], axes=axes, **told)


def test_a_skeleton_has_no_weights_but_their_names(skeleton):
    assert [*skeleton.parent.iterdir()] == [skeleton]
    model = onnx.load(skeleton, load_external_data=False)
    left_out = skeletons.weights(model)
    names = sorted(json.loads(tensor.doc_string)["name"] for tensor in left_out)
    assert names == sorted(name for name, _ in Small().named_parameters())
    assert not any(tensor.raw_data for tensor in left_out)
    constants = [t for t in model.graph.initializer if t.data_location != onnx.TensorProto.EXTERNAL]
    ramp = np.linspace(0, 1, 200, dtype=np.float32)
    assert any(
        t.dims == [200] and np.allclose(onnx.numpy_helper.to_array(t), ramp, atol=1e-3) for t in constants
    )


def test_a_filled_skeleton_computes_what_its_module_does(skeleton, tmp_path):
    graph = skeletons.fill(skeleton, tmp_path)
    module = Small().half().eval()
    state = {name: torch.from_numpy(np.array(array)) for name, array in skeletons.parameters(graph)}
    module.load_state_dict(state)  # names and shapes are the module's
    assert state["conv.weight"].dtype == torch.float16
    assert float(state["wide.weight"].float().std()) == pytest.approx(200**-0.5, rel=0.1)
    assert abs(float(state["norm.weight"].float().mean()) - 1) < 0.3
    sample = np.random.default_rng(0).standard_normal((1, 4, 6, 8)).astype(np.float32)
    engine = OnnxEngine(graph, "cpu")
    expected = module.float()(torch.from_numpy(sample)).detach().numpy()
    found = gpu_parts.apart(engine.run({"sample": sample})["next"], expected)
    assert found is not None
    assert found < 5e-3


def test_every_form_of_a_graph_has_the_same_weights(skeleton, tmp_path):
    def fused():
        return small(operators="onnxruntime-cuda")

    other = skeletons.make("small.fused", fused, tmp_path)
    (turned,) = (t for t in skeletons.weights(onnx.load(other, load_external_data=False)) if len(t.dims) == 4)
    assert [*turned.dims] == [8, 3, 3, 4]
    plain, found = (
        dict(skeletons.parameters(skeletons.fill(file, tmp_path / file.stem))) for file in (skeleton, other)
    )
    assert found.keys() == plain.keys()
    for name, array in plain.items():
        np.testing.assert_allclose(found[name].astype(np.float16), array, err_msg=name)


def test_a_weight_in_an_unknown_layout_is_told():
    tensor = onnx.TensorProto(name="conv.weight", dims=[3, 3, 4, 8])
    with pytest.raises(ValueError, match="another layout"):
        skeletons._order(tensor, "conv.weight", (8, 4, 3, 3))
    for dims, shape, order in (
        ([1, 8, 1, 1], (8,), [0]),
        ([4, 8], (8, 4), [1, 0]),
        ([8, 8], (8, 8), [1, 0]),
        ([8, 4], (8, 4), [0, 1]),
    ):
        assert skeletons._order(onnx.TensorProto(name="folded", dims=dims), "a.weight", shape) == order


def test_what_is_no_number_is_no_distance():
    assert gpu_parts.apart(np.ones(2), np.array([2.0, 1.0])) == 0.5
    assert gpu_parts.apart(np.array([1, np.nan]), np.ones(2)) is None
    assert gpu_parts.apart(np.ones(2), np.zeros(2)) is None


def test_weights_are_the_seeds(skeleton, tmp_path):
    drawn = [
        skeletons.fill(skeleton, tmp_path / str(number), seed).with_name("small.plain.onnx.data").read_bytes()
        for number, seed in enumerate((0, 0, 1))
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_weight_that_nobody_knows_is_told(tmp_path):
    hollowed = {0x2001: ("conv.weight", (5,))}
    with pytest.raises(ValueError, match=r"as large as a weight"):
        skeletons.strip(MINI / "components/inpaint_decode.onnx", hollowed, tmp_path / "x.onnx")


def test_large_weights_repeat_what_was_drawn():
    told = json.dumps({"name": "a.weight", "shape": [7, 3], "order": [1, 0]})
    tensor = onnx.TensorProto(dims=[3, 7], data_type=onnx.TensorProto.FLOAT, doc_string=told)
    drawn = np.tile(np.arange(8, dtype=np.float32), 2)
    found = skeletons.values(tensor, drawn)
    assert found.shape == (3, 7)
    assert {*np.round(found.ravel() * 7**0.5)} == {*range(8)}
    turns = np.diff(np.round(found.T.ravel() * 7**0.5))  # as it was drawn, in the parameter's own layout
    assert {*turns} == {1, -7}


def test_a_way_of_torch_that_fails_does_not_stop_the_next():
    def fails(given):
        raise RuntimeError("no capture")

    found = {}
    failed = gpu_peers.tried(found.update, {"graph": fails, "compiled": lambda given: {"ms": given}}, 3)
    assert failed == ["graph"]
    assert found == {"graph": {"error": "RuntimeError: no capture"}, "compiled": {"ms": 3}}


def test_both_halves_of_a_gate_are_diffusers_one():
    weights = [
        ("unet.ff.net.0.gate.weight", np.ones((2, 3))),
        ("unet.ff.net.0.value.weight", np.zeros((2, 3))),
    ]
    found = gpu_peers.joined(iter([*weights, ("unet.a.bias", np.ones(1))]))
    assert found.keys() == {"ff.net.0.proj.weight", "a.bias"}
    np.testing.assert_array_equal(found["ff.net.0.proj.weight"][:, 0], [0, 0, 1, 1])


# --- the parts, on a CPU


@pytest.fixture
def part(tmp_path, monkeypatch):
    """Runs a part on the embedded bundle's graphs and returns what it wrote."""
    monkeypatch.setenv("GREFINE_SESSION_LUGGAGE", str(tmp_path / "luggage"))
    monkeypatch.setenv("GREFINE_SESSION_WORK", str(tmp_path))
    (tmp_path / "filled").mkdir()
    for graph, component in (("inpaint_step", "inpaint_step"), ("vae_encode", "inpaint_encode")):
        for kind in ("plain", "fused"):
            os.link(MINI / f"components/{component}.onnx", tmp_path / f"filled/{graph}.{kind}.onnx")
    file = tmp_path / "part.json"

    def run(*arguments):
        few = ["--json", str(file), "--device", "cpu", "--side", "128", "--runs", "2"]
        gpu_parts.main([*arguments, *few])
        return json.loads(file.read_text())

    return run


def test_a_step_is_timed_and_compared_with_the_first(part):
    found = part("step", "--graph", "inpaint_step.plain")
    assert found["same_bits"]
    assert found["finite"]
    assert found["least_ms"] <= found["ms"] <= found["most_ms"]
    assert found["tflops"] == pytest.approx(found["tflop"] / found["ms"] * 1000)
    assert "difference" not in found
    assert part("step", "--graph", "inpaint_step.fused")["difference"] == 0


def test_an_autoencoder_is_timed(part):
    found = part("autoencoder", "--graph", "vae_encode.plain")
    assert found["same_bits"]
    assert found["ms"] > 0


def test_outcomes_of_tests_are_told(part, tmp_path):
    file = tmp_path / "test_it.py"
    file.write_text(
        "import pytest\ndef test_good(): pass\ndef test_bad(): assert 1 == 2\n@pytest.mark.skip(reason='no GPU')\n"
        "def test_not(): pass\n@pytest.fixture\ndef broken(): raise OSError('gone')\ndef test_error(broken): pass\n"
    )
    with pytest.raises(SystemExit):
        part("tests", "--file", str(file))
    found = json.loads((tmp_path / "part.json").read_text())
    assert (found["passed"], found["failed"], found["skipped"]) == (1, 2, 1)
    assert sorted(name.partition("::")[2] for name in found["failures"]) == ["test_bad", "test_error"]
    assert any(
        line.startswith("E ") and "1 == 2" in line for said in found["failures"].values() for line in said
    )
    assert "no GPU" in found["reasons"][0]
    part("tests", "--file", str(file), "--which", "good")
    with pytest.raises(SystemExit):  # nothing that ran is no success
        part("tests", "--file", str(file), "--which", "test_not")


def test_names_of_kernels_are_read_from_zstandard(tmp_path):
    zstandard = pytest.importorskip("zstandard")
    code = zstandard.compress(b".text._Z4convv\0" + bytes(200))
    header = bytearray(64)
    struct.pack_into("<I", header, gpu_luggage._SIZE, len(code))
    struct.pack_into("<Q", header, gpu_luggage._FLAGS, gpu_luggage._ZSTD)
    data = header + code + bytes(3)
    entry = kernels.Entry(kernels.MACHINE_CODE, 90, 0, 64, len(code) + 3)
    assert gpu_luggage.kernel_names(data, entry) == {"_Z4convv"}


@pytest.mark.slow
def test_diffusers_on_the_weights_of_a_skeleton_gives_what_our_step_gives(tmp_path, monkeypatch):
    monkeypatch.setenv("GREFINE_SESSION_LUGGAGE", str(tmp_path))
    monkeypatch.setenv("GREFINE_SESSION_WORK", str(tmp_path))
    told = ["make", str(tmp_path / "skeletons"), "--width", "0", "--only", "inpaint_step.plain"]
    assert skeletons.main(told) == 0
    small = ["--json", str(tmp_path / "part.json"), "--device", "cpu", "--side", "64", "--runs", "1"]
    gpu_parts.main(["step", "--graph", "inpaint_step.plain", *small])
    gpu_parts.main(["torch", *small])
    found = json.loads((tmp_path / "part.json").read_text())
    assert 0 < found["difference"] < 5e-3
    assert skeletons.main([*told[:2], "--width", "1", *told[4:]]) == 1  # others lie there
