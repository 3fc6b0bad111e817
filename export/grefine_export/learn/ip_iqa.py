"""Training IP-IQA on a rated database, and its evaluation as in the paper: grouped 80/20 splits, averages of ten."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader

from grefine_export.choices import Report, TextSide
from grefine_export.learn.epochs import Pictures, Recipe, Say, run_epochs
from grefine_export.models.clip_loading import at_size
from grefine_export.models.clip_resnet_surgery import ResNetClip
from grefine_export.models.ip_iqa import Design, IpIqa, encoders
from grefine_rt.evaluation import correlation
from grefine_rt.evaluation.databases import Rated
from grefine_rt.files import written_whole
from grefine_rt.text.emphasis import as_written
from grefine_rt.text.tokenizer import PromptTokenizer

MEASURES = ("srcc", "plcc", "krcc")
PUBLISHED: dict[str, dict[str, tuple[float, float, float]]] = {
    "agiqa-1k": {"quality": (0.8401, 0.8922, 0.6635)},
    "agiqa-3k": {"quality": (0.8634, 0.9116, 0.6844), "alignment": (0.7578, 0.8544, 0.5734)},
}
"""SRCC, PLCC and KRCC of IP-IQA's Tables 1 and 2; by the authors' code of the best epoch on the TEST side."""


@dataclass(frozen=True)
class Ingredients:
    """The parts that IP-IQA's Table 3 switches on and off."""

    image2prompt: bool = True
    prompt: bool = True
    qa_token: bool = True

    @property
    def key(self) -> str:
        """A file's name: `image2prompt+prompt+qa_token`, or `baseline`."""
        return "+".join(name for name, on in asdict(self).items() if on) or "baseline"


TABLE_3 = (
    Ingredients(False, False, False),
    Ingredients(True, False, False),
    Ingredients(False, True, False),
    Ingredients(True, True, False),
    Ingredients(True, True, True),
)
"""The rows of the paper's ablation, in its order; the last one is IP-IQA."""


@dataclass(frozen=True)
class Correlations:
    """Rank (Spearman), linear (Pearson) and pair (Kendall) correlation of scores with opinions, -1..1."""

    srcc: float
    plcc: float
    krcc: float


Result = dict[str, Correlations]
"""Correlations of one split by the name of the score."""
Make = Callable[[Ingredients], IpIqa]
"""A new model on its way from CLIP: new pool and head, image side with or without Image2Prompt."""


def maker(clips: Mapping[bool, ResNetClip], resolution: int, design: Design, text_side: TextSide) -> Make:
    """Makes models of `design` from `clips`, which are with and without Image2Prompt, for pictures of that side."""

    def make(chosen: Ingredients) -> IpIqa:
        # Tables of positions are interpolated once, before the training, as in the authors' code.
        fresh = at_size(copy.deepcopy(clips[chosen.image2prompt]), resolution)
        assert isinstance(fresh, ResNetClip)
        image, text = encoders(fresh, chosen.qa_token, text_side)
        return IpIqa(image, text, replace(design, prompt=chosen.prompt, qa_token=chosen.qa_token))

    return make


def correlations(scores: NDArray[np.floating], opinions: NDArray[np.floating]) -> Correlations:
    """SRCC, PLCC (no logistic map: the scores are trained to be the opinions) and KRCC of two rows (k,)."""
    return Correlations(
        correlation.srcc(scores, opinions),
        correlation.plcc(scores, opinions),
        correlation.krcc(scores, opinions),
    )


