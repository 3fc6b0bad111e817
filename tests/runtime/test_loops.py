"""Both stages on tiny graphs, against the same arithmetic in numpy."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

from grefine_rt.bundle.store import write
from grefine_rt.cancel import CancelToken
from grefine_rt.contract import Schedule
from grefine_rt.diffusion import encoded
from grefine_rt.diffusion import regenerate as stage1
from grefine_rt.diffusion import restore as stage2
from grefine_rt.diffusion.conditioning import condition
from grefine_rt.diffusion.loop import denoise
from grefine_rt.diffusion.noise import gaussian, step_noise
from grefine_rt.diffusion.regenerate import Redrawing
from grefine_rt.diffusion.restore import restore
from grefine_rt.diffusion.solver import step_table
from grefine_rt.engine.base import TensorSpec
from grefine_rt.engine.onnxruntime.session import OnnxEngine
from grefine_rt.errors import BundleError, Cancelled, OptionError
from grefine_rt.imaging.color import wavelet_color_fix
from tests.support import tiny
from tests.support.redraw import redraw
from tests.support.tiny_bundle import TinyBundle, Words

HEIGHT, WIDTH = 32, 48
SCHEDULE = Schedule(1000, 0.00085, 0.012, "leading", 1)


@pytest.fixture(scope="module")
def picture():
    return np.random.default_rng(3).random((HEIGHT, WIDTH, 3), dtype=np.float32)


@pytest.fixture(scope="module")
def mask():
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[5:20, 10:33] = True
    return mask


def words_of(text):
    ids, _ = Words().encode_weighted([SimpleNamespace(text=text, weight=1.0)])
    return tiny.CONTEXT[ids], tiny.POOL[ids].mean(axis=0)


@pytest.mark.parametrize("guidance", [1.0, 4.0, [3.0, 3.0, 1.0, 1.0]])
@pytest.mark.parametrize("strength", [1.0, 0.8])
@pytest.mark.parametrize("solver", ["euler", "ddim", "dpm++2m"])
def test_regenerate_is_the_loop_in_numpy(bundle, picture, mask, solver, strength, guidance):
    if strength == 1.0 and isinstance(guidance, list):
        guidance = [*guidance, 1.0]
    result = redraw(
        bundle, picture, mask, "a red cat", strength=strength, seed=5, solver=solver, guidance=guidance
    )
    rows = step_table(SCHEDULE, solver, 5, strength, "epsilon", guidance)
    context, pooled = words_of("a red cat")
    signed = picture * 2 - 1
    cells = mask[::8, ::8].astype(np.float64)
    masked = tiny.encode(np.where(mask[..., None], 0, signed))
    expected = tiny.run_steps(
        rows,
        tiny.encode(signed),
        gaussian(5, stage1.NOISE_STREAM, (1, 4, HEIGHT // 8, WIDTH // 8)),
        np.stack([np.zeros_like(context), context]),
        np.stack([np.zeros_like(pooled), pooled]),
        np.array([HEIGHT, WIDTH, 0, 0, HEIGHT, WIDTH]),
        cells * masked,
    )
    assert result.calls == int(5 * strength)
    np.testing.assert_allclose(result.latent, expected, atol=1e-4 * np.abs(expected).max())
    assert result.image.dtype == np.float32
    np.testing.assert_allclose(result.image, np.clip(tiny.decode(result.latent), 0, 1), atol=1e-5)


@pytest.fixture(scope="module")
def blended(tmp_path_factory):
    """The same bundle with a UNet that knows no mask."""
    folder = tiny.save(tmp_path_factory.mktemp("blended"))
    onnx.save(tiny.step(tiny.BLENDED), folder / "components" / "inpaint_step.onnx")
    manifest = tiny.manifest()
    manifest["inpaint"]["blended"] = True
    write(folder, manifest)
    return TinyBundle.open(folder, "cpu", threads=1)


@pytest.mark.parametrize("strength", [1.0, 0.8])
@pytest.mark.parametrize("solver", ["euler", "dpm++2m", "lcm"])
def test_regenerate_blends_in_what_the_unet_does_not_see(blended, picture, mask, solver, strength):
    result = redraw(blended, picture, mask, "a red cat", strength=strength, seed=5, solver=solver, draft=2)
    stream, shape = stage1.NOISE_STREAM + 2 * stage1.NEXT_DRAFT, (1, 4, HEIGHT // 8, WIDTH // 8)
    latent = tiny.encode(picture * 2 - 1)
    context, pooled = words_of("a red cat")
    cells = mask[::8, ::8].astype(np.float64)
    expected = tiny.run_steps(
        step_table(SCHEDULE, solver, 5, strength, "epsilon", 4.0),
        latent,
        gaussian(5, stream, shape),
        np.stack([np.zeros_like(context), context]),
        np.stack([np.zeros_like(pooled), pooled]),
        np.array([HEIGHT, WIDTH, 0, 0, HEIGHT, WIDTH]),
        fresh=[step_noise(5, stream, step, shape) for step in range(5)],
        mask=cells,
    )
    np.testing.assert_allclose(result.latent, expected, atol=1e-4 * np.abs(expected).max())
    outside = np.broadcast_to(cells == 0, shape)
    np.testing.assert_allclose(result.latent[outside], latent[outside], atol=1e-5)


def test_guidance_interval_from_manifest_or_argument(bundle, picture, mask):
    settings = replace(bundle.manifest.inpaint, interval=(0.5, 1.0))
    late = bundle.of(replace(bundle.manifest, inpaint=settings))

    def latent(which, **options):
        return redraw(which, picture, mask, "cat", strength=0.8, seed=1, **options).latent

    expected = latent(bundle, guidance=[1.0, 1.0, 4.0, 4.0])
    np.testing.assert_array_equal(latent(late), expected)
    np.testing.assert_array_equal(latent(bundle, interval=(0.5, 1.0)), expected)
    assert not np.array_equal(latent(late, interval=(0.0, 1.0)), expected)


def test_rescale_reaches_the_graph_or_is_refused(bundle, picture, mask):
    settings = replace(bundle.manifest.inpaint, rescale=0.5)
    rescaled = bundle.of(replace(bundle.manifest, inpaint=settings))
    with pytest.raises(BundleError, match="without guidance rescale"):
        redraw(rescaled, picture, mask, "cat", strength=0.8, seed=1)
    with pytest.raises(BundleError, match="without guidance rescale"):
        redraw(bundle, picture, mask, "cat", strength=0.8, seed=1, rescale=0.5)
    redraw(rescaled, picture, mask, "cat", strength=0.8, seed=1, rescale=0.0)


@pytest.mark.parametrize("guidance", [1.0, 2.5])
def test_restore_is_the_loop_in_numpy(bundle, picture, guidance):
    result = restore(
        bundle, picture, "cat", seed=9, delta=0.6, guidance=guidance, decoding="plain", color_fix="off"
    )
    rows = step_table(SCHEDULE, "ddim", 10, 0.6, "epsilon", guidance)
    expected = tiny.run_steps(
        rows,
        tiny.encode(picture * 2 - 1),
        gaussian(9, stage2.NOISE_STREAM, (1, 4, HEIGHT // 8, WIDTH // 8)),
        np.stack([words_of("blurry")[0], words_of("cat, clean, sharp")[0]]),
        low=picture.mean(),
    )
    assert result.calls == 6
    np.testing.assert_allclose(result.latent, expected, atol=1e-4 * np.abs(expected).max())
    np.testing.assert_allclose(result.image, np.clip(tiny.decode(result.latent), 0, 1), atol=1e-5)


def test_decodings(bundle, picture):
    source = tiny.decode(tiny.encode(picture * 2 - 1))
    keep = np.linspace(0, 1, HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH)

    def run(decoding, **options):
        return restore(bundle, picture, "", seed=1, decoding=decoding, color_fix="off", **options)

    plain = run("plain")
    decoded = tiny.decode(plain.latent)
    assert np.abs(plain.image - picture).mean() > 0.1  # the tiny autoencoder is a poor one
    difference = picture + decoded - source
    np.testing.assert_allclose(run("difference").image, np.clip(difference, 0, 1), atol=1e-5)
    np.testing.assert_array_equal(run(None).image, run("difference").image)
    quality = decoded + keep[..., None] * (picture - source)
    np.testing.assert_allclose(run("quality", keep=keep).image, np.clip(quality, 0, 1), atol=1e-5)
    np.testing.assert_array_equal(run("quality", keep=np.zeros_like(keep)).image, plain.image)


@pytest.mark.parametrize("decoding", ["quality", "difference"])
def test_a_picture_s_own_decoding_is_made_once_and_before_any_step(bundle, picture, monkeypatch, decoding):
    done = []

    def noted(module, name):
        plain = getattr(module, name)

        def call(*arguments, **options):
            done.append(name)
            return plain(*arguments, **options)

        monkeypatch.setattr(module, name, call)

    def run(picture, **options):
        keep = np.full(picture.shape[:2], 0.5, np.float32)
        return restore(bundle, picture, "", seed=1, decoding=decoding, keep=keep, **options).image

    alone = [run(picture), run(1 - picture)]
    for name in ("tiled_encode", "tiled_decode"):
        noted(encoded, name)
    for name in ("tiled_decode", "denoise"):
        noted(stage2, name)
    seen = encoded.EncodedPicture(bundle)
    shared = [run(each, source=seen) for each in (picture, picture.copy(), 1 - picture)]
    first = ["tiled_encode", "tiled_decode", "denoise", "tiled_decode"]
    assert done == [*first, *first[2:], *first]
    for one, other in zip(shared, (alone[0], *alone), strict=True):
        np.testing.assert_array_equal(one, other)


def test_difference_of_nothing_is_the_picture_bit_by_bit(bundle, picture):
    result = restore(bundle, picture, "cat", seed=1, delta=0.05, decoding="difference", color_fix="off")
    assert result.calls == 0
    np.testing.assert_array_equal(result.image, picture)


def test_color_fix_takes_low_frequencies_from_the_picture(bundle, picture):
    raw = restore(bundle, picture, "cat", seed=1, delta=0.0, decoding="plain", color_fix="off")
    fixed = restore(bundle, picture, "cat", seed=1, delta=0.0, decoding="plain")
    decoded = tiny.decode(raw.latent).astype(np.float32)
    expected = np.clip(wavelet_color_fix(decoded, picture), 0, 1)
    np.testing.assert_allclose(fixed.image, expected, atol=1e-5)
    assert not np.allclose(fixed.image, raw.image, atol=1e-2)


def test_color_fix_leaves_poor_regions_their_new_colours(bundle, picture):
    keep = np.ones(picture.shape[:2], np.float32)
    keep[:16] = 0

    def restored(color_fix):
        return restore(
            bundle, picture, "cat", seed=1, delta=0.0, decoding="plain", keep=keep, color_fix=color_fix
        ).image

    whole, off, found = restored("whole"), restored("off"), restored("quality")
    np.testing.assert_array_equal(found[:16], off[:16])
    np.testing.assert_allclose(found[16:], whole[16:], atol=1e-6)
    assert not np.allclose(whole[:16], off[:16], atol=1e-2)


def test_unknown_color_fix_is_refused(bundle, picture):
    with pytest.raises(OptionError, match="Unknown colour fix 'some': use 'quality'"):
        restore(bundle, picture, "cat", seed=1, decoding="plain", color_fix="some")


def test_negative_prompt_zeros_or_encoded(bundle, picture, mask):
    """Both are reachable, and the empty prompt is not the same as zeros."""
    settings = replace(bundle.manifest.inpaint, negative="encoded")
    encoded = bundle.of(replace(bundle.manifest, inpaint=settings))
    one = redraw(bundle, picture, mask, "cat", strength=0.8, seed=1)
    two = redraw(encoded, picture, mask, "cat", strength=0.8, seed=1)
    assert not np.allclose(one.latent, two.latent)
    unguided = [
        redraw(which, picture, mask, "cat", strength=0.8, seed=1, guidance=1.0).latent
        for which in (bundle, encoded)
    ]
    np.testing.assert_array_equal(*unguided)


@pytest.mark.parametrize("name", ["bundle", "blended"])
def test_drafts_of_one_redrawing_are_those_of_calls_apart(name, picture, mask, request):
    bundle = request.getfixturevalue(name)
    redrawing = Redrawing(bundle, picture, mask, "a red cat", strength=0.8)
    for draft, steps, solver in ((0, None, None), (2, 3, "dpm++2m"), (0, None, None), (2, None, "lcm")):
        several = redrawing.draw(seed=5, draft=draft, steps=steps, solver=solver)
        options = {"draft": draft, "steps": steps, "solver": solver}
        alone = redraw(bundle, picture, mask, "a red cat", strength=0.8, seed=5, **options)
        np.testing.assert_array_equal(several.latent, alone.latent)
        assert several.calls == int((steps or 5) * 0.8)


def test_weights_in_the_prompt_count(bundle, picture, mask):
    plain, heavy = (
        redraw(bundle, picture, mask, prompt, strength=0.8, seed=1, guidance=1.0).latent
        for prompt in ("red cat", "(red:1.5) cat")
    )
    # The mean of the whole context stays, and the tiny UNet sees nothing but that mean.
    np.testing.assert_allclose(plain, heavy, atol=1e-4)
    one, two = (
        condition(bundle, "inpaint_text", prompt, None)["context"][1]
        for prompt in ("red cat", "(red:1.5) cat")
    )
    assert not np.allclose(one, two)
    np.testing.assert_allclose(one.mean(), two.mean(), atol=1e-5)


def test_seed_decides(bundle, picture, mask):
    one, same, other = (
        redraw(bundle, picture, mask, "cat", strength=0.8, seed=seed).image for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_threads_do_not_disturb_each_other(bundle, picture, mask):
    def work(seed):
        return (
            redraw(bundle, picture, mask, "cat", strength=0.8, seed=seed).latent,
            restore(bundle, picture, "cat", seed=seed).latent,
        )

    alone = [work(seed) for seed in range(6)]
    with ThreadPoolExecutor(6) as pool:
        for expected, got in zip(alone, pool.map(work, range(6)), strict=True):
            np.testing.assert_array_equal(expected[0], got[0])
            np.testing.assert_array_equal(expected[1], got[1])


def test_steps_are_reported(bundle, picture, mask):
    seen = []
    redraw(
        bundle,
        picture,
        mask,
        "cat",
        strength=0.8,
        seed=1,
        on_step=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_cancel_stops_between_steps(bundle, picture, mask):
    token, seen = CancelToken(), []

    def on_step(done, total):
        seen.append(done)
        if done == 2:
            thread = threading.Thread(target=token.cancel)
            thread.start()
            thread.join()

    with pytest.raises(Cancelled, match="after 2 of 4 steps"):
        redraw(bundle, picture, mask, "cat", strength=0.8, seed=1, on_step=on_step, cancel=token)
    assert seen == [1, 2]


@pytest.mark.parametrize("stage", ["inpaint", "restore"])
@pytest.mark.parametrize("part", ["first", "last"])
def test_cancel_stops_before_an_autoencoder_runs(bundle, picture, mask, monkeypatch, stage, part):
    """It may take longer than a step."""
    token, ran = CancelToken(), []
    for half in ("encode", "decode"):
        engine = bundle.engine(f"{stage}_{half}")
        run = engine.run
        monkeypatch.setattr(engine, "run", lambda arrays, run=run, half=half: ran.append(half) or run(arrays))

    def on_step(done, total):
        if done == total:
            token.cancel()

    if part == "first":
        token.cancel()
    ways = {
        "inpaint": lambda **more: redraw(bundle, picture, mask, "cat", strength=0.8, seed=1, **more),
        "restore": lambda **more: restore(bundle, picture, "cat", seed=1, **more),
    }
    with pytest.raises(Cancelled, match="before encoding" if part == "first" else "before decoding"):
        ways[stage](on_step=on_step, cancel=token)
    # Stage 2 has decoded the picture itself beside encoding it, never what the steps made.
    assert ran.count("decode") == (part == "last" and stage == "restore")
    assert ("encode" in ran) == (part == "last")


def test_nothing_crosses_to_the_host_between_steps(bundle, monkeypatch):
    """All uploads come before the first run, and the one fetch after the last."""
    log = []
    engine = bundle.engine("restore_step")

    class Spy:
        def __init__(self):
            self.inner = engine.bind()

        def __getattr__(self, name):
            if name in ("upload", "fetch", "run", "buffer"):
                log.append(name)
            return getattr(self.inner, name)

    spied = SimpleNamespace(inputs=engine.inputs, bind=Spy)
    latent = np.zeros((1, 4, 2, 2), np.float32)
    denoise(
        spied,
        step_table(SCHEDULE, "dpm++2m", 7, 1.0, "epsilon", [2.0] * 4 + [1.0] * 3),
        latent,
        gaussian(0, 0, latent.shape),
        {"control": np.zeros((1, 3, 16, 16), np.float32)},
        {"context": np.zeros((2, tiny.LENGTH, tiny.WIDTH), np.float32)},
    )
    first = log.index("run")
    assert log[first:] == ["run"] * 7 + ["fetch"]
    assert log.count("buffer") == 2


def load(tmp_path, inputs):
    onnx.save(tiny.step(inputs), tmp_path / "step.onnx")
    return OnnxEngine(tmp_path / "step.onnx", "cpu", threads=1)


def loop(engine, solver="euler"):
    latent = np.random.default_rng(0).standard_normal((1, 4, 2, 3)).astype(np.float32)
    rows = step_table(SCHEDULE, solver, 4, 0.8, "epsilon", 2.0)
    noise = gaussian(0, 0, latent.shape)
    context = np.random.default_rng(1).standard_normal((2, tiny.LENGTH, tiny.WIDTH)).astype(np.float32)
    expected = tiny.run_steps(rows, latent, noise, context)
    return denoise(engine, rows, latent, noise, {}, {"context": context}), expected


def test_inputs_that_the_graph_lacks_are_left_out(tmp_path):
    result, expected = loop(load(tmp_path, ("sample", "context", "timestep", "coefficients")))
    np.testing.assert_allclose(result, expected, atol=1e-4 * np.abs(expected).max())


def test_a_solver_with_memory_needs_the_previous_estimate(tmp_path):
    with pytest.raises(BundleError, match="no input 'previous'"):
        loop(load(tmp_path, ("sample", "context", "timestep", "coefficients")), "dpm++2m")


@pytest.mark.parametrize("width", [9, 11])
def test_coefficients_are_as_wide_as_the_graph_takes_them(width):
    """A graph with guidance rescale takes 9 columns, one that blends 11."""
    uploaded = []
    spec = TensorSpec("coefficients", np.dtype(np.float32), (width,))
    binding = SimpleNamespace(
        upload=lambda array: uploaded.append(array.shape) or array,
        buffer=lambda shape: None,
        fetch=lambda value: value,
        set_input=lambda *_: None,
        set_output=lambda *_: None,
        run=lambda: None,
    )
    step = SimpleNamespace(inputs={"coefficients": spec}, bind=lambda: binding)
    latent = np.zeros((1, 4, 2, 2), np.float32)
    denoise(step, step_table(SCHEDULE, "euler", 3, rescale=0.5), latent, latent, {}, {})
    assert uploaded.count((width,)) == 3


def test_a_solver_that_adds_noise_gets_it_in_every_step_but_the_last(tmp_path):
    step = load(tmp_path, ("sample", "noise", "context", "timestep", "coefficients"))
    latent = np.random.default_rng(0).standard_normal((1, 4, 2, 3)).astype(np.float32)
    rows, context = step_table(SCHEDULE, "lcm", 4), np.zeros((2, tiny.LENGTH, tiny.WIDTH), np.float32)
    noise, asked = gaussian(0, 0, latent.shape), []

    def fresh(index):
        asked.append(index)
        return step_noise(0, 0, index, latent.shape)

    result = denoise(step, rows, latent, noise, {}, {"context": context}, fresh=fresh)
    assert asked == [0, 1, 2]
    expected = tiny.run_steps(rows, latent, noise, context, fresh=[*map(fresh, range(4))])
    np.testing.assert_allclose(result, expected, atol=1e-4 * np.abs(expected).max())
    with pytest.raises(OptionError, match="adds noise in every step"):
        denoise(step, rows, latent, noise, {}, {"context": context})


def test_a_solver_that_adds_noise_needs_an_input_for_it(tmp_path):
    with pytest.raises(BundleError, match="no input 'noise'"):
        loop(load(tmp_path, ("sample", "context", "timestep", "coefficients")), "lcm")


def test_an_input_that_nobody_gives_is_named(tmp_path):
    inputs = ("sample", "context", "timestep", "coefficients", "surprise")
    with pytest.raises(BundleError, match=r"also wants the inputs \['surprise'\]"):
        loop(load(tmp_path, inputs))


@pytest.mark.parametrize("shape", [(30, 48, 3), (32, 40, 3), (32, 48), (32, 48, 4), (0, 48, 3)])
def test_pictures_of_other_shapes_are_refused(bundle, shape):
    with pytest.raises(OptionError, match="multiples of 16"):
        restore(bundle, np.zeros(shape, np.float32), "cat", seed=1)


def test_other_wrong_arguments_are_refused(bundle, picture, mask):
    with pytest.raises(OptionError, match="mask must be bool"):
        redraw(bundle, picture, mask[:16], "cat", strength=0.8, seed=1)
    with pytest.raises(OptionError, match="mask must be bool"):
        redraw(bundle, picture, mask.astype(np.float32), "cat", strength=0.8, seed=1)
    with pytest.raises(OptionError, match="Unknown decoding 'best'"):
        restore(bundle, picture, "cat", seed=1, decoding="best")
    with pytest.raises(OptionError, match="needs keep weights"):
        restore(bundle, picture, "cat", seed=1, decoding="quality")
    with pytest.raises(OptionError, match="between 0 and 1"):
        restore(bundle, picture, "cat", seed=1, delta=2.0)
