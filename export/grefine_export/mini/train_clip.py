"""Contrastive training of the embedded CLIP on the storybook world.

Four terms, all of the form that G-Refine later reads (Eq. 3 and 5):
- prompts: InfoNCE over the batch, and softmax over (prompt, "") against prompts with one thing changed and others;
- phrases: softmax over (phrase, "") of the class token, for every noun and phrase of the batch;
- places: the same for every patch token of the surgery path, against the pixel truth;
- quality: softmax over (good, bad) words for picture and patches, against factor scores and defect masks.
The pixel terms stand in for the size of CLIP's own training set: they make patch tokens mean something.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig

from grefine_export.mini import sizes
from grefine_export.mini.defects import FACTORS, TRAINED, damage, damage_often, factor_scores, mos
from grefine_export.mini.naming import phrase_of
from grefine_export.mini.palette import COLOURS
from grefine_export.mini.pool import Pool
from grefine_export.mini.prompts import place_texts, prompt_of
from grefine_export.mini.things import KINDS
from grefine_export.mini.training import COMPILE_FROM, Schedule, fit, seeded
from grefine_export.mini.vocabulary import BOS, EOS, with_dropout
from grefine_export.mini.world import Rendered, Scene, Thing, alike, with_thing
from grefine_export.models.clip_surgery import ClipSurgery
from grefine_rt.text.emphasis import plain_text

BATCH = 64
GRID = 8
QUALITY_WORDS = (
    ("a perfect picture", "a bad picture"),
    ("a sharp and clean picture", "a blurry and noisy picture"),
    ("whole and well formed things", "broken and misshapen things"),
    ("natural colours", "strange and unnatural colours"),
)
_PHRASES = [(kind, colour) for kind in KINDS for colour in (None, *COLOURS)]
_PLACES = list(place_texts().items())


def new_clip(tokenizer: Tokenizer) -> ClipSurgery:
    """The embedded CLIP, untrained: transformers' own modules, small."""
    special = {"bos_token_id": tokenizer.token_to_id(BOS), "eos_token_id": tokenizer.token_to_id(EOS)}
    text = CLIPTextConfig(
        **sizes.CLIP_TEXT,
        vocab_size=tokenizer.get_vocab_size(),
        pad_token_id=special["eos_token_id"],
        **special,
    )
    vision = CLIPVisionConfig(**sizes.CLIP_VISION)
    config = CLIPConfig(
        text_config=text.to_dict(),
        vision_config=vision.to_dict(),
        projection_dim=sizes.CLIP_WIDTH,
        logit_scale_init_value=2.3,
    )
    return ClipSurgery(CLIPModel(config), sizes.CLIP_SURGERY_DEPTH)


def encode_texts(tokenizer: Tokenizer, texts: list[str], length: int = 0) -> Tensor:
    """Ids int64 (n, t), cut at the model's length, padded with end-of-text to the longest, `length` at least."""
    bos, eos = tokenizer.token_to_id(BOS), tokenizer.token_to_id(EOS)
    encodings = tokenizer.encode_batch(texts, add_special_tokens=False)
    rows = [[bos, *encoding.ids[: sizes.CLIP_LENGTH - 2], eos] for encoding in encodings]
    width = max(length, *(len(row) for row in rows))
    return torch.tensor([row + [eos] * (width - len(row)) for row in rows])


@dataclass(frozen=True)
class Batch:
    """b pictures, k phrases. `present` (b, k) and `where` (b, 64, k) are 0..1, with weights of the same shapes."""

    image: Tensor
    prompts: Tensor  # ids (2 b, t): the true ones, then ones with a thing changed
    phrases: Tensor  # ids (k + 1 + 8, t): phrases, the empty text, quality words
    present: Tensor
    present_weight: Tensor
    where: Tensor
    where_weight: Tensor
    factors: Tensor  # (b, 4) overall and the three factors
    sound: Tensor  # (b, 64, 4): 1 where the patch is free of that defect, 0 where it has it
    sound_weight: Tensor


