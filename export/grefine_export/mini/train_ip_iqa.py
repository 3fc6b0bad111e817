"""The embedded IP-IQA: a small ResNet with CLIP's stem and pools beside the embedded CLIP's frozen text encoder.

Three stages, as RN50 goes through them:
1. CLIP: pictures of the world, sound and damaged, against the frozen text features (prompts, phrases, quality words),
   contrastively. It stands in for OpenAI's pretraining.
2. Image2Prompt: 1 - cos on pictures of the weak generator whose prompts the embedded CLIP finds matching.
3. Opinions: squared error of quality and alignment, with pool, head and the [QA] token new.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn

from grefine_export.learn.epochs import Recipe, Say
from grefine_export.learn.image2prompt import cosine_loss
from grefine_export.learn.ip_iqa import TABLE_3, Ingredients, cross_validate, table
from grefine_export.mini import sizes
from grefine_export.mini.damaged import Damaged
from grefine_export.mini.naming import phrase_of
from grefine_export.mini.palette import COLOURS, SETTINGS
from grefine_export.mini.pool import Pool
from grefine_export.mini.prompts import place_phrases, prompt_of
from grefine_export.mini.rated import RatedPool, write_database
from grefine_export.mini.things import KINDS
from grefine_export.mini.train_clip import QUALITY_WORDS, encode_texts
from grefine_export.mini.training import Schedule, fit, seeded
from grefine_export.mini.world import SIZE
from grefine_export.models.clip_resnet import STRIDE, AttentionPool2d, ModifiedResNet
from grefine_export.models.clip_surgery import ClipSurgery
from grefine_export.models.ip_iqa import Design, ImageEncoder, IpIqa, PromptEncoder
from grefine_rt.evaluation import databases
from grefine_rt.text.emphasis import plain_text
from grefine_rt.text.tokenizer import PromptTokenizer

BATCH = 64
KEPT = 0.28  # of the pairs, by their cosine: 560,000 of DiffusionDB's 2 million
LAYERS, WIDTH, HEADS = (1, 2, 2, 1), 12, 6
WORDINGS = 8
"""Wordings of a phrase whose features are averaged."""


@dataclass(frozen=True)
class Budget:
    """Pictures with opinions, updates of each stage, and the size of the ablation's database and training."""

    rated: int = 24_000
    clip: int = 3_000
    image2prompt: int = 300
    opinions: int = 3_000
    prompts: int = 120
    versions: int = 8
    repeats: int = 10
    epochs: int = 10


SMOKE = Budget(rated=96, clip=4, image2prompt=2, opinions=4, prompts=10, versions=3, repeats=2, epochs=1)


@dataclass(frozen=True)
class Batch:
    """b pictures (b, 3, 128, 128) in [0, 1] and their rows in the tensors beside them; `truth` by stage."""

    image: Tensor
    rows: Tensor
    truth: Tensor


