"""The numpy wavelet colour fix against PASD's own way of writing it, in torch."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from grefine_rt.imaging.color import wavelet_color_fix


def low_frequencies(image: torch.Tensor, levels: int) -> torch.Tensor:
    kernel = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
    kernel = kernel[None, None].repeat(3, 1, 1, 1)
    for level in range(levels):
        radius = 2**level
        padded = F.pad(image, (radius,) * 4, mode="replicate")
        image = F.conv2d(padded, kernel, groups=3, dilation=radius)
    return image


@pytest.mark.parametrize(("height", "width"), [(64, 64), (33, 120), (16, 20)])
def test_wavelet_color_fix(height, width):
    generator = torch.Generator().manual_seed(0)
    output, reference = torch.rand((2, 1, 3, height, width), generator=generator)
    expected = output - low_frequencies(output, 5) + low_frequencies(reference, 5)
    found = wavelet_color_fix(output[0].permute(1, 2, 0).numpy(), reference[0].permute(1, 2, 0).numpy())
    np.testing.assert_allclose(found, expected[0].permute(1, 2, 0).numpy(), atol=2e-6)
