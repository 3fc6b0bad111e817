"""For which sizes engines are built, what their sidecars hold, and what is said of one that does not fit."""

import dataclasses

import numpy as np
import pytest

from grefine_rt.contract import HIDDEN
from grefine_rt.engine.base import TensorSpec
from grefine_rt.engine.tensorrt import sidecar as sidecars
from grefine_rt.engine.tensorrt.profiles import profiles, restricted
from grefine_rt.engine.tensorrt.run import profile_for
from grefine_rt.engine.tensorrt.sidecar import Environment, Sidecar, validity
from grefine_rt.errors import BundleError
from grefine_rt.imaging.image import work_size
from grefine_rt.imaging.tiles import fits, step_tiles
from grefine_rt.plan.costs import restore_work
from tests.support import tiny
from tests.support.sidecars import STEP, manifest, sidecar

HERE = Environment("my-bundle", {"tensorrt-rtx": "1.7.1.116", "tensorrt": "10.14.1"}, "sm89")


def axes_of(found, axis):
    return [profile[axis] for profile in found]


def squares(found):
    """The sides of the profiles that are neither wide nor high."""
    return [profile["H"] for profile in found if profile["H"] == profile["W"]]


def test_a_stage_has_a_profile_for_each_bucket_up_to_its_native_resolution():
    found = profiles(manifest(), STEP)
    short, square, long = (384, 640, 896), (64, 1024, 1536), (1536, 1792, 2560)
    assert axes_of(found, "H") == [square, (256, 512, 768), short, (384, 768, 1152), long]
    assert axes_of(found, "W") == [square, (256, 512, 768), long, (384, 768, 1152), short]
    assert [tuple(side // 8 for side in one["W"]) for one in found] == axes_of(found, "w")
    assert axes_of(found, "n") == [(1, 2, 2)] * 5
    assert axes_of(found, "L") == axes_of(found, "l") == [(1, tiny.LENGTH, tiny.LENGTH)] * 5
    assert axes_of(profiles(manifest(), "components/restore_step.onnx"), "W") == [
        (64, 768, 1152),
        (1152, 1344, 1920),
        (256, 512, 768),
        (256, 448, 640),
    ]


@pytest.mark.parametrize(
    ("resolution", "multiple"), [(1024, 64), (1024, 32), (768, 64), (512, 8), (128, 16), (704, 64), (32, 16)]
)
def test_every_work_size_has_a_profile(resolution, multiple):
    found = profiles(manifest(inpaint={"resolution": resolution, "multiple": multiple}), STEP)
    odd = [
        (w, h)
        for w in range(multiple, 3 * resolution, multiple)
        for h in range(multiple, 3 * resolution, multiple)
    ]
    even = [(round(1000 * 1.05**k), 1000) for k in range(-40, 41)]
    for size in {work_size(*picture, resolution, multiple) for picture in odd + even}:
        for axes, scale in ((("W", "H"), 1), (("w", "h"), 8)):
            sizes = {axis: side // scale for axis, side in zip(axes, size, strict=True)}
            assert profile_for(found, sizes) is not None, size


@pytest.mark.parametrize("tile", [0, 640])
def test_every_size_and_tile_of_native_work_has_a_profile(tile):
    of = manifest(restore={"resolution": 1024, "tile": tile})
    graphs = {name: profiles(of, of.components[f"restore_{name}"]) for name in ("step", "decode")}
    seen = set()
    for width in range(64, 6400, 160):
        for height in range(64, 2600, 96):
            (w, h), side = restore_work(of.stage2, width, height, "native")
            tiles = step_tiles(h, w, side, 64) if not fits(h, w, side) else [None]
            shape = (h // 8, w // 8) if tiles[0] is None else (len(tiles[0].down), len(tiles[0].across))
            seen.add((*shape, tiles[0] is None))
    for rows, columns, whole in seen:
        sizes = {"h": rows, "w": columns, "n": 2}
        assert profile_for(graphs["step"], sizes) is not None, (sizes, whole)
        if whole:
            assert profile_for(graphs["decode"], {"h": rows, "w": columns, "m": HIDDEN}) is not None, sizes
    assert {whole for *_, whole in seen} == ({False} if tile else {False, True})


def test_a_small_bundle_has_its_own_resolution_alone_and_a_tile_is_a_bucket():
    small = manifest(inpaint={"resolution": 128, "multiple": 16})
    assert axes_of(profiles(small, STEP), "h") == [(2, 16, 24), (6, 10, 14), (24, 28, 40)]
    tiled = manifest(inpaint={"resolution": 1024, "tile": 640})
    assert squares(profiles(tiled, STEP)) == [
        *((64, 640, 960), (64, 1024, 1536), (256, 512, 768), (384, 768, 1152))
    ]
    assert len(squares(profiles(tiled, STEP))) == 4
    assert len(profiles(tiled, STEP)) == 8


def test_tiles_of_an_autoencoder_that_attend_to_others_have_a_profile_of_their_own():
    tiled = manifest(inpaint={"resolution": 1024, "tile": 512, "multiple": 64})
    found = profiles(tiled, "components/inpaint_decode.onnx")
    assert {profile["b"] for profile in found} == {(1, 1, 1)}
    whole = [profile for profile in found if profile["m"] == (HIDDEN, HIDDEN, HIDDEN)]
    assert len(whole) == len(found) - 1
    for sizes in ({"h": 64, "w": 64, "m": 4 * 64**2}, {"h": 8, "w": 64, "m": 64 * 65}):
        assert found[profile_for(found, sizes)] not in whole
    assert found[profile_for(found, {"h": 64, "w": 64, "m": HIDDEN})] in whole
    assert len(profiles(tiled, STEP)) == len(whole)


def test_ends_of_ranges_are_multiples_that_the_stage_takes():
    odd = manifest(inpaint={"resolution": 704, "multiple": 64})
    for low, best, high in axes_of(profiles(odd, STEP), "H"):
        assert low % 64 == best % 64 == high % 64 == 0
        assert low <= best <= high
    assert squares(profiles(odd, STEP)) == [(64, 704, 1024), (256, 512, 768)]


def test_a_file_of_several_components_gets_what_all_of_them_need():
    of = manifest(
        components={
            "restore_decode": "components/inpaint_decode.onnx",
            "restore_text": "components/inpaint_text.onnx",
            "inpaint_text": "components/alignment_text.onnx",
        },
        inpaint={"resolution": 512},
        restore={"resolution": 640},
    )
    assert squares(profiles(of, "components/inpaint_decode.onnx")) == [
        *((64, 512, 768), (64, 640, 960), (256, 512, 768))
    ]
    assert profiles(of, "components/alignment_text.onnx")[0]["n"] == (1, 8, 32)


def test_images_of_the_indicators_have_one_size_and_any_number_of_rows():
    (only,) = restricted(profiles(manifest(), "components/perceptual.onnx"), {"b", "H", "W"})
    assert only == {"H": (32, 32, 32), "W": (32, 32, 32), "b": (1, 1, 16)}


def test_restricted_keeps_each_profile_once():
    found = profiles(manifest(), STEP)
    assert len(restricted(found, {"h", "w"})) == 5
    assert restricted(found, {"n"}) == ({"n": (1, 2, 2)},)
    assert restricted(found, set()) == ({},)
    with pytest.raises(KeyError, match="batch"):
        restricted(found, {"batch"})


def test_a_sidecar_comes_back_from_its_json():
    made = sidecar(manifest(), memory=None)
    assert Sidecar.from_json(made.to_json()) == made


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format": 2}',
        sidecar(manifest()).to_json().replace('"graph"', '"g"'),
        sidecar(manifest(), format=1).to_json(),
    ],
)
def test_what_is_no_sidecar_is_refused(text):
    with pytest.raises(BundleError):
        Sidecar.from_json(text)


def test_tensors_come_back_as_an_engine_declares_them():
    made = Sidecar.from_json(sidecar(manifest()).to_json())
    assert made.inputs[0].spec == TensorSpec("sample", np.dtype(np.float32), (1, 4, "h", "w"))
    assert made.inputs[1].spec == TensorSpec("ids", np.dtype(np.int64), ("n", 77))
    assert made.outputs[0].spec == TensorSpec("next", np.dtype(np.float16), (1, 4, "?", "?"))


def test_an_engine_that_fits_has_no_problem():
    assert validity(sidecar(manifest()), manifest(), HERE) is None


def test_without_a_gpu_the_target_is_not_judged():
    nowhere = dataclasses.replace(HERE, gpu=None)
    assert validity(sidecar(manifest(), targets=("sm120",)), manifest(), nowhere) is None


def test_several_components_of_one_file_do_not_matter():
    of = manifest(components={"restore_decode": "components/inpaint_decode.onnx"})
    assert validity(sidecar(of, "components/inpaint_decode.onnx"), of, HERE) is None


REBUILD = "run 'grefine-rt engine build my-bundle --target sm86,sm89 --component inpaint_step'."


def changed_file(of):
    return {"sources": {STEP: "f" * 64}}


@pytest.mark.parametrize(
    ("changes", "environment", "words"),
    [
        (changed_file, {}, [f"another '{STEP}'", REBUILD]),
        (lambda of: {"version": "1.6.0"}, {}, ["1.6.0, but 1.7.1.116 is installed", REBUILD]),
        (lambda of: {"version": "1.8.0"}, {}, ["1.8.0, but 1.7.1.116 is installed", REBUILD]),
        (lambda of: {}, {"versions": {}}, ["1.7.1.116, which is not installed", ".[tensorrt]"]),
        (
            lambda of: {"targets": ("sm86", "sm120")},
            {},
            ["for sm86, sm120 does not fit", "--target sm89 --component inpaint_step'"],
        ),
        (
            lambda of: {"profiles": restricted(profiles(of, STEP)[:2], {"n", "h", "w"})},
            {},
            ["other picture sizes", REBUILD],
        ),
        (
            lambda of: {"flavour": "tensorrt", "version": "9.3.0"},
            {},
            ["built by tensorrt 9.3.0, but 10.14.1", "--flavour tensorrt'"],
        ),
        (
            lambda of: {"flavour": "tensorrt", "version": "10.13.0"},
            {},
            ["10.13.0, but 10.14.1 is installed"],
        ),
    ],
)
def test_each_mismatch_names_itself_and_its_command(changes, environment, words):
    of = manifest()
    problem = validity(sidecar(of, **changes(of)), of, dataclasses.replace(HERE, **environment))
    assert problem is not None
    assert problem.startswith("Engine 'inpaint_step' for sm86, ")
    assert problem.endswith(".")
    assert problem.count("\n") == 0
    for word in words:
        assert word in problem


def test_changed_added_and_missing_external_data_are_seen():
    data = f"{STEP}.data"
    plain, with_data = manifest(), manifest(external=[data])
    assert f"another '{data}'" in (validity(sidecar(plain), with_data, HERE) or "")
    assert f"another '{data}'" in (validity(sidecar(with_data), plain, HERE) or "")
    assert validity(sidecar(with_data), with_data, HERE) is None


def test_a_graph_that_the_bundle_does_not_have_is_to_be_deleted():
    of = manifest()
    problem = validity(
        sidecar(of, sources={}), manifest(components={"inpaint_step": "components/x.onnx"}), HERE
    )
    assert "does not have: delete it" in (problem or "")


def test_a_changed_manifest_makes_other_profiles():
    problem = validity(sidecar(manifest()), manifest(inpaint={"resolution": 768}), HERE)
    assert "other picture sizes" in (problem or "")


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("GREFINE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "bundle"


def put(home, made, content=b"x" * 7):
    engine = sidecars.engine_path(home, made.graph, made.flavour, made.targets)
    engine.parent.mkdir(parents=True, exist_ok=True)
    engine.write_bytes(content)
    engine.with_suffix(".json").write_text(made.to_json())
    return engine


def test_engines_lie_in_the_bundle_and_in_the_cache(home, tmp_path):
    of = manifest()
    inside, cached = sidecars.homes(home, of)
    assert inside == home / "engines"
    assert cached.is_relative_to(tmp_path / "cache")
    first = put(inside, sidecar(of))
    second = put(cached, sidecar(of, flavour="tensorrt", version="10.14.1", targets=("sm89",)))
    assert first.relative_to(inside).as_posix() == "sm86+sm89/inpaint_step.engine"
    assert second.relative_to(cached).as_posix() == "sm89-tensorrt/inpaint_step.engine"
    found = list(sidecars.engines(home, of, HERE))
    assert [(one.engine, one.problem) for one in found] == [(first, None), (second, None)]
    assert found[0].sidecar == sidecar(of)


def test_a_cut_off_engine_and_a_missing_sidecar_are_problems(home):
    of = manifest()
    engine = put(home / "engines", sidecar(of), b"short")
    (found,) = sidecars.engines(home, of, HERE)
    assert "has 5 bytes instead of 7" in (found.problem or "")
    engine.with_suffix(".json").unlink()
    (found,) = sidecars.engines(home, of, HERE)
    assert "inpaint_step.json' is missing" in (found.problem or "")
    assert found.sidecar is None


def test_an_engine_that_streams_its_weights_is_built_so_again():
    of = manifest()
    streaming = sidecar(of, version="1.6", options={"flags": "TF32 WEIGHT_STREAMING"})
    assert validity(streaming, of, HERE).endswith("--component inpaint_step --weight-streaming'.")


def test_a_gpu_that_tensorrt_for_rtx_does_not_know_is_sent_to_classic_tensorrt():
    of = manifest()
    here = dataclasses.replace(HERE, gpu="sm90")
    assert validity(sidecar(of), of, here) == (
        "Engine 'inpaint_step' for sm86, sm89 does not fit the GPU here, which is sm90, and tensorrt-rtx builds none "
        "for it: run 'grefine-rt engine build my-bundle --target sm90 --component inpaint_step --flavour tensorrt'."
    )


def test_the_environment_is_known_without_loading_tensorrt(monkeypatch):
    import sys

    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)  # an import would raise
    monkeypatch.setattr(sidecars, "version", {"tensorrt_rtx": "1.7", "tensorrt-cu12": "10.14.1"}.__getitem__)
    monkeypatch.setattr(sidecars, "PackageNotFoundError", KeyError)
    here = Environment.here("mini")
    assert here.versions == {"tensorrt-rtx": "1.7", "tensorrt": "10.14.1"}
    assert here.gpu is None or here.gpu.startswith("sm")
