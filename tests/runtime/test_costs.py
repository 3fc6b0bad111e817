"""What a bundle costs, from the polynomials of its manifest; all numbers here can be done in the head."""

import dataclasses
import re

import pytest

from grefine_rt.bundle.manifest import Cost, FileEntry, Metric
from grefine_rt.errors import BundleError, DeviceError, MemoryLimitError
from grefine_rt.plan import graph_costs as costs
from grefine_rt.system_memory import free_memory, usable_memory
from tests.support import fake_bundle

MIB = 2**20
PARTS = ("text", "encode", "step", "decode")


def make_manifest(**changes):
    """Graphs of 1 MiB. Fixed ones make 10 operations; those of stages 1 to 4 a latent cell, times 100 in stage 2; steps
    also as many a squared cell. An activation of 1 MiB a cell in steps and decoders."""
    stages = {
        f"{stage}_{part}": Cost(
            flops=(0.0, factor * unit, factor * unit if part == "step" else 0.0),
            memory=(0.0, MIB if part in ("step", "decode") else 0.0, 0.0),
        )
        for stage, factor in (("inpaint", 1), ("restore", 100))
        for part, unit in zip(PARTS, (0.0, 1.0, 2.0, 3.0), strict=True)
    }
    fixed = dict.fromkeys(("perceptual", "alignment_text"), Cost((10.0, 0.0, 0.0), (0.0, 0.0, 0.0)))
    components = {name: f"components/{name}.onnx" for name in (*stages, *fixed)}
    return dataclasses.replace(
        fake_bundle.manifest(),
        components={**components, "alignment_image": components["perceptual"]},
        files={file: FileEntry(MIB, "0" * 64) for file in components.values()},
        costs={components[name]: cost for name, cost in {**stages, **fixed}.items()},
        **changes,
    )


@pytest.fixture
def manifest():
    return make_manifest()


def stage(manifest, name, **changes):
    return dataclasses.replace(manifest, **{name: dataclasses.replace(getattr(manifest, name), **changes)})


def test_operations_grow_with_latent_cells_and_passes(manifest):
    assert costs.flops(manifest, "inpaint_encode", (16, 24)) == 6
    assert costs.flops(manifest, "inpaint_step", (16, 24)) == 2 * 6 + 2 * 36
    assert costs.flops(manifest, "inpaint_step", (16, 24), passes=2) == 2 * (2 * 6 + 2 * 36)
    assert costs.flops(manifest, "perceptual", (4096, 4096)) == 10


def test_stage_1_encodes_apart_from_its_drafts_and_pays_a_guided_call_twice(manifest):
    # One cell: an encode is 1, a pass 4, a decode 3; the masked picture is encoded too.
    assert costs.draw_flops(manifest, (8, 8), guided=3, unguided=2) == 8 * 4 + 3
    assert costs.encode_flops(manifest, (8, 8)) == 2
    assert costs.encode_flops(stage(manifest, "inpaint", blended=True), (8, 8)) == 1


def test_prompts_are_encoded_once_a_row(manifest):
    texts = {"components/inpaint_text.onnx": Cost((50.0, 0.0, 0.0), (0.0, 0.0, 0.0))}
    manifest = dataclasses.replace(manifest, costs={**manifest.costs, **texts})
    zeros = costs.encode_flops(manifest, (8, 8))
    encoded = stage(manifest, "inpaint", negative="encoded")
    assert costs.encode_flops(encoded, (8, 8)) == zeros + 50
    assert costs.encode_flops(stage(encoded, "inpaint", guidance=1.0), (8, 8)) == zeros


def test_stage_2_decodes_twice_unless_plainly(manifest):
    assert costs.stage2_flops(manifest, (8, 8), guided=1, unguided=1) == 100 * (1 + 3 * 4 + 2 * 3)
    assert costs.stage2_flops(manifest, (8, 8), 1, 1, "plain") == 100 * (1 + 3 * 4 + 3)


def test_a_shared_graph_is_looked_at_once_and_texts_are_read_once(manifest):
    assert costs.assess_flops(manifest, texts=7) == 10 + 70
    assert costs.assess_flops(manifest, texts=7, pictures=3) == 30 + 70


def test_costs_that_were_not_counted_are_unknown(manifest):
    bare = dataclasses.replace(manifest, costs=None)
    partly = dataclasses.replace(
        manifest, costs={file: cost for file, cost in manifest.costs.items() if "inpaint_step" not in file}
    )
    for unknown in (bare, partly):
        assert costs.flops(unknown, "inpaint_step", (64, 64)) is None
        assert costs.memory(unknown, "inpaint_step", (64, 64)) is None
        assert costs.draw_flops(unknown, (64, 64), 3) is None
        assert costs.memory_plan(unknown, (64, 64)) is None
        assert costs.largest_fitting(unknown, 10**12) is None
        costs.check_memory(unknown, (64, 64), free_bytes=0)
    assert costs.stage2_flops(bare, (64, 64), 3) is None
    assert costs.assess_flops(bare, 3) is None
    with_ip_iqa = dataclasses.replace(
        manifest,
        scorers={"ip_iqa": Metric({"ip_iqa_image": "components/other.onnx"})},
        components={**manifest.components, "ip_iqa_image": "components/other.onnx"},
    )
    assert costs.assess_flops(with_ip_iqa, 3) is None
    assert costs.flops(manifest, "image_reward", (0, 0)) is None


def test_a_bundle_that_only_assesses_has_no_stages(manifest):
    bare = dataclasses.replace(manifest, inpaint=None, restore=None)
    assert costs.encode_flops(bare, (64, 64)) is None
    assert costs.draw_flops(bare, (64, 64), 3) is None
    assert costs.stage2_flops(bare, (64, 64), 3) is None
    with pytest.raises(BundleError, match="only assesses"):
        costs.largest_fitting(bare, 10**12)


