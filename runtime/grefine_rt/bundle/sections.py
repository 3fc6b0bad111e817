"""The sections of `bundle.json`: what a bundle holds, and the constants that belong to its weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from grefine_rt.contract import Prediction, Schedule, Solver
from grefine_rt.readings import ColorFix, Decoding, Joining, MissingRegion, Redraw, Scoring, StrengthRule


@dataclass(frozen=True)
class Weight:
    """The origin of a component's weights, and the licence that allows their use."""

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
    scoring: Scoring
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
    higher is good, and its P marks nothing. `redraw`: what P marks for stage 1, see `PlanOptions`. `tolerance`: by how
    much P of a sound place may fall for a change to be kept, see `accept`."""

    tau: float
    strength_min: float
    strength_max: float
    joining: Joining
    strength_rule: StrengthRule
    missing_region: MissingRegion
    grow: float
    feather: float
    min_area: float
    p_bound: float
    redraw: Redraw = "poor"
    tolerance: float = 0.05


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
class Cost:
    """The cost of one run of a component at batch 1, as polynomials c0 + c1 n + c2 n^2 of its n latent cells (of 64
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
class Metric:
    """One metric beside both indicators: its graphs, tokenizers and settings, all in one entry.

    components: files by component name; they belong to `Manifest.components` too. tokenizers: of its components that
    read texts; one that has none reads ids of the alignment indicator's tokenizer. settings: what the metric's file in
    `assess/scorers` reads; `resolution` among them is the side of its pictures in pixels.
    """

    components: Mapping[str, str]
    tokenizers: Mapping[str, tuple[TokenizerSpec, ...]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PictureDomain:
    """The pictures that a bundle was made for: an .npz `file` with two Gaussians, and the distance up to which a
    picture is inside (`assess.domain`)."""

    file: str
    threshold: float


@dataclass(frozen=True)
class Domain:
    """The pictures and words that a bundle was made for; null or absent is everything.

    `words`: a text file with the words that it knows.
    """

    pictures: PictureDomain | None = None
    words: str | None = None


@dataclass(frozen=True)
class FileEntry:
    """Size in bytes and SHA-256 in hexadecimal of a file."""

    size: int
    sha256: str