def changed_scene(scene: Scene, rng: np.random.Generator) -> Scene:
    """The scene with one thing, or all alike, of another colour or kind: the scene of a hard negative prompt."""
    index = int(rng.integers(len(scene.things)))
    changes: dict[str, str] = {}
    thing = scene.things[index]
    if rng.random() < 0.5:
        others = [c for c in COLOURS if c != thing.colour]
        changes["colour"] = str(rng.choice(others))
    else:
        used = {t.kind for t in scene.things}
        changes["kind"] = str(rng.choice([k for k in KINDS if k not in used]))
    for place in alike(scene, index):
        scene = with_thing(scene, place, replace(scene.things[place], **changes))  # type: ignore[arg-type]
    return scene


def pooled_patches(mask: np.ndarray) -> np.ndarray:
    """(..., 128, 128) -> covered share of each of the 64 patches (..., 64)."""
    side = mask.shape[-1] // GRID
    shape = (*mask.shape[:-2], GRID, side, GRID, side)
    return mask.reshape(shape).mean((-3, -1), dtype=np.float32).reshape(*mask.shape[:-2], GRID * GRID)


def batches(pool: Pool, tokenizer: Tokenizer, step: int) -> Iterator[Batch]:
    """Endless training batches; most of the pictures as a weak generator draws them, half mirrored left to right."""
    rng = seeded(21, step)
    tokenizer = with_dropout(tokenizer)
    while True:
        yield _batch(pool, tokenizer, rng)


def _batch(pool: Pool, tokenizer: Tokenizer, rng: np.random.Generator) -> Batch:
    picked = rng.integers(len(pool.scenes), size=BATCH)
    scenes = [pool.scenes[i] for i in picked]
    broken, misshapen = rng.random(BATCH) < 0.7, rng.random(BATCH) < 0.15
    wanted = {(t.kind, t.colour) for s in scenes for t in s.things}
    pairs = [p for p in _PHRASES if p[1] is None or p in wanted]
    absent = [p for p in _PHRASES if p[1] is not None and p not in wanted]
    pairs += [absent[i] for i in rng.choice(len(absent), min(16, len(absent)), replace=False)]
    places = [_PLACES[i] for i in rng.choice(len(_PLACES), 8, replace=False)]
    texts = [phrase_of(kind, colour, rng) for kind, colour in pairs] + [text for text, _ in places]
    texts += ["", *(word for pair in QUALITY_WORDS for word in pair)]
    prompts = [plain_text(prompt_of(s, rng)) for s in scenes]
    prompts += [plain_text(prompt_of(changed_scene(s, rng), rng)) for s in scenes]

    images = np.empty((BATCH, *pool.images.shape[1:]), np.uint8)
    factors = np.ones((BATCH, 4), np.float32)
    bad = np.zeros((BATCH, 3, 64), np.float32)
    truth = _Truth(pairs, [settings for _, settings in places])
    for row, index in enumerate(picked):
        drawn = Rendered(pool.images[index], pool.owners[index])
        images[row], masks, scores = _as_drawn(drawn, bool(broken[row]), bool(misshapen[row]), rng)
        if scores is not None:
            factors[row], bad[row] = scores, pooled_patches(masks)
        truth.enter(row, scenes[row], pool.owners[index], masks)
    flipped = rng.random(BATCH) < 0.5
    images[flipped] = images[flipped, :, ::-1]
    bad_patches = np.moveaxis(bad, 1, 2)
    any_bad = bad_patches.max(2, keepdims=True)
    cover = _mirrored(np.concatenate([any_bad, bad_patches], 2).copy(), flipped)
    # A patch that a defect only touches is left out; where a defect hardly shows, it weighs little.
    severity = np.clip((1 - factors[:, None]) / 0.15, 0, 1)
    sound_weight = np.where(cover > 0.6, severity, np.where(cover < 0.05, 1.0, 0.0)).astype(np.float32)
    tensor = torch.from_numpy
    return Batch(
        image=tensor(images).permute(0, 3, 1, 2).float() / 255,
        prompts=encode_texts(tokenizer, prompts),
        phrases=encode_texts(tokenizer, texts),
        present=tensor(truth.present),
        present_weight=tensor(truth.weight),
        where=tensor(_mirrored(truth.where, flipped)),
        where_weight=tensor(_mirrored(truth.where_weight, flipped)),
        factors=tensor(factors),
        sound=tensor((cover < 0.5).astype(np.float32)),
        sound_weight=tensor(sound_weight),
    )


