"""Stage 1: draw the bad regions again, with SDXL-Inpainting or a smaller model of its kind (G-Refine 3.3)."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from grefine_rt.arrays import Floats, Mask
from grefine_rt.cancel import Cancels
from grefine_rt.contract import Solver
from grefine_rt.diffusion.conditioning import condition
from grefine_rt.diffusion.loop import OnStep, StageResult, denoise, latent_size, with_given
from grefine_rt.diffusion.noise import gaussian, step_noise
from grefine_rt.diffusion.solver import rows_of
from grefine_rt.diffusion.tiling import tiled_decode, tiled_encode
from grefine_rt.engine.finite import finite
from grefine_rt.errors import OptionError
from grefine_rt.imaging.mask import to_latent
from grefine_rt.models.bundle import Bundle

NOISE_STREAM = 0
NEXT_DRAFT = 2  # stage 2 has the stream between


class Redrawing:
    """Stage 1 for one picture, mask and prompt: encoded once, drawn as often as wanted.

    A UNet with an input for the mask sees what surrounds it. One without (`blended`) gets the surroundings of each step
    from the picture, noised as far as the step is. The decoder changes pixels outside the mask, too: paste them back.
    """

    def __init__(
        self,
        bundle: Bundle,
        picture: Floats,
        mask: Mask,
        prompt: str,
        *,
        strength: float,
        guidance: float | Sequence[float] | None = None,
        interval: Sequence[float] | None = None,
        rescale: float | None = None,
        size_ids: tuple[int, int, int, int] | None = None,
        negative: str = "",
        cancel: Cancels | None = None,
    ) -> None:
        """The pixels of `picture` inside `mask` are to be drawn anew to fit `prompt`.

        picture: float32 (H, W, 3) in [0, 1], sides multiples of the manifest's `inpaint.multiple`. mask: bool (H, W),
        True where to draw. prompt: may hold weights. strength: in [0, 1]. guidance, interval, rescale: the manifest's
        when None (see `Inpaint`). guidance: one value, or one a UNet call; a single value applies to the share
        `interval` of the calls, and a call at 1 costs one UNet pass instead of two. size_ids: (height, width, top,
        left) of the whole picture at the same scale and of this crop in it, for a UNet with size ids; None for a whole
        picture. negative: the prompt that guided calls draw away from; may hold weights; "" for the manifest's way to
        say nothing. Raises OptionError for arguments that do not fit, Cancelled, BundleError and DeviceError.
        """
        settings = with_given(bundle.manifest.stage1, guidance=guidance, interval=interval, rescale=rescale)
        size = latent_size(picture, settings.multiple)
        if mask.dtype != np.bool_ or mask.shape != picture.shape[:2]:
            raise OptionError(
                f"The mask must be bool {picture.shape[:2]}, like the image, but is {mask.dtype} {mask.shape}."
            )
        self._bundle, self._settings, self._cancel, self._strength = bundle, settings, cancel, strength
        self._shape = (1, settings.latent_channels, *size)
        self._constants = {"mask": to_latent(mask, size)[None, None]}
        signed = picture * np.float32(2) - np.float32(1)
        encode = partial(tiled_encode, bundle.engine("inpaint_encode"), tile=settings.tile, cancel=cancel)
        # Pure noise (strength 1) needs no latent of the whole image, unless that is blended in.
        if settings.blended or strength < 1:
            self._latent = finite("inpaint_encode", encode(signed))
        else:
            self._latent = np.zeros(self._shape, np.float32)
        if not settings.blended:
            masked = encode(np.where(mask[..., None], np.float32(0), signed))
            self._constants["masked_latent"] = finite("inpaint_encode", masked)

        # A bundle may stand for "no negative prompt" by zeros; one that says something is always encoded.
        encoded = settings.negative == "encoded" or bool(negative.strip())
        guided = encoded and bool(np.any(np.asarray(settings.guidance) != 1))
        self._conditioning = condition(bundle, "inpaint_text", prompt, negative if guided else None)
        if settings.time_ids:
            # Original size, upper left corner of the crop, target size.
            ids = [*(size_ids or (*picture.shape[:2], 0, 0)), *picture.shape[:2]]
            self._conditioning["time_ids"] = np.tile(np.array(ids, np.float32), (2, 1))

    def draw(
        self,
        *,
        seed: int,
        draft: int = 0,
        steps: int | None = None,
        solver: Solver | None = None,
        on_step: OnStep | None = None,
    ) -> StageResult:
        """One draft.

        Drafts of a seed, numbered from 0, differ in their noise alone. steps, solver: the manifest's when None; a draft
        makes int(steps * strength) UNet calls, and `on_step` is called after each. Raises OptionError for steps that
        the solver cannot make, Cancelled, BundleError and DeviceError.
        """
        settings = with_given(self._settings, steps=steps, solver=solver)
        rows = rows_of(settings, self._strength)
        stream = NOISE_STREAM + draft * NEXT_DRAFT
        noise = gaussian(seed, stream, self._shape)
        blended = {"original": self._latent, "original_noise": noise} if settings.blended else {}
        latent = denoise(
            self._bundle.engine("inpaint_step"),
            rows,
            self._latent,
            noise,
            self._constants | blended,
            self._conditioning,
            on_step,
            self._cancel,
            lambda step: step_noise(seed, stream, step, self._shape),
        )
        finite("inpaint_step", latent)
        decoder = self._bundle.engine("inpaint_decode")
        image = finite("inpaint_decode", tiled_decode(decoder, latent, settings.tile, cancel=self._cancel))
        return StageResult(np.clip(image, 0, 1), latent, rows.calls)
