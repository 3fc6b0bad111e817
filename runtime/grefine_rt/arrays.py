"""The arrays that parts of the runtime hand each other, by the names they have everywhere."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
"""Any dtype and shape: an input or output of a graph."""
Floats = NDArray[np.float32]
"""float32 of any shape: latents, features, pictures (H, W, 3) in [0, 1]."""
Doubles = NDArray[np.float64]
"""float64 of any shape."""
FloatMap = NDArray[np.float32]
"""float32 (H, W), one value a pixel."""
Mask = NDArray[np.bool_]
"""bool (H, W)."""
Rgb = NDArray[np.uint8]
"""uint8 (H, W, 3); planes of a picture, such as its alpha, are (H, W)."""
Box = tuple[int, int, int, int]
"""(x0, y0, x1, y1) in pixels; x1 and y1 are exclusive."""
Size = tuple[int, int]
"""(width, height) in pixels."""