def new_image_encoder() -> ImageEncoder:
    """The small ResNet, untrained, 1 M parameters with its pool."""
    torch.manual_seed(31)
    trunk = ModifiedResNet(LAYERS, WIDTH)
    for name, parameter in trunk.named_parameters():
        if name.endswith("bn3.weight") and name.startswith("layer"):
            nn.init.zeros_(parameter)  # blocks start as the way around them
    pool = AttentionPool2d(SIZE // STRIDE, trunk.channels, HEADS, sizes.CLIP_WIDTH)
    return ImageEncoder(trunk, pool).to(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Texts:
    """Frozen text features, L2-normalised: `prompts` (scenes, styles, d), `phrases` (k, d) less the feature of "", and
    `quality` (4, d), good less bad. `present` float32 (scenes, k) says which phrases are true of a scene."""

    prompts: Tensor
    phrases: Tensor
    quality: Tensor
    present: np.ndarray


@torch.no_grad()
def text_features(clip: ClipSurgery, tokenizer: Tokenizer, pool: Pool, styles: int = 2) -> Texts:
    """Features of the texts that pictures are compared with. The text encoder is frozen, so all are computed once."""
    rng = np.random.default_rng(32)

    def features(texts: list[str]) -> Tensor:
        rows = encode_texts(tokenizer, texts).split(256)
        return F.normalize(torch.cat([clip.text_features(ids) for ids in rows]).float(), dim=-1)

    names = [(kind, colour) for kind in KINDS for colour in (None, *COLOURS)]
    places = {name: len(names) + i for i, name in enumerate(SETTINGS)}
    column = {name: i for i, name in enumerate(names)}
    present = np.zeros((len(pool.scenes), len(names) + len(places)), np.float32)
    for row, scene in enumerate(pool.scenes):
        present[row, places[scene.setting]] = 1
        for thing in scene.things:
            present[row, [column[thing.kind, None], column[thing.kind, thing.colour]]] = 1
    prompts = [plain_text(prompt_of(scene, rng)) for scene in pool.scenes for _ in range(styles)]
    quality = features([word for pair in QUALITY_WORDS for word in pair])
    # A phrase stands for all that people call it: the middle of several wordings.
    phrases = torch.stack(
        [
            features(
                [phrase_of(kind, colour, rng) for kind, colour in names]
                + [str(rng.choice(place_phrases(name))) for name in SETTINGS]
            )
            for _ in range(WORDINGS)
        ]
    )
    return Texts(
        features(prompts).unflatten(0, (len(pool.scenes), styles)),
        F.normalize(phrases.mean(0), dim=-1) - features([""]),
        quality[0::2] - quality[1::2],
        present,
    )


def _picture(images: np.ndarray, flipped: np.ndarray) -> Tensor:
    images = images.copy()
    images[flipped] = images[flipped, :, ::-1]
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


def clip_batches(pool: Pool, damaged: Damaged, step: int) -> Iterator[Batch]:
    """Endless batches of scenes, half of them damaged; `truth` (b, 4) is overall and the factors, 0..1."""
    rng = seeded(33, step)
    while True:
        rows = np.sort(rng.choice(len(pool.scenes), BATCH, replace=len(pool.scenes) < BATCH))
        broken = rng.random(BATCH) < 0.5
        images = np.where(broken[:, None, None, None], damaged.images[rows], pool.images[rows])
        truth = np.concatenate([(damaged.mos[rows, None] - 1) / 4, damaged.factors[rows]], 1)
        truth[~broken] = 1
        image = _picture(images, rng.random(BATCH) < 0.5)
        yield Batch(image, torch.from_numpy(rows), torch.from_numpy(truth))


def clip_loss(texts: Texts, scale: float) -> Callable[[nn.Module, object], tuple[Tensor, dict[str, float]]]:
    """Contrastive loss against `texts`: InfoNCE with the prompts, phrases against "", good words against bad ones."""
    present = torch.from_numpy(texts.present)

    def loss_of(model: nn.Module, batch: object) -> tuple[Tensor, dict[str, float]]:
        assert isinstance(batch, Batch)
        image = F.normalize(model(batch.image).float(), dim=-1)
        device = image.device
        style = int(torch.randint(texts.prompts.shape[1], ()))
        prompts = texts.prompts[batch.rows.cpu(), style].to(device)
        logits = scale * image @ prompts.T
        own = torch.arange(len(image), device=device)
        nce = F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)
        wanted = present[batch.rows.cpu()].to(device)
        phrases = F.binary_cross_entropy_with_logits(
            scale * image @ texts.phrases.to(device).T, wanted, pos_weight=torch.tensor(12.0, device=device)
        )
        quality = F.binary_cross_entropy_with_logits(scale * image @ texts.quality.to(device).T, batch.truth)
        terms = {"nce": nce, "phrases": phrases, "quality": quality}
        loss = 0.5 * nce + 4 * phrases + 4 * quality
        return loss, {name: round(float(term.detach()), 4) for name, term in terms.items()}

    return loss_of


@torch.no_grad()
def matching_rows(
    clip: ClipSurgery, tokenizer: Tokenizer, rated: RatedPool, file: Path
) -> tuple[np.ndarray, Tensor]:
    """Rows of the pictures that match their prompts best by the embedded CLIP, the share `KEPT` of them, and the
    features (k, d) of all prompts; kept in `file`."""
    if not file.exists():
        images = torch.cat(
            [
                F.normalize(clip.image_tokens(_picture(part, np.zeros(len(part), bool)))[:, 0], dim=-1)
                for part in np.array_split(rated.images, -(-len(rated.images) // BATCH))
            ]
        )
        unique = list(dict.fromkeys(rated.prompts))
        ids = encode_texts(tokenizer, [plain_text(prompt) for prompt in unique])
        features = torch.cat([clip.text_features(rows) for rows in ids.split(256)])
        place = {prompt: i for i, prompt in enumerate(unique)}
        features = features[[place[prompt] for prompt in rated.prompts]]
        torch.save({"cosines": (images * F.normalize(features, dim=-1)).sum(1), "features": features}, file)
    state = torch.load(file, weights_only=True)
    rows = (state["cosines"] > torch.quantile(state["cosines"], 1 - KEPT)).nonzero()[:, 0]
    return rows.numpy(), state["features"]


def rated_batches(rated: RatedPool, rows: np.ndarray, step: int) -> Iterator[Batch]:
    """Endless batches out of `rows`; `truth` (b, 2) are the opinions."""
    rng = seeded(34, step)
    while True:
        picked = np.sort(rng.choice(rows, BATCH, replace=len(rows) < BATCH))
        image = _picture(rated.images[picked], rng.random(BATCH) < 0.5)
        truth = torch.from_numpy(rated.opinions[picked])
        yield Batch(image, torch.from_numpy(picked), truth)


def train_image_encoders(
    clip: ClipSurgery,
    tokenizer: Tokenizer,
    pool: Pool,
    damaged: Damaged,
    rated: RatedPool,
    folder: Path,
    budget: Budget,
    device: torch.device,
) -> dict[bool, ImageEncoder]:
    """Stages 1 and 2, resumable from their checkpoints in `folder`: the image encoder without (False) and with (True)
    Image2Prompt."""
    texts = text_features(clip, tokenizer, pool)
    scale = float(clip.scale.detach().clamp(max=60))
    schedule = Schedule(budget.clip, 3e-3, warmup=min(200, budget.clip // 5 + 1), decay=0.05)
    source = partial(clip_batches, pool, damaged)
    plain = fit("resnet", new_image_encoder(), source, clip_loss(texts, scale), schedule, folder, device)
    rows, features = matching_rows(clip, tokenizer, rated, folder / f"matching-{len(rated.prompts)}.pt")

    def pull(model: nn.Module, batch: object) -> tuple[Tensor, dict[str, float]]:
        assert isinstance(batch, Batch)
        return cosine_loss(model(batch.image).float(), features[batch.rows.cpu()].to(device)), {}

    further = new_image_encoder()
    further.load_state_dict(plain.state_dict())
    schedule = Schedule(budget.image2prompt, 3e-4, warmup=min(50, budget.image2prompt // 5 + 1))
    source = partial(rated_batches, rated, rows)
    pulled = fit("image2prompt", further, source, pull, schedule, folder, device)
    assert isinstance(plain, ImageEncoder)
    assert isinstance(pulled, ImageEncoder)
    return {False: plain, True: pulled}


def new_ip_iqa(clip: ClipSurgery, encoder: ImageEncoder, ingredients: Ingredients = TABLE_3[-1]) -> IpIqa:
    """A small IP-IQA before its training: a copy of `encoder`, new cross-modality pool and head."""
    image = new_image_encoder()
    image.load_state_dict(encoder.state_dict())
    text = PromptEncoder(clip.clip, ingredients.qa_token)
    return IpIqa(image, text, Design(prompt=ingredients.prompt, qa_token=ingredients.qa_token))


def train_ip_iqa(
    clip: ClipSurgery,
    encoder: ImageEncoder,
    tokenizer: Tokenizer,
    rated: RatedPool,
    folder: Path,
    budget: Budget,
    device: torch.device,
) -> IpIqa:
    """Stage 3, from the image encoder of stage 2."""
    ids = encode_texts(tokenizer, [plain_text(prompt) for prompt in rated.prompts])
    torch.manual_seed(35)
    model = new_ip_iqa(clip, encoder)
    with torch.no_grad():
        model.head[-1].bias.copy_(torch.tensor(rated.opinions.mean(0)))

    def loss_of(model: nn.Module, batch: object) -> tuple[Tensor, dict[str, float]]:
        assert isinstance(batch, Batch)
        errors = (model(batch.image, ids[batch.rows.cpu()].to(device)).float() - batch.truth).square().mean(0)
        quality, alignment = errors.detach().tolist()
        return errors.mean(), {"quality": round(quality, 4), "alignment": round(alignment, 4)}

    source = partial(rated_batches, rated, np.arange(len(rated.images)))
    schedule = Schedule(budget.opinions, 1e-3, warmup=min(200, budget.opinions // 5 + 1), decay=0.05)
    trained = fit("ip_iqa-own", model, source, loss_of, schedule, folder, device)
    assert isinstance(trained, IpIqa)
    return trained


def ablate(
    clip: ClipSurgery,
    encoders: Mapping[bool, ImageEncoder],
    tokenizer_file: Path,
    folder: Path,
    budget: Budget,
    device: torch.device,
    say: Say,
) -> str:
    """IP-IQA's Table 3 on the storybook database, with the code that trains on AGIQA-3K: a Markdown table.

    Its pictures have prompts and seeds of their own, so nothing before has seen them. Resumable split by split.
    """
    root = write_database(
        folder / f"database-{budget.prompts}x{budget.versions}", budget.prompts, budget.versions
    )
    rated = databases.read("agiqa-3k", root)
    tokenizer = PromptTokenizer.from_file(tokenizer_file, sizes.CLIP_LENGTH)
    recipe = Recipe(budget.epochs, rate=5e-4, resolution=SIZE, bfloat16=True)

    def make(chosen: Ingredients) -> IpIqa:
        return new_ip_iqa(clip, encoders[chosen.image2prompt], chosen)

    return table(
        {
            chosen: cross_validate(
                make, rated, tokenizer, chosen, recipe, folder / "ablation-own", device, say, budget.repeats
            )
            for chosen in TABLE_3
        }
    )
