"""Stage 1: draw the bad regions again, with SDXL-Inpainting or a smaller model of its kind (G-Refine 3.3)."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

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
)
from grefine_rt.diffusion.noise import gaussian
from grefine_rt.diffusion.solver import Solver, table
from grefine_rt.errors import OptionError
from grefine_rt.imaging.mask import to_latent

NOISE_STREAM = 0
NEXT_DRAFT = 2  # stage 2 has the stream between


def regenerate(
    bundle: Bundle,
    picture: Floats,
    mask: npt.NDArray[np.bool_],
    prompt: str,
    *,
    strength: float,
    seed: int,
    steps: int | None = None,
    solver: Solver | None = None,
    guidance: float | Sequence[float] | None = None,
    draft: int = 0,
    on_step: OnStep | None = None,
    cancel: Cancels | None = None,
) -> StageResult:
    """Redraw the pixels of `picture` inside `mask` to fit `prompt`.

    picture: float32 (H, W, 3) in [0, 1], sides multiples of the manifest's `inpaint.multiple`. mask: bool (H,
    W), True where to redraw. prompt: may hold weights. strength: in [0, 1]; makes int(steps * strength) UNet
    calls. steps, solver, guidance: the manifest's when None; guidance may be one value a UNet call, and a
    call at 1 costs one UNet pass instead of two. draft: 0 or more; drafts of a seed differ in their noise alone.

    The pixels outside the mask come back changed too, by the decoder: paste them back. Raises OptionError for
    arguments that do not fit, Cancelled, BundleError and DeviceError.
    """
    settings, _ = bundle.manifest.stages
    size = latent_size(picture, settings.multiple)
    if mask.dtype != np.bool_ or mask.shape != picture.shape[:2]:
        raise OptionError(
            f"The mask must be bool {picture.shape[:2]}, like the image, but is {mask.dtype} {mask.shape}."
        )
    rows = table(
        settings.schedule,
        settings.solver if solver is None else solver,
        settings.steps if steps is None else steps,
        strength,
        settings.prediction,
        settings.guidance if guidance is None else guidance,
    )
    signed = picture * np.float32(2) - np.float32(1)
    encoder = bundle.engine("inpaint_encode")
    masked_latent = encode(encoder, np.where(mask[..., None], np.float32(0), signed))
    # Pure noise (strength 1) needs no latent of the whole image.
    latent = encode(encoder, signed) if rows.start[0] else np.zeros_like(masked_latent)

    negative = "" if settings.negative == "encoded" and rows.guided else None
    conditioning = condition(bundle, "inpaint_text", prompt, negative)
    if settings.time_ids:
        height, width = picture.shape[:2]  # original size, upper left corner of the crop, target size
        conditioning["time_ids"] = np.tile(np.array([height, width, 0, 0, height, width], np.float32), (2, 1))
    latent = denoise(
        bundle.engine("inpaint_step"),
        rows,
        latent,
        gaussian(seed, NOISE_STREAM + draft * NEXT_DRAFT, latent.shape),
        {"mask": to_latent(mask, size)[None, None], "masked_latent": masked_latent},
        conditioning,
        on_step,
        cancel,
    )
    image = np.clip(decode(bundle.engine("inpaint_decode"), latent), 0, 1)
    return StageResult(image, latent, rows.calls)
