"""Options that `refine` and `assess` share."""

from pathlib import Path
from typing import Annotated, Literal

import typer

READINGS = "Readings of the paper (default: the bundle's own)"
ABLATIONS = "Ablations"
STRENGTH = "Strength and steps (default: the bundle's own)"

Image = Annotated[
    Path,
    typer.Argument(
        metavar="IMAGE",
        help="The picture: PNG, JPEG, WebP, TIFF, ...; - is standard input.",
        show_default=False,
    ),
]
Images = Annotated[
    list[Path],
    typer.Argument(
        metavar="IMAGE...",
        help="Pictures: PNG, JPEG, WebP, TIFF, ...; - is standard input.",
        show_default=False,
    ),
]
Prompt = Annotated[
    str | None,
    typer.Option(
        "--prompt",
        "-p",
        help="What the picture should show; weights as in (red house:1.2) are understood. "
        "Default: the text of IMAGE's namesake that ends in .txt, else what its generator wrote into IMAGE.",
        show_default=False,
    ),
]
Negative = Annotated[
    str | None,
    typer.Option(
        "--negative",
        "-n",
        help="What it should not show. Default: what is found where the prompt is.",
        show_default=False,
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite", "--force", help="Replace files. Without it only the same run writes its own anew."
    ),
]
Bundle = Annotated[str, typer.Option(help="The models: a name, see 'bundle list', or a folder.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, tensorrt or rtx; also cuda:N for GPU N.")]
Threads = Annotated[
    int | None, typer.Option(min=1, help="CPU threads. Default: all cores.", show_default=False)
]
CudaGraphs = Annotated[
    bool,
    typer.Option("--cuda-graphs", help="With the device cuda: run denoising steps as CUDA graphs."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Report = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.html", help="Write a report: one HTML file with pictures and maps.", show_default=False
    ),
]
Maps = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Write the maps: PNG files to look at, and their values as one NPZ file.",
        show_default=False,
    ),
]

Only = Annotated[
    Literal["perceptual", "alignment"] | None,
    typer.Option(help="Let one indicator alone decide.", rich_help_panel=ABLATIONS, show_default=False),
]
Tau = Annotated[
    str | None,
    typer.Option(
        metavar="0..2|otsu",
        help="Threshold of the defect map: what lies above is redrawn.",
        rich_help_panel=READINGS,
        show_default=False,
    ),
]
Scoring = Annotated[
    Literal["calibrated", "published"] | None,
    typer.Option(
        help="Perceptual scores: ours, or the authors' script.", rich_help_panel=READINGS, show_default=False
    ),
]
Factors = Annotated[
    Literal["overall", "product"] | None,
    typer.Option(
        help="p: Eq. 3, or the overall pair alone as the authors' script by default.",
        rich_help_panel=READINGS,
        show_default=False,
    ),
]
Bounds = Annotated[
    Literal["own", "first"] | None,
    typer.Option(
        help="Eq. 3: each factor has its own alpha, or all the first, as in the script.",
        rich_help_panel=READINGS,
        show_default=False,
    ),
]
Upsampling = Annotated[
    Literal["bicubic", "bilinear"] | None,
    typer.Option(
        help="Of the perceptual map: the paper's, or the script's.",
        rich_help_panel=READINGS,
        show_default=False,
    ),
]
AdjectiveRule = Annotated[
    Literal["penalised", "printed"],
    typer.Option(help="When an adjective is missed.", rich_help_panel=READINGS),
]
AlignmentScore = Annotated[
    Literal["phrases", "reward"],
    typer.Option(
        help="What the alignment score is: Eq. 8, or the bundle's ImageReward.", rich_help_panel=READINGS
    ),
]
Joining = Annotated[
    Literal["union", "product"] | None,
    typer.Option(
        help="Eq. 6: how the regions of phrases join.", rich_help_panel=READINGS, show_default=False
    ),
]
MissingRegion = Annotated[
    Literal["ancestor", "printed", "free"] | None,
    typer.Option(help="Where a missing thing is drawn.", rich_help_panel=READINGS, show_default=False),
]
