"""Fitting the domain of the embedded bundle: pictures of the storybook world, and the words that it knows.

Two Gaussians, of sound and damaged pictures of the world and of foreign pictures drawn by code, are told apart by the
ratio of distances (`grefine_rt.assess.domain`). Photographs are left out: they show whether it generalises.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import numpy as np

from grefine_export.mini.defects import damage_often
from grefine_export.mini.foreign import foreign_picture
from grefine_export.mini.heldout import VALIDATION, samples
from grefine_export.mini.prompts import known_words
from grefine_export.mini.world import make_scene, render
from grefine_rt.assess.domain import Gaussians, features_of
from grefine_rt.bundle.manifest import FILE_NAME
from grefine_rt.bundle.store import write
from grefine_rt.engine.batch import run_rows
from grefine_rt.imaging.image import encoder_input
from grefine_rt.models.bundle import Bundle

SCENES, FOREIGN = 9, 11
"""First words of the seeds: pictures that nothing else is trained, fitted or judged on."""

QUANTILE = 0.995
"""Share of the validation pictures that are inside."""

SHRINK, FOREIGN_SHRINK = 0.02, 0.3
"""Shares by which covariances are drawn to their diagonals: foreign pictures are fewer, and stand for more than
themselves."""

PICTURES, WORDS = "domain/pictures.npz", "domain/words.txt"


def fit_domain(folder: Path, count: int, validation: int) -> dict[str, float]:
    """Fits the domain on `count` pictures of the world and half as many foreign ones, its threshold on `validation`
    pictures, and enters it into the bundle's manifest. Returns the threshold and the share of foreign pictures, not
    those of the fit, that are inside."""
    bundle = Bundle.open(folder, "cpu")
    own = features(bundle, (_scene(index) for index in range(count)))
    foreign = features(bundle, (foreign_picture((FOREIGN, index)) for index in range(count // 2)))
    gaussians = Gaussians(*gaussian(own, SHRINK), *gaussian(foreign, FOREIGN_SHRINK))

    def distances(pictures: Iterable[np.ndarray]) -> list[float]:
        return [gaussians.distance(row) for row in features(bundle, pictures)]

    threshold = float(np.quantile(distances(s.image for s in samples(validation, VALIDATION)), QUANTILE))
    others = distances(foreign_picture((FOREIGN, count + index)) for index in range(max(count // 8, 1)))
    enter(folder, gaussians, threshold)
    return {"domain_threshold": threshold, "foreign_inside": float(np.mean(np.array(others) <= threshold))}


def enter(folder: Path, gaussians: Gaussians, threshold: float) -> None:
    """Writes a domain of pictures, and the words of the world, into a bundle."""
    (folder / PICTURES).parent.mkdir(exist_ok=True)
    arrays = {name: values.astype(np.float32) for name, values in vars(gaussians).items()}
    np.savez(folder / PICTURES, **arrays)
    (folder / WORDS).write_text("\n".join(known_words()) + "\n", encoding="utf-8")
    manifest = json.loads((folder / FILE_NAME).read_text())
    manifest["domain"] = {"pictures": {"file": PICTURES, "threshold": round(threshold, 4)}, "words": WORDS}
    write(folder, manifest)


def gaussian(rows: np.ndarray, shrink: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean (k,) and whitening matrix (k, k) of rows (n, k), the covariance drawn to its diagonal by `shrink`."""
    covariance = np.cov(rows.T)
    covariance = (1 - shrink) * covariance + shrink * np.diag(np.diag(covariance))
    values, vectors = np.linalg.eigh(covariance)
    return rows.mean(axis=0), (vectors / np.sqrt(np.maximum(values, values.max() * 1e-6))).T


def features(bundle: Bundle, pictures: Iterable[np.ndarray], batch: int = 16) -> np.ndarray:
    """`features_of` each picture, uint8 (H, W, 3), float64 (n, 2d)."""
    engine, side = bundle.engine("alignment_image"), bundle.manifest.alignment.resolution
    rows, source = [], iter(pictures)
    while some := list(islice(source, batch)):
        images = np.concatenate([encoder_input(picture, side) for picture in some])
        rows += [features_of(tokens) for tokens in run_rows(engine, {"image": images}, ["tokens"])["tokens"]]
    return np.stack(rows)


def _scene(index: int) -> np.ndarray:
    """A picture of the world; two of three are damaged."""
    drawn = render(make_scene((SCENES, index)))
    return drawn.image if index % 3 == 0 else damage_often(drawn, np.random.default_rng((SCENES, index)))[0]
