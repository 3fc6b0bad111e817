"""Gaussian noise that depends only on a seed and a stream number, the same for every backend."""

import operator

import numpy as np

from grefine_rt.arrays import Floats
from grefine_rt.errors import OptionError

_WORD = 2**64
_NEXT_STEP = 2**32  # between the streams of two steps; stages and drafts number theirs from 0


def gaussian(seed: int, stream: int, shape: tuple[int, ...]) -> Floats:
    """Standard normal noise, float32, of the given shape.

    Counter based: Philox with the key (seed, stream), so that streams of one seed are independent and none
    has to be drawn to reach another. Any integer is a seed: it is taken modulo 2**64, so -1 and 2**64 - 1 are
    the same. Raises OptionError when `seed` or `stream` is no integer.
    """
    try:
        key = [operator.index(seed) % _WORD, operator.index(stream) % _WORD]
    except TypeError as error:
        raise OptionError(f"The seed must be an integer, but got {seed!r}.") from error
    generator = np.random.Generator(np.random.Philox(key=np.array(key, dtype=np.uint64)))
    return generator.standard_normal(shape, dtype=np.float32)


def step_noise(seed: int, stream: int, step: int, shape: tuple[int, ...]) -> Floats:
    """The noise that step 0, 1, ... adds in a loop that started from `gaussian(seed, stream, shape)`: a stream of its
    own."""
    return gaussian(seed, stream + (step + 1) * _NEXT_STEP, shape)