def grouped_split(
    groups: Sequence[str], number: int, share: float = 0.8, seed: int = 0
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows for training and for testing, split `number`: about `share` of the pictures, whole groups on one side.

    The same at every call. Raises ValueError for fewer than two groups, one sentence.
    """
    names, of_row = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < 2:
        raise ValueError("a split needs pictures of two prompts or more: is this the whole database?")
    order = np.random.default_rng((seed, number)).permutation(len(names))
    covered = np.cumsum(np.bincount(of_row)[order]) / len(of_row)
    # The nearest to the share, but neither side empty.
    count = min(max(int(np.argmin(np.abs(covered - share))) + 1, 1), len(names) - 1)
    training = np.isin(of_row, order[:count])
    return np.flatnonzero(training), np.flatnonzero(~training)


def fit(
    model: IpIqa,
    rated: Sequence[Rated],
    tokenizer: PromptTokenizer,
    recipe: Recipe,
    checkpoint: Path,
    device: torch.device,
    say: Say,
    after_epoch: Callable[[], None] | None = None,
) -> IpIqa:
    """Trains `model` in place on all of `rated` with the squared error of its scores; resumable at `checkpoint`."""
    ids, opinions = _targets(model, rated, tokenizer, device)
    last = model.head if isinstance(model.head, nn.Linear) else model.head[-1]
    with torch.no_grad():  # at 1e-5 a step, half of the training would go into finding the mean
        last.bias.copy_(opinions.mean(0))

    def loss_of(images: Tensor, rows: Tensor) -> Tensor:
        return F.mse_loss(model(images, ids[rows]).float(), opinions[rows])

    pictures = Pictures([one.path for one in rated], recipe.resolution)
    run_epochs(model, pictures, loss_of, recipe, checkpoint, device, say, after_epoch)
    return model


@torch.no_grad()
def predict(
    model: IpIqa, rated: Sequence[Rated], tokenizer: PromptTokenizer, recipe: Recipe, device: torch.device
) -> NDArray[np.float32]:
    """Scores (k, S) of the pictures, in the order given."""
    ids, _ = _targets(model, rated, tokenizer, device)
    pictures = Pictures([one.path for one in rated], recipe.resolution)
    loader = DataLoader(pictures, recipe.batch, num_workers=recipe.workers)
    model.to(device).eval()
    rows = [model(images.to(device), ids[rows.to(device)]).cpu() for images, rows in loader]
    return torch.cat(rows).float().numpy()


def _targets(
    model: IpIqa, rated: Sequence[Rated], tokenizer: PromptTokenizer, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Token ids (k, L) of the prompts and opinion scores (k, S) in the order of the model's outputs."""
    ids = np.stack([tokenizer.encode(as_written(one.prompt)) for one in rated])
    opinions = [[one.scores[name] for name in model.design.outputs] for one in rated]
    return torch.from_numpy(ids).to(device), torch.tensor(opinions, dtype=torch.float32, device=device)


def cross_validate(
    make: Make,
    rated: Sequence[Rated],
    tokenizer: PromptTokenizer,
    ingredients: Ingredients,
    recipe: Recipe,
    folder: Path,
    device: torch.device,
    say: Say,
    repeats: int = 10,
    report: Report = "last",
) -> list[Result]:
    """Trains and tests `repeats` times, each on another grouped split; the same splits for all `ingredients`.

    Results go to `folder/KEY-NN.json`: a stopped run goes on in the epoch it had reached. report: see `Report`.
    """
    groups = [one.group for one in rated]
    folder.mkdir(parents=True, exist_ok=True)
    results = []
    for number in range(repeats):
        file = folder / f"{ingredients.key}-{number:02}.json"
        if not file.exists():
            training, testing = ([rated[i] for i in rows] for rows in grouped_split(groups, number))
            torch.manual_seed(recipe.seed + number)
            model = make(ingredients)
            checkpoint = file.with_suffix(".pt")
            best = file.with_suffix(".best")
            tested = partial(_tested, model, testing, tokenizer, recipe, device)
            chosen = report == "best-on-test"
            title = f"{ingredients.key}, split {number + 1} of {repeats}"
            after = partial(_keep_best, best, tested) if chosen else None
            fit(model, training, tokenizer, recipe, checkpoint, device, titled(title, say), after)
            result = json.loads(best.read_text()) if chosen else tested()
            with written_whole(file) as part:
                part.write_text(json.dumps(result))
            checkpoint.unlink()
            best.unlink(missing_ok=True)
        results.append({name: Correlations(**c) for name, c in json.loads(file.read_text()).items()})
    return results


def _tested(
    model: IpIqa,
    testing: Sequence[Rated],
    tokenizer: PromptTokenizer,
    recipe: Recipe,
    device: torch.device,
) -> dict[str, dict[str, float]]:
    """Correlations of the scores of `testing` with its opinions, as JSON holds them."""
    scores = predict(model, testing, tokenizer, recipe, device)
    opinions = np.array([[one.scores[name] for name in model.design.outputs] for one in testing])
    return {
        name: asdict(correlations(scores[:, i], opinions[:, i]))
        for i, name in enumerate(model.design.outputs)
    }


def _keep_best(file: Path, tested: Callable[[], dict[str, dict[str, float]]]) -> None:
    """Leave in `file` the result whose correlations have the largest sum, as the authors choose their epoch."""
    result = tested()

    def total(one: dict[str, dict[str, float]]) -> float:
        return float(np.nan_to_num(sum(value for row in one.values() for value in row.values()), nan=-np.inf))

    if not file.exists() or total(result) > total(json.loads(file.read_text())):
        with written_whole(file) as part:
            part.write_text(json.dumps(result))


def titled(title: str, say: Say) -> Say:
    """`say` with `title` before each line."""
    return lambda line: say(f"{title}, {line}")


def table(
    rows: Mapping[Ingredients, Sequence[Result]],
    published: Mapping[str, tuple[float, float, float]] | None = None,
) -> str:
    """A Markdown table in the form of the paper's Table 3: mean and spread (standard deviation) over the splits.

    `published` adds the paper's own figures below, which are of the best epoch on the test side.
    """
    names = list(next(iter(rows.values()))[0])
    columns = [f"{name} {measure.upper()}" for name in names for measure in MEASURES]
    lines = [
        "| Image2Prompt | prompt | [QA] token | " + " | ".join(columns) + " |",
        "|" + " --- |" * (3 + len(columns)),
    ]
    for ingredients, results in rows.items():
        marks = ["yes" if on else "no" for on in asdict(ingredients).values()]
        cells = []
        for name in names:
            for measure in MEASURES:
                values = [getattr(result[name], measure) for result in results]
                cells.append(f"{np.mean(values):.4f} ± {np.std(values):.4f}")
        lines.append("| " + " | ".join(marks + cells) + " |")
    if published:
        figures = [f"{value:.4f}" for name in names for value in published[name]]
        lines.append("| published: best on the test side | | | " + " | ".join(figures) + " |")
    return "\n".join(lines) + "\n"
