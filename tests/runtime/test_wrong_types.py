"""Options of every wrong type: an OptionError, whatever a program hands over."""

import dataclasses

import numpy as np
import pytest

from grefine_rt import AssessOptions, PlanOptions, RefineOptions
from grefine_rt.errors import OptionError


class Hostile:
    """Cannot be compared, hashed or shown."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other):
        raise RuntimeError

    def __repr__(self):
        raise RuntimeError


WRONG = [
    *(
        b"x",
        [],
        {},
        (),
        [[1]],
        {1},
        object(),
        Hostile(),
        np.array([1, 2]),
        np.array([[0.5]]),
        10**400,
        -(10**400),
    ),
    *(
        float("nan"),
        float("inf"),
        complex(1),
        range(3),
        print,
        ((),),
        (1, "a"),
        (Hostile(),),
        "x" * 100_000,
        1e308,
    ),
]
KINDS = [(kind, field.name) for kind in (PlanOptions, AssessOptions) for field in dataclasses.fields(kind)]


@pytest.mark.parametrize(("kind", "name"), KINDS)
def test_wrong_values_are_option_errors(kind, name):
    for value in WRONG:
        if name == "negative" and isinstance(value, str):
            continue
        with pytest.raises(OptionError) as error:
            kind(**{name: value})
        assert len(str(error.value)) < 400
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            ("stages", 1),
            ("stages", "12"),
            ("stages", (3,)),
            ("stages", (True,)),
            ("indicators", "perceptual"),
        ),
        *(
            ("tau", True),
            ("tau", "high"),
            ("drafts", 1.0),
            ("drafts", True),
            ("interval", 0.5),
            ("interval", (0.5,)),
        ),
        *(("full_image", 1), ("full_image", None), ("window", None), ("crop", 1), ("negative", None)),
    ],
)
def test_near_misses_too(name, value):
    with pytest.raises(OptionError, match=name):
        PlanOptions(**{name: value})


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(RefineOptions)])
def test_options_of_a_refine_call(name):
    for value in (Hostile(), 3, "x", [], None):
        if value is None and name in ("decoding", "color_fix"):
            continue
        with pytest.raises(OptionError, match=name):
            RefineOptions(**{name: value})
