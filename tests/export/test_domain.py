"""The domain of the storybook world, fitted on a few hundred pictures with the embedded bundle's own encoder."""

import dataclasses
import shutil

import numpy as np
import pytest
from skimage import data

from grefine_export.mini import domain
from grefine_export.mini.foreign import foreign_picture
from grefine_export.mini.heldout import samples
from grefine_export.mini.prompts import known_words
from grefine_export.onnx.component import check_manifest
from grefine_rt import Assessor, BundleError
from grefine_rt.bundle.store import find_bundle, verify

PHOTOGRAPHS = (
    *("astronaut", "brick", "camera", "chelsea", "coffee", "coins", "grass", "gravel", "hubble_deep_field"),
    *("moon", "retina", "rocket", "cell", "page", "text", "clock"),
)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = shutil.copytree(find_bundle("mini"), tmp_path_factory.mktemp("bundles") / "mini")
    return folder, domain.fit_domain(folder, 360, 160)


def test_the_bundle_is_whole_and_knows_its_words(fitted):
    folder, figures = fitted
    assert verify(folder).domain.pictures.threshold == pytest.approx(figures["domain_threshold"], abs=1e-4)
    with Assessor.load(folder, "cpu", 1) as assessor:
        found = assessor.assess(samples(1).__next__().image, "a red house beside a zeppelin")
    assert (found.domain.inside, found.domain.words) == (True, ("zeppelin",))
    assert {phrase.noun: phrase.known for phrase in found.phrases} == {"house": True, "zeppelin": False}
    assert "zeppelin" not in known_words()


def test_photographs_are_outside_and_the_test_set_inside(fitted):
    folder, figures = fitted
    with Assessor.load(folder, "cpu", 1) as assessor:

        def inside(pictures):
            return [found.domain.inside for found in assessor.assess_batch(pictures, "a red house")]

        foreign = inside(np.asarray(getattr(data, name)()) for name in PHOTOGRAPHS)
        own = inside(sample.image for sample in samples(120))
    assert sum(foreign) <= 1
    assert np.mean(own) >= 0.93
    assert figures["foreign_inside"] <= 0.05


def test_foreign_pictures_are_many_kinds_and_come_from_their_seed_alone():
    pictures = [foreign_picture((3, index)) for index in range(12)]
    assert {(picture.shape, str(picture.dtype)) for picture in pictures} == {((128, 128, 3), "uint8")}
    assert len({picture.tobytes() for picture in pictures}) == 12
    assert all(picture.std() > 1 for picture in pictures)
    np.testing.assert_array_equal(pictures[5], foreign_picture((3, 5)))


def test_whitening_makes_rows_white():
    rows = np.random.default_rng(0).normal(size=(4000, 3)) @ np.array([[2, 1, 0], [0, 1, 0], [0, 0, 0.1]])
    mean, whiten = domain.gaussian(rows, 0.0)
    np.testing.assert_allclose(np.cov(((rows - mean) @ whiten.T).T), np.eye(3), atol=1e-6)


def test_a_stage_may_be_added_to_a_bundle_with_a_domain(fitted):
    manifest = dataclasses.asdict(verify(fitted[0]))
    check_manifest(manifest)
    with pytest.raises(BundleError, match="lacks the size and SHA-256 of file 'domain/"):
        check_manifest(manifest | {"files": {}})
