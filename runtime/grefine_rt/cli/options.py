"""Parameters that commands share, beside the options of the method (`cli/method.py`)."""

from pathlib import Path
from typing import Annotated, Literal

import typer

_FILES = "Files and masks"

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
        metavar="IMAGE",
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
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Where the result goes; the suffix says the format, - is standard output. Of several pictures a "
        "folder. Default: IMAGE's name with .refined before the suffix.",
        show_default=False,
    ),
]
Format = Annotated[
    Literal["png", "jpeg", "jpg", "webp", "tiff", "avif"] | None,
    typer.Option(
        "--format",
        help="Format of the result. Default: IMAGE's own, PNG where that is none of these.",
        rich_help_panel=_FILES,
    ),
]
Quality = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=100,
        help="Of JPEG, WebP and AVIF. Default: JPEG 95, AVIF 90, WebP without loss.",
        rich_help_panel=_FILES,
        show_default=False,
    ),
]
Provenance = Annotated[
    Literal["keep", "composite"],
    typer.Option(
        help="IPTC's digital source type: as it came, or composite with a model's work.",
        rich_help_panel=_FILES,
    ),
]
MaskFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Redraw what is white in this picture, and change nothing else.",
        rich_help_panel=_FILES,
        show_default=False,
    ),
]
Protect = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Never change what is white in this picture.",
        rich_help_panel=_FILES,
        show_default=False,
    ),
]
SaveMask = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.png",
        help="Write the mask that was used.",
        rich_help_panel=_FILES,
        show_default=False,
    ),
]
Seed = Annotated[int, typer.Option(help="The same seed gives the same picture.")]