def _as_drawn(
    drawn: Rendered, broken: bool, misshapen: bool, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, tuple[float, ...] | None]:
    """The picture as a weak generator draws it, where it has defects of each factor bool (3, H, W), and overall and
    factor scores in [0, 1]; None for these where nothing was damaged."""
    masks = np.zeros((3, *drawn.owner.shape), bool)
    if misshapen:
        # Broken shapes are the hardest to see and few among the damaged pictures: more are made here.
        image, defect = damage(drawn, str(rng.choice(TRAINED["rationality"])), "local", rng)
        masks[FACTORS.index("rationality")] = defect.mask
        defects = [defect]
    elif broken:
        # Damaged anew in every batch: the same 24,000 damages again and again are learnt by heart.
        image, defects = damage_often(drawn, rng)
        for defect in defects:
            masks[FACTORS.index(defect.factor)] |= defect.mask
    else:
        return drawn.image, masks, None
    return image, masks, ((mos(defects) - 1) / 4, *factor_scores(defects))


def _mirrored(patches: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Values of the patches (b, 64, n) with the chosen pictures mirrored left to right, in place."""
    grid = patches.reshape(BATCH, GRID, GRID, -1)
    grid[rows] = grid[rows][:, :, ::-1]
    return grid.reshape(BATCH, GRID * GRID, -1)


class _Truth:
    """The phrases, pairs of kind and colour and then settings, in the pictures of a batch, and their patches; see
    `Batch`."""

    def __init__(self, pairs: Sequence[tuple[str, str | None]], settings: Sequence[str]) -> None:
        self._count, self._settings = len(pairs), settings
        k = len(pairs) + len(settings)
        self.present, self.weight = np.zeros((BATCH, k), np.float32), np.ones((BATCH, k), np.float32)
        self.where = np.zeros((BATCH, 64, k), np.float32)
        self.where_weight = np.ones((BATCH, 64, k), np.float32)
        self._kinds = np.array([KINDS.index(kind) for kind, _ in pairs])
        self._colours = np.array([-1 if c is None else list(COLOURS).index(c) for _, c in pairs])

    def enter(self, row: int, scene: Scene, owner: np.ndarray, masks: np.ndarray) -> None:
        """The picture of `row`: `owner` (H, W) says which thing each pixel is of, `masks` where it has defects."""
        count = self._count
        # Colour alone tells most phrases apart. What asks for the shape counts more: bare nouns, and phrases that
        # share a colour or a kind with what is there.
        near = np.isin(self._colours, [list(COLOURS).index(t.colour) for t in scene.things])
        near |= np.isin(self._kinds, [KINDS.index(t.kind) for t in scene.things])
        importance = np.where(self._colours < 0, 4.0, np.where(near, 3.0, 0.5)).astype(np.float32)
        self.weight[row, :count] = importance
        self.where_weight[row, :, :count] = importance
        for number, thing in enumerate(scene.things):
            self._enter_thing(row, thing, owner == number + 1, masks)
        if masks[1].any():  # parts are not where the truth says
            self.where_weight[row][pooled_patches(masks[1]) > 0.1] = 0
        background = np.minimum(1, 1.5 * pooled_patches(owner == 0))
        for column, settings in enumerate(self._settings, count):
            self.present[row, column] = float(scene.setting in settings)
            self.where[row][:, column] = background * self.present[row, column]

    def _enter_thing(self, row: int, thing: Thing, area: np.ndarray, masks: np.ndarray) -> None:
        weight, where_weight = self.weight[row, : self._count], self.where_weight[row][:, : self._count]
        cover = np.minimum(1, 2 * pooled_patches(area))
        same = self._kinds == KINDS.index(thing.kind)
        right = same & ((self._colours < 0) | (self._colours == list(COLOURS).index(thing.colour)))
        self.present[row, : self._count][right] = 1
        place = self.where[row][:, : self._count]
        place[:, right] = np.maximum(place[:, right], cover[:, None])  # others may be alike
        size = max(1, int(area.sum()))
        if (masks[2] & area).sum() > 0.2 * size:  # unnatural colours: which colour it is can't be said
            weight[same & (self._colours >= 0)] = 0
            where_weight[:, same & (self._colours >= 0)] = 0
        if (masks[0] & area).sum() > 0.6 * size:  # hardly to be recognised
            weight[same] *= 0.2


def _weighted_bce(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Cross entropy in which the positives count as much as the negatives."""
    raw = F.binary_cross_entropy_with_logits(logits, target, reduction="none") * weight
    yes, no = target * weight, (1 - target) * weight
    losses = (raw * target).sum() / yes.sum().clamp_min(1), (raw * (1 - target)).sum() / no.sum().clamp_min(1)
    return losses[0] + losses[1]


def prompt_loss(logits: Tensor) -> Tensor:
    """Cross entropy of softmax over (prompt, "") for logits (b, 2 b): own prompts, their changed ones, and other
    pictures' prompts count the same.

    A changed prompt is one of 2 b - 1 wrong ones. Without a share of its own it hardly counts, and then a prompt with
    one wrong word is told from the true one of the same picture, but not by one threshold for all pictures.
    """
    own, changed = logits.diagonal(), logits.diagonal(offset=len(logits))
    others = ~torch.eye(len(logits), dtype=torch.bool, device=logits.device).repeat(1, 2)
    return F.softplus(-own).mean() + F.softplus(changed).mean() + F.softplus(logits[others]).mean()


def contrastive_loss(
    model: nn.Module,
    batch: object,
    tokens_of: Callable[[ClipSurgery, Tensor], Tensor] = ClipSurgery.image_tokens,
) -> tuple[Tensor, dict[str, float]]:
    """The four terms of the module's docstring. `tokens_of` is the image encoder, perhaps compiled."""
    assert isinstance(model, ClipSurgery)
    assert isinstance(batch, Batch)
    tokens = F.normalize(tokens_of(model, batch.image).float(), dim=-1)
    prompts = F.normalize(model.text_features(batch.prompts).float(), dim=-1)
    texts = F.normalize(model.text_features(batch.phrases).float(), dim=-1)
    scale = model.scale.clamp(max=60)
    k = batch.present.shape[1]
    phrases, empty, quality = texts[:k], texts[k], texts[k + 1 :]
    image = tokens[:, 0]
    count = len(image)

    logits = scale * image @ prompts.T
    truth = torch.arange(count, device=logits.device)
    nce = F.cross_entropy(logits, truth) + F.cross_entropy(logits[:, :count].T, truth)
    prompt = prompt_loss(logits - scale * (image @ empty)[:, None])
    against_empty = scale * (tokens @ phrases.T - (tokens @ empty)[..., None])
    present = _weighted_bce(against_empty[:, 0], batch.present, batch.present_weight)
    where = _weighted_bce(against_empty[:, 1:], batch.where, batch.where_weight)
    good_bad = scale * (tokens @ (quality[0::2] - quality[1::2]).T)
    overall = 3 * F.binary_cross_entropy_with_logits(good_bad[:, 0], batch.factors)
    sound = _weighted_bce(good_bad[:, 1:], batch.sound, batch.sound_weight)
    loss = 0.5 * nce + prompt + present + 2 * where + 2 * overall + 2 * sound
    terms = {
        "nce": nce,
        "prompt": prompt,
        "present": present,
        "where": where,
        "overall": overall,
        "sound": sound,
    }
    return loss, {name: round(float(term.detach()), 4) for name, term in terms.items()}


def train_clip(
    pool: Pool, tokenizer: Tokenizer, folder: Path, steps: int, device: torch.device
) -> ClipSurgery:
    """Trains the embedded CLIP."""
    torch.manual_seed(2)
    source = partial(batches, pool, tokenizer)
    # Making a batch takes a fourth of the time of learning from it: a core that is free does it meanwhile.
    workers = int(steps > COMPILE_FROM and (os.cpu_count() or 1) > torch.get_num_threads())
    schedule = Schedule(
        steps, 1.5e-3, warmup=min(200, steps // 5 + 1), decay=0.05, muon=3e-3, workers=workers
    )
    loss_of = contrastive_loss
    if steps > COMPILE_FROM:  # the image encoder alone: the number of texts changes with every batch
        loss_of = partial(contrastive_loss, tokens_of=torch.compile(ClipSurgery.image_tokens, dynamic=False))
    trained = fit("clip", new_clip(tokenizer), source, loss_of, schedule, folder, device)
    assert isinstance(trained, ClipSurgery)
    return trained