def test_memory_is_weights_and_the_arena_of_activations(manifest):
    on_cpu = costs.memory(manifest, "inpaint_step", (16, 24), passes=2)
    assert on_cpu.weights == 2 * MIB  # FP16 in the file, FP32 in memory
    assert on_cpu.activations == round(costs.ARENA * 2 * 6 * MIB)
    assert on_cpu.total == on_cpu.weights + on_cpu.activations
    assert costs.memory(manifest, "inpaint_step", (16, 24), device="cuda:0").weights == MIB


def test_external_data_counts_as_weights(manifest):
    data = {"components/inpaint_step.onnx.data": FileEntry(5 * MIB, "0" * 64)}
    manifest = dataclasses.replace(manifest, files={**manifest.files, **data})
    assert costs.memory(manifest, "inpaint_step", (8, 8)).weights == 2 * 6 * MIB


def test_a_plan_has_every_file_once(manifest):
    plan = {entry.components: entry for entry in costs.memory_plan(manifest, (16, 16), restore_size=(32, 32))}
    assert {name for names in plan for name in names} == manifest.components.keys()
    assert ("perceptual", "alignment_image") in plan
    live = {names[0]: entry.activations / costs.ARENA / MIB for names, entry in plan.items()}
    assert live["inpaint_step"] == pytest.approx(2 * 4)  # guided, the manifest says
    assert live["restore_step"] == pytest.approx(16)
    assert live["inpaint_decode"] == pytest.approx(4)
    assert live["perceptual"] == 0


def test_tiles_bound_the_memory(manifest):
    tiled = stage(stage(manifest, "inpaint", tile=16), "restore", tile=32)
    plan = {entry.components[0]: entry.activations for entry in costs.memory_plan(tiled, (64, 64))}
    live = {name: activations / costs.ARENA / MIB for name, activations in plan.items()}
    assert live["inpaint_decode"] == pytest.approx(4)  # a tile
    assert live["inpaint_step"] == pytest.approx(2 * 64)  # stage 1 has no tiled steps
    assert live["restore_step"] == pytest.approx(16)


def test_the_largest_size_fits_and_the_next_does_not(manifest):
    free = 2**31
    width, height = costs.largest_fitting(manifest, free, aspect=2.0)
    assert width / height == pytest.approx(2, rel=0.1)
    assert costs.needed(costs.memory_plan(manifest, (width, height))) <= free
    assert costs.needed(costs.memory_plan(manifest, (width + 32, height + 16))) > free
    assert costs.largest_fitting(manifest, 20 * MIB) is None  # less than the weights


def test_stage_2_keeps_its_proportion(manifest):
    twice = stage(manifest, "restore", resolution=2 * manifest.restore.resolution)
    one, two = costs.largest_fitting(manifest, 2**32), costs.largest_fitting(twice, 2**32)
    assert two[0] < one[0]
    restore = (2 * two[0], 2 * two[1])
    assert costs.needed(costs.memory_plan(twice, two, "cpu", restore)) <= 2**32


def test_a_request_that_cannot_fit_says_so_in_one_sentence(manifest):
    free = 2**31
    fitting = costs.largest_fitting(manifest, free)
    costs.check_memory(manifest, fitting, free)
    costs.check_memory(manifest, (4096, 4096), None)
    with pytest.raises(MemoryLimitError) as error:
        costs.check_memory(manifest, (4096, 4096), free)
    assert isinstance(error.value, DeviceError)
    text = str(error.value)
    assert re.fullmatch(
        r"Working at 4096 x 4096 pixels with bundle 'fake' takes [\d.]+ GB of memory, but 2.15 GB are free: "
        rf"the largest that fits is {fitting[0]} x {fitting[1]}\.",
        text,
    )
    with pytest.raises(MemoryLimitError, match="no size fits, so use a smaller bundle"):
        costs.check_memory(manifest, (64, 64), MIB)


def machine(root, available_kib, groups="", files=()):
    proc = root / "proc"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text(f"MemTotal:  99999 kB\nMemAvailable:   {available_kib} kB\n")
    (proc / "self" / "status").write_text("Name:\tpython\nRssAnon:\t     100 kB\n")
    (proc / "self" / "cgroup").write_text(groups)
    for path, text in dict(files).items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


def test_free_memory_of_a_machine_without_limits(tmp_path):
    root = machine(tmp_path, 5000, "0::/\n", {"sys/fs/cgroup/memory.max": "max\n"})
    assert free_memory(root) == 5000 * 1024
    assert usable_memory(root) == 5100 * 1024


def test_free_memory_below_a_limit_of_version_2(tmp_path):
    files = {
        # The group of the process has no limit of its own, the one around it has.
        "sys/fs/cgroup/box/inner/memory.max": "max",
        "sys/fs/cgroup/box/inner/memory.current": "7",
        "sys/fs/cgroup/box/memory.max": "1000000",
        "sys/fs/cgroup/box/memory.current": "700000",
        "sys/fs/cgroup/box/memory.stat": "anon 5\ninactive_file 50000\n",
    }
    assert free_memory(machine(tmp_path, 5000, "0::/box/inner\n", files)) == 350000


def test_free_memory_below_a_limit_of_version_1(tmp_path):
    files = {
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "2000000",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": "2500000",
    }
    assert free_memory(machine(tmp_path, 5000, "4:memory:/unseen\n2:cpu:/\n", files)) == 0


def test_free_memory_is_unknown_where_nothing_tells(tmp_path):
    assert free_memory(tmp_path) is None
    assert usable_memory(tmp_path) is None
