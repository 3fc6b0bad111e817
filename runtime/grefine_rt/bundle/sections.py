"""The sections of `bundle.json`: what a bundle holds, and the constants that belong to its weights."""

from dataclasses import dataclass
from typing import Literal

from grefine_rt.contract import Prediction, Schedule, Solver

Decoding = Literal["plain", "difference", "quality"]
ColorFix = Literal["quality", "whole", "off"]
Redraw = Literal["poor", "misshapen"]


@dataclass(frozen=True)
class Weight:
    """Where the weights of a component come from and what allows their use."""

    component: str
    origin: str
    license: str


@dataclass(frozen=True)
class Perceptual:
    """Perceptual indicator: input side in pixels, token grid side, bounds alpha of technical, rationality and
    naturalness (Eq. 3), and the readings of the paper that the constants were fitted for."""

    resolution: int
    grid: int
    alpha: tuple[float, ...]
    scoring: Literal["calibrated", "published"]
    attention: Literal["vv", "vv-normalised"]


@dataclass(frozen=True)
class Alignment:
    """Alignment indicator: input side in pixels, token grid side, softmax temperature (Eq. 5), the bound
    below which a noun is missing, and beta (Eq. 8)."""

    resolution: int
    grid: int
    temperature: float
    a_bound: float
    beta: float
    encoder: Literal["clip", "blip"]


@dataclass(frozen=True)
class Plan:
    """From maps to a plan: threshold tau of the map, strength range (Eq. 9), readings of the paper; `grow`
    and `feather` in latent cells, `min_area` as a fraction of the image. `p_bound`: a picture whose p is
    higher is good, and its P marks nothing. `redraw`: what P marks for stage 1, see `PlanOptions`."""

    tau: float
    strength_min: float
    strength_max: float
    joining: Literal["union", "product"]
    strength_rule: Literal["deficit", "printed"]
    missing_region: Literal["ancestor", "printed", "free"]
    grow: float
    feather: float
    min_area: float
    p_bound: float
    redraw: Redraw = "poor"


@dataclass(frozen=True)
class Inpaint:
    """Stage 1: trained side in pixels, what sides must be multiples of, how the UNet is to be run, and how many
    drafts are made.

    blended: the UNet takes 4 channels and knows no mask; what lies outside it is put back between steps. rescale: how
    much of the contrast that guidance adds is taken away (Lin et al., 2305.08891, Eq. 14 to 16), in [0, 1]. interval:
    from which to which share of the UNet calls guidance applies; other calls cost one pass. smallest: side in pixels
    down to which the model draws well on a crop; 0 for one that wants whole pictures. tile: side in pixels above which
    the autoencoder works in tiles; 0 for never. sketch_steps: of the sketches by which drafts are chosen; 0 finishes
    every draft. latent_channels: 4 in Stable Diffusion and SDXL, 16 in later models.
    """

    resolution: int
    multiple: int
    steps: int
    solver: Solver
    guidance: float
    drafts: int
    negative: Literal["zeros", "encoded"]
    prediction: Prediction
    schedule: Schedule
    time_ids: bool
    blended: bool = False
    rescale: float = 0.0
    interval: tuple[float, ...] = (0.0, 1.0)
    smallest: int = 0
    tile: int = 0
    sketch_steps: int = 0
    latent_channels: int = 4


@dataclass(frozen=True)
class Restore:
    """Stage 2: as stage 1, with its strength delta, added prompts, decoding and colour fix. `conditioning_scale` is
    already in the graph and stands here for the record. tile: side in pixels above which the UNet works in tiles too.
    """

    resolution: int
    multiple: int
    steps: int
    delta: float
    solver: Solver
    guidance: float
    conditioning_scale: float
    prompt_suffix: str
    negative_prompt: str
    prediction: Prediction
    schedule: Schedule
    decoding: Decoding
    rescale: float = 0.0
    interval: tuple[float, ...] = (0.0, 1.0)
    tile: int = 0
    color_fix: ColorFix = "quality"
    latent_channels: int = 4


@dataclass(frozen=True)
class IpIqa:
    """The separate assessor IP-IQA: input side in pixels, and what the columns of its `scores` are, in the
    units of the opinion scores it was trained on. `positions`: whether its cross-modality pool has a position table of
    its own or reads the attention pool's; it is already in the graphs and stands here for the record."""

    resolution: int
    outputs: tuple[Literal["quality", "alignment"], ...]
    positions: Literal["own", "shared"] = "shared"


@dataclass(frozen=True)
class Reward:
    """The ImageReward scalar, of the pictures and token ids that the alignment indicator takes: as a score in
    [0, 1] it is sigmoid(slope * (reward - centre))."""

    slope: float
    centre: float


@dataclass(frozen=True)
class Cost:
    """What one run of a component costs at batch 1, as polynomials c0 + c1 n + c2 n^2 of its n latent cells (of 64
    pixels; components of fixed size have c0 alone): floating-point operations, two a multiply-add, and bytes of
    activations at their peak, beside the weights."""

    flops: tuple[float, ...]
    memory: tuple[float, ...]


@dataclass(frozen=True)
class TokenizerSpec:
    """A tokenizer file, the graph input its ids go to, and their number.

    cleaning: "clip" for texts that OpenAI's CLIP cleans before it looks words up (`text.cleaning`). prompts: "raw" for
    an assessor that was trained on prompts as people wrote them, brackets too (`text.emphasis.as_written`).
    """

    file: str
    input: str
    length: int
    cleaning: Literal["none", "clip"] = "none"
    prompts: Literal["plain", "raw"] = "plain"


@dataclass(frozen=True)
class FileEntry:
    """Size in bytes and SHA-256 in hexadecimal of a file."""

    size: int
    sha256: str
