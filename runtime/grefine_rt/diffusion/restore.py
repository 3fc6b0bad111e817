"""Stage 2: restore the whole image mildly, with PASD or a smaller model of its kind (G-Refine 3.3)."""

from collections.abc import Sequence

import numpy as np

from grefine_rt.bundle.manifest import Decoding
from grefine_rt.bundle.store import Bundle
from grefine_rt.diffusion.conditioning import condition
from grefine_rt.diffusion.loop import (
    Cancels,
    Floats,
    OnStep,
    StageResult,
    decode,
    denoise,
    encode,
    latent_size,
    to_planes,
)
from grefine_rt.diffusion.noise import gaussian
from grefine_rt.diffusion.solver import Solver, table
from grefine_rt.errors import OptionError
from grefine_rt.imaging.color import wavelet_color_fix

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
    decoding: Decoding | None = None,
    keep: Floats | None = None,
    color_fix: bool = True,
    on_step: OnStep | None = None,
    cancel: Cancels | None = None,
) -> StageResult:
    """The whole of `picture` restored, guided by itself and by `prompt`.

    picture: float32 (H, W, 3) in [0, 1], sides multiples of the manifest's `restore.multiple`. prompt: may
    hold weights; the manifest's suffix is added. delta: strength in [0, 1]; makes int(steps * delta) UNet
    calls. delta, steps, solver, guidance, decoding: the manifest's when None.

    decoding, with E and D the autoencoder and z' the restored latent:
      "plain"       D(z')
      "difference"  picture + D(z') - D(E(picture)): where z' is unchanged, so is every pixel
      "quality"     D(z') + keep * (picture - D(E(picture))), with `keep` float32 (H, W) in [0, 1]: 1 keeps
                    the picture's own detail as "difference" does, 0 takes the decoder's as "plain" does
    color_fix: take the low frequencies from the picture (the authors' wavelet colour fix).

    Raises OptionError for arguments that do not fit, Cancelled, BundleError and DeviceError.
    """
    _, settings = bundle.manifest.stages
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
    )
    source = encode(bundle.engine("restore_encode"), picture * np.float32(2) - np.float32(1))
    wanted = ", ".join(text for text in (prompt.strip(), settings.prompt_suffix) if text)
    latent = denoise(
        bundle.engine("restore_step"),
        rows,
        source,
        gaussian(seed, NOISE_STREAM, source.shape),
        {"control": to_planes(picture)},
        condition(bundle, "restore_text", wanted, settings.negative_prompt if rows.guided else None),
        on_step,
        cancel,
    )
    decoder = bundle.engine("restore_decode")
    image = decode(decoder, latent)
    if decoding == "difference":
        # This order: equal decodings cancel exactly, and the picture comes back bit by bit.
        image = picture + (image - decode(decoder, source))
    elif keep is not None and decoding == "quality":
        image = image + keep[..., None].astype(np.float32) * (picture - decode(decoder, source))
    if color_fix:
        image = wavelet_color_fix(image, picture)
    return StageResult(np.clip(image, 0, 1), latent, rows.calls)
