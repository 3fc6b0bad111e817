"""Noise: a function of seed and stream alone, with the moments of a standard normal."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grefine_rt.diffusion.noise import gaussian, step_noise
from grefine_rt.errors import OptionError

SHAPE = (1, 4, 4, 4)
KNOWN = [-0.2933390140533447, 1.703830599784851, 1.5391918420791626, 0.6367538571357727]
words = st.integers(0, 2**64 - 1)


@settings(max_examples=30, deadline=None)
@given(seed=words, stream=words)
def test_same_key_same_bits(seed, stream):
    first = gaussian(seed, stream, SHAPE)
    assert first.dtype == np.float32
    assert first.shape == SHAPE
    np.testing.assert_array_equal(first, gaussian(seed, stream, SHAPE))


@settings(max_examples=30, deadline=None)
@given(one=st.tuples(words, words), other=st.tuples(words, words))
def test_other_key_other_noise(one, other):
    same = np.array_equal(gaussian(*one, SHAPE), gaussian(*other, SHAPE))
    assert same == (one == other)


def test_bits_are_those_of_philox_keyed_by_seed_and_stream():
    generator = np.random.Generator(np.random.Philox(key=7 + (3 << 64)))
    np.testing.assert_array_equal(gaussian(7, 3, (5,)), generator.standard_normal(5, dtype=np.float32))


def test_known_values():
    """A numpy that drew other numbers from the same bits would change every picture: this must be seen."""
    np.testing.assert_array_equal(gaussian(7, 0, (4,)), np.array(KNOWN, np.float32))


def test_moments():
    noise = gaussian(1, 2, (400, 250)).astype(np.float64)
    assert abs(noise.mean()) < 0.01
    assert abs(noise.std() - 1) < 0.01
    assert abs((noise**3).mean()) < 0.03
    assert abs((noise**4).mean() - 3) < 0.1


def test_streams_are_uncorrelated():
    one, two = gaussian(5, 0, (20000,)), gaussian(5, 1, (20000,))
    assert abs(np.corrcoef(one, two)[0, 1]) < 0.03


def test_steps_have_streams_of_their_own():
    start, *steps = [gaussian(5, 3, SHAPE), *(step_noise(5, 3, step, SHAPE) for step in range(50))]
    others = [gaussian(5, stream, SHAPE) for stream in range(200) if stream != 3]
    arrays = {array.tobytes() for array in (start, *steps, *others, step_noise(5, 4, 0, SHAPE))}
    assert len(arrays) == 1 + 50 + 199 + 1
    np.testing.assert_array_equal(steps[7], step_noise(5, 3, 7, SHAPE))


def test_any_integer_is_a_seed():
    np.testing.assert_array_equal(gaussian(-1, 0, (3,)), gaussian(2**64 - 1, 0, (3,)))
    np.testing.assert_array_equal(gaussian(2**70 + 5, 0, (3,)), gaussian(5, 0, (3,)))
    np.testing.assert_array_equal(gaussian(np.int32(5), 0, (3,)), gaussian(5, 0, (3,)))


@pytest.mark.parametrize("seed", [1.5, "7", None])
def test_other_seeds_are_refused(seed):
    with pytest.raises(OptionError, match="seed must be an integer"):
        gaussian(seed, 0, (3,))
