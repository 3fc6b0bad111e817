"""Parameters that commands share, beside the options of the method (`cli/method.py`)."""

from pathlib import Path
from typing import Annotated

import typer

Image = Annotated[
    Path, typer.Argument(metavar="IMAGE", help="The picture: PNG, JPEG, WebP, TIFF, ...", show_default=False)
]
Prompt = Annotated[
    str | None,
    typer.Option(
        "--prompt",
        "-p",
        help="What the picture should show; weights as in (red house:1.2) are understood. "
        "Default: the text of IMAGE's namesake that ends in .txt.",
        show_default=False,
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
