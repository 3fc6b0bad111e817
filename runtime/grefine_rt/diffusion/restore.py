"""Stage 2: restore the whole image mildly, with PASD or a smaller model of its kind (G-Refine 3.3)."""

from collections.abc import Sequence

import numpy as np

from grefine_rt.arrays import Floats
from grefine_rt.bundle.manifest import ColorFix, Decoding, Restore
from grefine_rt.cancel import Cancels
from grefine_rt.contract import Solver
from grefine_rt.diffusion.conditioning import condition
from grefine_rt.diffusion.encoded import EncodedPicture
from grefine_rt.diffusion.loop import OnStep, StageResult, denoise, latent_size, to_planes, with_given
from grefine_rt.diffusion.noise import gaussian, step_noise
from grefine_rt.diffusion.solver import StepTable, rows_of
from grefine_rt.diffusion.tiled_step import TiledStep
from grefine_rt.diffusion.tiling import tiled_decode
from grefine_rt.engine.base import Engine
from grefine_rt.engine.finite import finite
from grefine_rt.errors import OptionError
from grefine_rt.imaging.color import wavelet_color_fix
from grefine_rt.imaging.tiles import fits, step_tiles
from grefine_rt.models.bundle import Bundle

NOISE_STREAM = 1


def restore(
    bundle: Bundle,
    picture: Floats,
    prompt: str,
    *,
    seed: int,
    delta: float | None = None,
    steps: int | None = None,
    solver: Solver | None = None,
    guidance: float | Sequence[float] | None = None,
    interval: Sequence[float] | None = None,
    rescale: float | None = None,
    tile: int | None = None,
    decoding: Decoding | None = None,
    keep: Floats | None = None,
    negative: str = "",
    color_fix: ColorFix | None = None,
    on_step: OnStep | None = None,
    cancel: Cancels | None = None,
    source: EncodedPicture | None = None,
) -> StageResult:
    """The whole of `picture` restored, guided by itself and by `prompt`.

    picture: float32 (H, W, 3) in [0, 1], sides multiples of the manifest's `restore.multiple`. prompt: may hold
    weights; the manifest's suffix is added, and its negative prompt to `negative`. delta: strength in [0, 1]; makes
    int(steps * delta) UNet calls. delta, steps, solver, guidance, interval, rescale, tile, decoding, color_fix: the
    manifest's when None (see `Inpaint` and `Restore`); guidance may be one value a UNet call. tile: side in pixels, a
    multiple of `restore.multiple`; 0 for always whole. A larger picture (`tiles.fits`) is encoded, restored and decoded
    in tiles that overlap and are blended: memory is that of a tile and some copies of the picture, and `on_step` counts
    runs of the UNet on a tile. keep: float32 (H, W) in [0, 1] for "quality": 1 keeps detail (`_decoded`) or colour
    (`_coloured`) of the picture. source: remembers the encoded picture between calls; this call's own when None. Raises
    OptionError for arguments that do not fit, Cancelled, BundleError and DeviceError.
    """
    settings = with_given(
        bundle.manifest.stage2,
        delta=delta,
        steps=steps,
        solver=solver,
        guidance=guidance,
        interval=interval,
        rescale=rescale,
        tile=tile,
        decoding=decoding,
        color_fix=color_fix,
    )
    _check(settings, picture, keep)
    rows = rows_of(settings, settings.delta)
    source = EncodedPicture(bundle, cancel) if source is None else source
    encoded = source.encoded(picture, settings.tile)
    # Right behind the encoder, before any step has taken memory.
    own = None if settings.decoding == "plain" else source.decoded(picture, settings.tile)
    latent = _denoised(bundle, settings, rows, picture, encoded, (prompt, negative), seed, on_step, cancel)
    decoder = bundle.engine("restore_decode")
    image = finite("restore_decode", tiled_decode(decoder, latent, settings.tile, cancel=cancel))
    image = _with_own_detail(image, own, picture, settings.decoding, keep)
    image = _coloured(image, picture, settings.color_fix, keep)
    return StageResult(np.clip(image, 0, 1), latent, rows.calls)


def _check(settings: Restore, picture: Floats, keep: Floats | None) -> None:
    """Raises OptionError for what does not fit together, before anything is computed."""
    latent_size(picture, settings.multiple)
    if settings.decoding not in ("plain", "difference", "quality"):
        raise OptionError(f"Unknown decoding '{settings.decoding}': use 'plain', 'difference' or 'quality'.")
    if settings.decoding == "quality" and (keep is None or keep.shape != picture.shape[:2]):
        raise OptionError(f"Decoding 'quality' needs keep weights of shape {picture.shape[:2]}.")
    if settings.color_fix not in ("quality", "whole", "off"):
        raise OptionError(f"Unknown colour fix '{settings.color_fix}': use 'quality', 'whole' or 'off'.")
    if settings.tile < 0 or settings.tile % settings.multiple:
        raise OptionError(
            f"The tile must be 0 or a side that is a multiple of {settings.multiple}, but got {settings.tile}."
        )


def _denoised(
    bundle: Bundle,
    settings: Restore,
    rows: StepTable,
    picture: Floats,
    source: Floats,
    texts: tuple[str, str],
    seed: int,
    on_step: OnStep | None,
    cancel: Cancels | None,
) -> Floats:
    """The restored latent (1, c, h, w), from the picture's own `source`; texts: prompt and negative prompt."""
    step: Engine = bundle.engine("restore_step")
    height, width = picture.shape[:2]
    if not fits(height, width, settings.tile):
        tiles = step_tiles(height, width, settings.tile, settings.multiple)
        step, on_step = TiledStep(step, tiles, rows.calls, on_step, cancel), None
    added = settings.prompt_suffix, settings.negative_prompt
    wanted, unwanted = (
        ", ".join(part for part in (text.strip(), more) if part)
        for text, more in zip(texts, added, strict=True)
    )
    latent = denoise(
        step,
        rows,
        source,
        gaussian(seed, NOISE_STREAM, source.shape),
        {"control": to_planes(picture)},
        condition(bundle, "restore_text", wanted, unwanted if rows.guided else None),
        on_step,
        cancel,
        lambda index: step_noise(seed, NOISE_STREAM, index, source.shape),
    )
    return finite("restore_step", latent)


def _with_own_detail(
    image: Floats, own: Floats | None, picture: Floats, decoding: Decoding, keep: Floats | None
) -> Floats:
    """`image`, D(z') of the restored latent z', with detail of `picture`; `own` is D(E(picture)).

    "plain"       D(z')
    "difference"  picture + D(z') - D(E(picture)): where z' is unchanged, so is every pixel
    "quality"     D(z') + keep * (picture - D(E(picture))): 1 keeps the picture's own detail as "difference" does, 0
                  takes the decoder's as "plain" does
    """
    if own is not None and decoding == "difference":
        # This order: equal decodings cancel exactly, and the picture comes back bit by bit.
        return picture + (image - own)
    if own is not None and keep is not None and decoding == "quality":
        return image + keep[..., None].astype(np.float32) * (picture - own)
    return image


def _coloured(image: Floats, picture: Floats, color_fix: ColorFix, keep: Floats | None) -> Floats:
    """`image` with low frequencies of `picture`, the wavelet colour fix of PASD's authors.

    "whole"    everywhere, as theirs
    "quality"  as far as `keep` says: a poor picture is often poor in its colour, which should not come back
    "off"      nowhere
    """
    if color_fix == "off":
        return image
    return wavelet_color_fix(image, picture, keep if color_fix == "quality" else None)
