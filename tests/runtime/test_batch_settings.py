"""The cores that each picture of a batch gets."""

from dataclasses import replace

import pytest

from grefine_rt.batch.settings import SMALL, side_by_side
from grefine_rt.bundle import store
from tests.support.paths import MINI


@pytest.mark.parametrize(
    ("resolution", "asked", "given"),
    [
        (SMALL, (None, None), (1, 8)),
        (SMALL, (None, 3), (2, 3)),
        (SMALL, (None, 20), (1, 20)),
        (SMALL, (2, None), (2, 4)),
        (SMALL, (20, None), (20, 1)),
        (2 * SMALL, (None, None), (None, 1)),
        (2 * SMALL, (2, None), (2, 4)),
        (2 * SMALL, (None, 2), (None, 2)),
        (2 * SMALL, (3, 5), (3, 5)),
    ],
)
def test_cores_are_shared_out_by_the_size_of_the_work(resolution, asked, given):
    manifest = store.read_manifest(MINI)
    manifest = replace(manifest, perceptual=replace(manifest.perceptual, resolution=resolution))
    assert side_by_side(manifest, 8, *asked) == given
