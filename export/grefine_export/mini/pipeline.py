"""The whole embedded bundle from nothing: pictures, models, T_p, constants, graphs. Resumable at every stage."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

from grefine_export import clip_bundle
from grefine_export.choices import Attention
from grefine_export.learn.t_p import PromptContexts, Rated, fit_alpha, learn
from grefine_export.mini import sizes, train_ip_iqa
from grefine_export.mini.bundle import ORIGIN, Models, refining, write_bundle
from grefine_export.mini.calibrate import calibrate
from grefine_export.mini.damaged import Damaged, open_damaged
from grefine_export.mini.domain import fit_domain
from grefine_export.mini.pool import Pool, open_pool
from grefine_export.mini.rated import open_rated
from grefine_export.mini.redrawing_pairs import BATCH, Latents, Pairs, Planner, encode_pairs, open_pairs
from grefine_export.mini.train_clip import pooled_patches, train_clip
from grefine_export.mini.train_drawn import COUNT, Drawn, draw, train_on_drawn
from grefine_export.mini.train_inpaint import train_inpaint
from grefine_export.mini.train_removal import train_removal
from grefine_export.mini.train_restore import train_restore
from grefine_export.mini.train_vae import STAGE2, train_decoder, train_vae
from grefine_export.mini.vocabulary import train_tokenizer
from grefine_export.mini.world import SIZE
from grefine_export.models.clip_surgery import ClipSurgery
from grefine_export.models.clip_tokenizer import ends
from grefine_export.models.ip_iqa import IpIqa
from grefine_export.onnx.cost import add_costs
from grefine_export.onnx.ip_iqa import add_to_bundle
from grefine_export.onnx.shared import share_weights
from grefine_rt import Assessor
from grefine_rt.bundle import store
from grefine_rt.bundle.manifest import Inpaint, Restore
from grefine_rt.bundle.strict import read_strictly

CLASS_WORD = "picture good quality"  # three tokens, in the middle of every learned context


@dataclass(frozen=True)
class Budget:
    """The size of a training: scenes in the pool and updates of each model.

    `validation` pictures fit the constants, `domain` scenes the domain of the bundle (0: everything). The defaults take
    one CPU core about sixteen hours, and are what the bundle in `engines/mini` was made with (`docs/mini.md`).
    `GPU` is meant for a data-centre card; nobody has run it yet.
    """

    scenes: int = 24_000
    rated: int = 8_000
    vae: int = 7_000
    decoder: int = 4_000
    clip: int = 14_000
    t_p_epochs: int = 50
    inpaint: int = 9_005
    drawn: int = 1_500
    restore_vae: int = 3_600
    removal: int = 8_000
    restore: int = 4_000
    ip_iqa: train_ip_iqa.Budget = field(default_factory=train_ip_iqa.Budget)
    validation: int = 500
    domain: int = 2400


GPU = Budget(
    scenes=60_000,
    rated=20_000,
    vae=40_000,
    decoder=20_000,
    clip=30_000,
    inpaint=120_000,
    drawn=10_000,
    restore_vae=20_000,
    removal=60_000,
    restore=40_000,
)
SMOKE = Budget(
    scenes=160,
    rated=96,
    vae=12,
    decoder=6,
    clip=6,
    t_p_epochs=4,
    inpaint=8,
    drawn=6,
    restore_vae=6,
    removal=6,
    restore=6,
    ip_iqa=train_ip_iqa.SMOKE,
    validation=6,
    domain=0,
)


@torch.no_grad()
def rated_pictures(clip: ClipSurgery, pool: Pool, damaged: Damaged, count: int) -> Rated:
    """Tokens and truth of `count` damaged pictures and of a fourth as many sound ones."""
    sound = count // 4
    images = torch.cat(
        [torch.from_numpy(damaged.images[:count]), torch.from_numpy(pool.images[:sound].copy())]
    )
    rows = [
        F.normalize(clip.image_tokens(part.permute(0, 3, 1, 2) / 255), dim=-1) for part in images.split(64)
    ]
    bad = torch.from_numpy(pooled_patches(damaged.masks[:count])).movedim(1, 2)
    cover = F.pad(torch.cat([bad.amax(2, keepdim=True), bad], 2), (0, 0, 0, 0, 0, sound))
    mos = F.pad((torch.from_numpy(damaged.mos[:count].copy()) - 1) / 4, (0, sound), value=1.0)
    factors = F.pad(torch.from_numpy(damaged.factors[:count].copy()), (0, 0, 0, sound), value=1.0)
    # A patch that a defect only touches is neither sound nor bad.
    weight = ((cover > 0.6) | (cover < 0.05)).float()
    return Rated(torch.cat(rows), mos, factors, (cover < 0.5).float(), weight)


def learn_t_p(
    clip: ClipSurgery, pool: Pool, damaged: Damaged, tokenizer: Tokenizer, file: Path, budget: Budget
) -> tuple[torch.Tensor, tuple[float, ...]]:
    """T_p (4, 2, d) and alpha; kept in `file`."""
    if not file.exists():
        torch.manual_seed(4)
        clip = clip.cpu()
        rated = rated_pictures(clip, pool, damaged, budget.rated)
        words = tokenizer.encode(CLASS_WORD, add_special_tokens=False).ids
        contexts = PromptContexts(clip, words, *ends(tokenizer))
        terms = learn(contexts, rated, budget.t_p_epochs)
        with torch.no_grad():
            t_p = contexts()
        alpha = fit_alpha(rated, t_p, clip.scale)
        torch.save({"t_p": t_p, "alpha": torch.tensor(alpha), "terms": terms}, file)
    state = torch.load(file, weights_only=True)
    return state["t_p"], tuple(state["alpha"].tolist())


def make_planner(
    clip: ClipSurgery,
    t_p: torch.Tensor,
    alpha: Sequence[float],
    tokenizer: Tokenizer,
    folder: Path,
    validation: int,
) -> Planner:
    """Plans as the whole bundle will make them, from a bundle of the indicators alone, made anew in `folder` with its
    constants fitted on `validation` pictures."""
    shutil.rmtree(folder, ignore_errors=True)
    source, batch = clip_bundle.Source(ORIGIN, "Apache-2.0"), clip_bundle.Batch(1, BATCH)
    indicators = clip_bundle.write_bundle(folder, clip.cpu(), t_p, tokenizer, source, alpha, batch=batch)
    settings = refining()
    store.write(folder, asdict(indicators) | {"plan": settings["plan"]})
    calibrate(folder, validation)
    assessor = Assessor.load(folder, "cpu")
    stage1 = read_strictly(Inpaint, settings["inpaint"], "inpaint")
    stage2 = read_strictly(Restore, settings["restore"], "restore")
    return Planner(assessor, replace(assessor.bundle.manifest, inpaint=stage1, restore=stage2))


def run(
    budget: Budget,
    work: Path,
    out: Path,
    device: torch.device,
    say: Callable[[str], None] = print,
    attention: Attention = "vv",
) -> dict[str, float]:
    """Makes the bundle `out`, with pictures and checkpoints in `work`. Returns the figures of the calibration.

    `attention` is the reading of Eq. 1 that T_p, constants and graphs are made for; CLIP itself learns with "vv".

    Every stage leaves its result in `work` and is skipped when that is there, so a stopped run goes on where it was.
    """
    work.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()

    def stage(name: str) -> None:
        say(f"[{time.monotonic() - started:7.0f} s] {name}")

    stage(f"pictures: {budget.scenes} scenes")
    pool = open_pool(work / "pool", budget.scenes)
    damaged = open_damaged(pool, work / "pool")
    file = work / "clip.json"
    tokenizer = Tokenizer.from_file(str(file)) if file.exists() else train_tokenizer(file)
    models = _train_models(budget, work, pool, damaged, (file, tokenizer), device, stage, attention)
    stage(f"IP-IQA: {budget.ip_iqa.clip} + {budget.ip_iqa.image2prompt} + {budget.ip_iqa.opinions} steps")
    rated = open_rated(work / "pool", budget.ip_iqa.rated)
    own = (work / "ip_iqa", budget.ip_iqa, device)
    encoders = train_ip_iqa.train_image_encoders(models.clip, tokenizer, pool, damaged, rated, *own)
    ip_iqa = train_ip_iqa.train_ip_iqa(models.clip, encoders[True], tokenizer, rated, *own)
    stage("graphs")
    for name, error in _write_graphs(models, ip_iqa, tokenizer, out).items():
        say(f"    {name}: relative error {error:.1e}")
    stage(f"constants: {budget.validation} pictures")
    figures = calibrate(out, budget.validation)
    if budget.domain:
        stage(f"domain: {budget.domain} scenes")
        figures |= fit_domain(out, budget.domain, budget.validation)
    stage("done")
    return figures


def _train_models(
    budget: Budget,
    work: Path,
    pool: Pool,
    damaged: Damaged,
    words: tuple[Path, Tokenizer],
    device: torch.device,
    stage: Callable[[str], None],
    attention: Attention,
) -> Models:
    """The indicators and both stages, on the CPU. `words`: the tokenizer with its file."""
    tokenizer = words[1]
    stage(f"autoencoder: {budget.vae} + {budget.decoder} steps")
    vae = train_vae(pool, work, budget.vae, device)
    stage(f"CLIP: {budget.clip} steps")
    clip = train_clip(pool, tokenizer, work, budget.clip, device)
    stage(f"T_p: {budget.t_p_epochs} epochs")
    clip.attention = attention
    t_p, alpha = learn_t_p(clip, pool, damaged, tokenizer, work / f"t_p-{attention}.pt", budget)
    stage(f"inpainting UNet: {budget.inpaint} steps")
    plans = partial(make_planner, clip, t_p, alpha, tokenizer, work / "indicators", budget.validation)

    def pairs() -> Pairs:
        return open_pairs(pool, plans, work / "pool")

    def latents(count: int | None = None) -> Latents:
        return encode_pairs(pool, pairs(), vae, clip.to(device), device, count)

    inpaint = train_inpaint(pool, latents, tokenizer, clip, work, budget.inpaint, device)
    stage(f"decoder, encoder frozen: {budget.decoder} + {budget.drawn} steps")
    judged = train_decoder(vae, pool, work, budget.decoder, device)

    def drawn() -> Drawn:
        return draw(inpaint, pool, pairs(), latents(COUNT), tokenizer)

    vae = train_on_drawn(judged, drawn, pool, work, budget.drawn, device)
    stage(f"stage 2's autoencoder: {budget.restore_vae} + {budget.decoder} steps")
    restore_vae = train_vae(pool, work, budget.restore_vae, device, STAGE2)
    restore_vae = train_decoder(restore_vae, pool, work, budget.decoder, device, STAGE2).vae
    stage(f"degradation removal: {budget.removal} steps")
    removal = train_removal(pool, work, budget.removal, device)
    stage(f"restoration UNet: {budget.restore} steps")
    both = (vae, restore_vae)
    restore = train_restore(pool, both, removal, clip, tokenizer, work, budget.restore, device)
    return Models(
        clip=clip.cpu(),
        t_p=t_p,
        alpha=alpha,
        vae=vae.cpu(),
        inpaint=inpaint.cpu(),
        restore_vae=restore_vae.cpu(),
        restore=restore.cpu(),
        tokenizer_file=words[0],
    )


def _write_graphs(models: Models, ip_iqa: IpIqa, tokenizer: Tokenizer, out: Path) -> dict[str, float]:
    """The bundle before calibration; gives each graph's error."""
    _, errors = write_bundle(models, out)
    _, more = add_to_bundle(
        ip_iqa.cpu(),
        out,
        SIZE,
        tokenizer,
        length=sizes.CLIP_LENGTH,
        origin=ORIGIN,
        license_name="Apache-2.0",
        as_written=False,
    )
    components = out / "components"
    texts = [components / name for name in ("clip_text.onnx", "ip_iqa_text.onnx")]
    share_weights(texts, components / "texts.data")  # IP-IQA reads prompts with CLIP's weights
    add_costs(out)
    return errors | more
