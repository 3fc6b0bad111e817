"""Stage 2: restore the whole image mildly, with PASD or a smaller model of its kind (G-Refine 3.3)."""

from collections.abc import Sequence

import numpy as np

from grefine_rt.arrays import Floats
from grefine_rt.bundle.manifest import ColorFix, Decoding
from grefine_rt.cancel import Cancels
from grefine_rt.contract import Solver
from grefine_rt.diffusion.conditioning import condition
from grefine_rt.diffusion.loop import OnStep, StageResult, denoise, latent_size, to_planes
from grefine_rt.diffusion.noise import gaussian, step_noise
from grefine_rt.diffusion.solver import table
from grefine_rt.diffusion.tiled_step import TiledStep
from grefine_rt.diffusion.tiling import tiled_decode, tiled_encode
from grefine_rt.engine.base import Engine
from grefine_rt.engine.finite import finite
from grefine_rt.errors import OptionError
from grefine_rt.imaging.color import wavelet_color_fix
from grefine_rt.imaging.tiles import fits, step_tiles
from grefine_rt.models.bundle import Bundle

NOISE_STREAM = 1


class EncodedPicture:
    """A picture as stage 2's autoencoder has it, remembered until another one comes: for one refine call, in which
    stage 2 may work on the same picture twice.

    D(E(picture)) follows right on E(picture), before any step has taken memory.
    """

    def __init__(self, bundle: Bundle, cancel: Cancels | None = None) -> None:
        self._bundle, self._cancel = bundle, cancel
        self._picture: Floats | None = None
        self._tile = 0
        self._latent: Floats | None = None
        self._own: Floats | None = None

    def encoded(self, picture: Floats, tile: int) -> Floats:
        """The latent of `picture`, float32 (1, c, h, w)."""
        same = self._picture is not None and tile == self._tile and np.array_equal(picture, self._picture)
        if not same or self._latent is None:
            encoder = self._bundle.engine("restore_encode")
            signed = picture * np.float32(2) - np.float32(1)
            latent = finite("restore_encode", tiled_encode(encoder, signed, tile, cancel=self._cancel))
            self._picture, self._tile, self._latent, self._own = picture.copy(), tile, latent, None
        return self._latent

    def decoded(self, picture: Floats, tile: int) -> Floats:
        """The autoencoder's own version of `picture`, float32 (H, W, 3), not clipped."""
        latent = self.encoded(picture, tile)
        if self._own is None:
            decoder = self._bundle.engine("restore_decode")
            self._own = finite("restore_decode", tiled_decode(decoder, latent, tile, cancel=self._cancel))
        return self._own


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
    manifest's when None (see `Inpaint` and `Restore`); guidance may be one value a UNet call.

    tile: side in pixels, a multiple of `restore.multiple`. A picture that does not fit into one (`tiles.fits`) is
    encoded, restored and decoded in tiles that overlap and are blended; `on_step` then counts runs of the UNet on a
    tile. Memory is that of a tile and some copies of the picture, so any size will do. 0 means always whole.

    decoding, with E and D the autoencoder and z' the restored latent:
      "plain"       D(z')
      "difference"  picture + D(z') - D(E(picture)): where z' is unchanged, so is every pixel
      "quality"     D(z') + keep * (picture - D(E(picture))), with `keep` float32 (H, W) in [0, 1]: 1 keeps
                    the picture's own detail as "difference" does, 0 takes the decoder's as "plain" does
    color_fix: where the low frequencies are taken from the picture, the authors' wavelet colour fix:
      "whole"    everywhere, as theirs
      "quality"  as far as `keep` says: what makes a picture poor is often its colour, which should not come back
      "off"      nowhere

    source: remembers E(picture) and D(E(picture)) between calls; one of this call's own when None.

    Raises OptionError for arguments that do not fit, Cancelled, BundleError and DeviceError.
    """
    settings = bundle.manifest.stage2
    latent_size(picture, settings.multiple)
    decoding = settings.decoding if decoding is None else decoding
    if decoding not in ("plain", "difference", "quality"):
        raise OptionError(f"Unknown decoding '{decoding}': use 'plain', 'difference' or 'quality'.")
    if decoding == "quality" and (keep is None or keep.shape != picture.shape[:2]):
        raise OptionError(f"Decoding 'quality' needs keep weights of shape {picture.shape[:2]}.")
    rows = table(
        settings.schedule,
        settings.solver if solver is None else solver,
        settings.steps if steps is None else steps,
        settings.delta if delta is None else delta,
        settings.prediction,
        settings.guidance if guidance is None else guidance,
        settings.interval if interval is None else interval,
        settings.rescale if rescale is None else rescale,
    )
    tile = _tile(settings.tile if tile is None else tile, settings.multiple)
    source = EncodedPicture(bundle, cancel) if source is None else source
    encoded = source.encoded(picture, tile)
    own = None if decoding == "plain" else source.decoded(picture, tile)
    step: Engine = bundle.engine("restore_step")
    if not fits(picture.shape[0], picture.shape[1], tile):
        tiles = step_tiles(picture.shape[0], picture.shape[1], tile, settings.multiple)
        step = TiledStep(step, tiles, rows.calls, on_step, cancel)
        on_step = None
    wanted = ", ".join(text for text in (prompt.strip(), settings.prompt_suffix) if text)
    unwanted = ", ".join(text for text in (negative.strip(), settings.negative_prompt) if text)
    latent = denoise(
        step,
        rows,
        encoded,
        gaussian(seed, NOISE_STREAM, encoded.shape),
        {"control": to_planes(picture)},
        condition(bundle, "restore_text", wanted, unwanted if rows.guided else None),
        on_step,
        cancel,
        lambda index: step_noise(seed, NOISE_STREAM, index, encoded.shape),
    )
    finite("restore_step", latent)
    decoder = bundle.engine("restore_decode")
    image = finite("restore_decode", tiled_decode(decoder, latent, tile, cancel=cancel))
    if own is not None and decoding == "difference":
        # This order: equal decodings cancel exactly, and the picture comes back bit by bit.
        image = picture + (image - own)
    elif own is not None and keep is not None and decoding == "quality":
        image = image + keep[..., None].astype(np.float32) * (picture - own)
    color_fix = settings.color_fix if color_fix is None else color_fix
    if color_fix not in ("quality", "whole", "off"):
        raise OptionError(f"Unknown colour fix '{color_fix}': use 'quality', 'whole' or 'off'.")
    if color_fix != "off":
        image = wavelet_color_fix(image, picture, keep if color_fix == "quality" else None)
    return StageResult(np.clip(image, 0, 1), latent, rows.calls)


def _tile(tile: int, multiple: int) -> int:
    if tile < 0 or tile % multiple:
        raise OptionError(f"The tile must be 0 or a side that is a multiple of {multiple}, but got {tile}.")
    return tile
