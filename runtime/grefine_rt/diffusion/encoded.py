"""A picture as stage 2's autoencoder has it: encoded, and decoded again."""

import numpy as np

from grefine_rt.arrays import Floats
from grefine_rt.cancel import Cancels
from grefine_rt.diffusion.tiling import tiled_decode, tiled_encode
from grefine_rt.engine.finite import finite
from grefine_rt.models.bundle import Bundle


class EncodedPicture:
    """E(picture) and D(E(picture)), remembered until another picture comes: for one refine call, in which stage 2 may
    work on the same picture twice. Raises Cancelled, BundleError and DeviceError."""

    def __init__(self, bundle: Bundle, cancel: Cancels | None = None) -> None:
        self._bundle, self._cancel = bundle, cancel
        self._picture: Floats | None = None
        self._tile = 0
        self._latent: Floats | None = None
        self._own: Floats | None = None

    def encoded(self, picture: Floats, tile: int) -> Floats:
        """The latent, float32 (1, c, h, w), of `picture`, float32 (H, W, 3) in [0, 1]."""
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
