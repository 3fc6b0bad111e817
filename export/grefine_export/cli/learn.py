"""`grefine-export learn`: what the papers learn, on databases of generated pictures and opinions."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    import torch
    from transformers import CLIPTextConfig

    from grefine_export.learn.epochs import Recipe
    from grefine_export.models.clip_resnet_surgery import ResNetClip
    from grefine_rt import Assessor
    from grefine_rt.assess.indicator import Assessment
    from grefine_rt.evaluation.databases import Rated
    from grefine_rt.text.tokenizer import PromptTokenizer

app = typer.Typer(no_args_is_help=True, help="Learn from databases: Image2Prompt, IP-IQA, T_p, constants.")

Dataset = Literal["agiqa-1k", "agiqa-3k", "aigiqa-20k"]
Split = Literal["train", "val", "test"]

DatasetOption = Annotated[Dataset, typer.Option(help="The database, in its published layout.")]
RootOption = Annotated[Path, typer.Option(help="Folder into which the database was unpacked.")]
SplitOption = Annotated[
    Split | None, typer.Option(help="A part of AIGIQA-20K; all parts that are there by default.")
]
ClipOption = Annotated[
    str, typer.Option(help="A CLIP checkpoint in any form that `clip` takes, or its hub id.")
]
TokenizerOption = Annotated[
    Path | None, typer.Option(help="Folder or file of CLIP's tokenizer, where none lies beside --clip.")
]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda or auto.")]
WorkersOption = Annotated[int, typer.Option(min=0, help="Processes that read pictures.")]
FastOption = Annotated[bool, typer.Option(help="Matrix products in bfloat16: about twice as fast.")]


@app.command()
def image2prompt(
    clip: ClipOption,
    root: Annotated[Path, typer.Option(help="Folder into which parts of DiffusionDB were unpacked.")],
    out: Annotated[
        Path, typer.Option(help="Folder of the new checkpoint; a stopped run goes on from its folder `work`.")
    ],
    tokenizer: TokenizerOption = None,
    threshold: Annotated[float, typer.Option(help="CLIP cosine above which a pair is kept.")] = 0.35,
    epochs: Annotated[int, typer.Option(min=1, help="Times that every kept pair is seen.")] = 1,
    batch: Annotated[int, typer.Option(min=2, help="Pictures in a step.")] = 128,
    rate: Annotated[float, typer.Option(help="Learning rate of Adam.")] = 1e-5,
    resolution: Annotated[int, typer.Option(help="Side of the pictures, pixels, a multiple of 32.")] = 224,
    workers: WorkersOption = 4,
    bfloat16: FastOption = False,
    device: DeviceOption = "auto",
) -> None:
    """Train the image side of a CLIP ResNet on generated pictures and their prompts (IP-IQA 3.3).

    The paper gives the threshold and no more; the other defaults are ours. `--out` is a checkpoint for `ip-iqa`.
    """
    with _clear_errors():
        from safetensors.torch import save_file

        from grefine_export.checkpoints import locate, read_tensors
        from grefine_export.learn.epochs import Recipe
        from grefine_export.learn.image2prompt import matching_pairs, pretrain, read_diffusiondb
        from grefine_export.models.clip_resnet import to_openai
        from grefine_export.models.ip_iqa import encoders

        recipe = Recipe(epochs, batch, rate, _side(resolution), workers=workers, bfloat16=bfloat16)
        pairs = read_diffusiondb(root)
        _same_run(out, recipe, clip=clip, pairs=len(pairs), threshold=threshold)
        path = locate(clip)
        model = _resnet(path)
        words = _tokenizer(path, tokenizer, model.text_model.config, out)
        image, text = encoders(model, qa_token=False)
        image.to(where := _device(device))
        text.to(where)
        kept, features = matching_pairs(
            image,
            text,
            words,
            pairs,
            out / "work",
            resolution=resolution,
            workers=workers,
            say=typer.echo,
            threshold=threshold,
        )
        pretrain(image, kept, features, recipe, out / "work", typer.echo)
        tensors = read_tensors(path) | to_openai(image.trunk, image.pool)
        save_file(
            {name: value.clone().contiguous() for name, value in tensors.items()}, out / "model.safetensors"
        )
        config = (path if path.is_dir() else path.parent) / "open_clip_config.json"
        if config.is_file():  # it says which activation the text side has
            shutil.copyfile(config, out / config.name)
    typer.echo(f"checkpoint: {out}")


@app.command("ip-iqa")
def ip_iqa(
    dataset: DatasetOption,
    root: RootOption,
    clip: ClipOption,
    out: Annotated[
        Path, typer.Option(help="Folder of results and weights; a stopped run goes on from here.")
    ],
    image2prompt: Annotated[
        Path | None,
        typer.Option(help="Folder that `learn image2prompt` wrote, to start the image side from."),
    ] = None,
    tokenizer: TokenizerOption = None,
    split: SplitOption = None,
    head: Annotated[
        Literal["mlp", "linear"], typer.Option(help="mlp as in the authors' code, linear as in the paper.")
    ] = "mlp",
    ablation: Annotated[
        bool, typer.Option(help="Evaluate all five rows of IP-IQA's Table 3; needs --image2prompt.")
    ] = False,
    repeats: Annotated[
        int, typer.Option(min=0, help="Random 80/20 splits that are averaged; 0 only trains.")
    ] = 10,
    epochs: Annotated[int, typer.Option(min=1, help="Times that every picture is seen.")] = 100,
    batch: Annotated[int, typer.Option(min=2, help="Pictures in a step.")] = 40,
    rate: Annotated[float, typer.Option(help="Learning rate of Adam, constant.")] = 1e-5,
    resolution: Annotated[
        int, typer.Option(help="Side of the pictures, pixels: 512, or 224 for speed.")
    ] = 512,
    workers: WorkersOption = 4,
    bfloat16: FastOption = False,
    device: DeviceOption = "auto",
) -> None:
    """Train IP-IQA: first the evaluation of the paper, then weights from all pictures, `ip_iqa.safetensors`.

    `grefine-export ip-iqa` puts the weights into a bundle.
    """
    with _clear_errors():
        import copy

        import torch

        from grefine_export.checkpoints import locate
        from grefine_export.learn.epochs import Recipe
        from grefine_export.learn.ip_iqa import PUBLISHED, TABLE_3, Ingredients, cross_validate, fit, table
        from grefine_export.models.ip_iqa import Design, IpIqa, encoders, save
        from grefine_rt.evaluation import databases

        if ablation and image2prompt is None:
            raise ValueError("--ablation compares with and without Image2Prompt: give --image2prompt")
        recipe = Recipe(epochs, batch, rate, _side(resolution), workers=workers, bfloat16=bfloat16)
        rated = _present(databases.read(dataset, root, split))
        _same_run(out, recipe, dataset=dataset, split=split, clip=clip, image2prompt=image2prompt, head=head)
        path = locate(clip)
        clips = {False: _resnet(path), True: _resnet(image2prompt) if image2prompt else None}
        words = _tokenizer(path, tokenizer, clips[False].text_model.config, out)
        outputs = tuple(rated[0].scores)

        def make(chosen: Ingredients) -> IpIqa:
            image, text = encoders(clips[chosen.image2prompt], chosen.qa_token)
            design = Design(outputs, head, chosen.prompt, chosen.qa_token)
            return IpIqa(copy.deepcopy(image), text, design)

        where = _device(device)
        full = TABLE_3[-1] if image2prompt else Ingredients(image2prompt=False)
        if repeats:
            rows = {
                chosen: cross_validate(
                    make, rated, words, chosen, recipe, out / "splits", where, typer.echo, repeats
                )
                for chosen in (TABLE_3 if ablation else (full,))
            }
            text = table(rows, PUBLISHED.get(dataset))
            (out / "table.md").write_text(text, encoding="utf-8")
            typer.echo(f"\n{text}")
        torch.manual_seed(recipe.seed)
        trained = fit(
            make(full),
            rated,
            words,
            recipe,
            out / "all.pt",
            where,
            lambda line: typer.echo(f"all pictures, {line}"),
        )
        weights = save(trained.cpu(), out / "ip_iqa.safetensors", resolution)
    typer.echo(f"weights: {weights}")


@app.command("t-p")
def t_p(
    dataset: DatasetOption,
    root: RootOption,
    clip: ClipOption,
    out: Annotated[
        Path, typer.Option(help="Folder of the contexts, for `clip --contexts`, and of alpha.json.")
    ],
    tokenizer: TokenizerOption = None,
    split: SplitOption = None,
    contexts: Annotated[
        Path | None, typer.Option(help="Folder of contexts to start from, such as the published ones.")
    ] = None,
    class_word: Annotated[
        str, typer.Option(help="Three tokens in the middle of every context.")
    ] = "picture good quality",
    epochs: Annotated[int, typer.Option(min=1, help="Times that every picture is seen.")] = 50,
    resolution: Annotated[
        int | None, typer.Option(help="Side of the pictures, pixels; the checkpoint's own by default.")
    ] = None,
    workers: WorkersOption = 4,
    device: DeviceOption = "auto",
) -> None:
    """Learn T_p (G-Refine 3.1), encoders frozen, and fit alpha to the pictures that people rated best."""
    with _clear_errors():
        import json

        import numpy as np
        import torch

        from grefine_export.checkpoints import locate
        from grefine_export.learn import t_p_database
        from grefine_export.learn.t_p import PromptContexts
        from grefine_export.models.clip_loading import at_size, image_size, load_clip, surgery
        from grefine_export.models.clip_tokenizer import BOS, EOS, read_tokenizer
        from grefine_rt.evaluation import databases

        rated = _present(databases.read(dataset, root, split))
        path = locate(clip)
        model = load_clip(path)
        encoder = surgery(at_size(model, resolution or image_size(model)))
        own = path if path.is_dir() else path.parent
        words = read_tokenizer(tokenizer or own, model.text_model.config.vocab_size)
        opinions = np.array([one.scores["quality"] for one in rated])
        best_first = np.argsort(-opinions, kind="stable")
        opinions = t_p_database.normalised(opinions[best_first])
        torch.manual_seed(0)
        ids = words.encode(class_word, add_special_tokens=False).ids
        learned = PromptContexts(encoder, ids, words.token_to_id(BOS), words.token_to_id(EOS))
        if contexts:
            t_p_database.load_contexts(learned, contexts)
        paths = [rated[row].path for row in best_first]
        tokens, sound = t_p_database.encode(
            encoder, paths, image_size(model), workers, _device(device), typer.echo
        )
        sound = sound[: max(1, int((opinions == 1).sum()))]
        terms, alpha = t_p_database.learn_contexts(learned, tokens, sound, opinions, epochs)
        t_p_database.save_contexts(learned, out)
        (out / "alpha.json").write_text(json.dumps([round(value, 4) for value in alpha]), encoding="utf-8")
    typer.echo(f"last batch: squared error {terms['mse']:.4f}, PLCC {terms['plcc']:.4f}")
    typer.echo(f"alpha: {', '.join(f'{value:.4f}' for value in alpha)}")
    typer.echo(f"contexts: {out}")


@app.command()
def alignment(
    dataset: DatasetOption,
    root: RootOption,
    bundle: Annotated[Path, typer.Option(help="Folder of the bundle whose constants are fitted, in place.")],
    device: Annotated[str, typer.Option(help="cpu, cuda or auto, for ONNX Runtime.")] = "auto",
) -> None:
    """Fit the softmax temperature, beta and a_bound (G-Refine 3.2) to opinions on alignment."""
    with _clear_errors():
        import dataclasses

        from grefine_export.learn.alignment import fit, gather, observe
        from grefine_rt import Assessor
        from grefine_rt.bundle.store import write
        from grefine_rt.evaluation import databases

        rated = _present(databases.read(dataset, root))
        if "alignment" not in rated[0].scores:
            raise ValueError(f"'{dataset}' has no opinions on alignment: give agiqa-3k")
        with Assessor.load(bundle, device) as assessor:
            manifest = assessor.bundle.manifest
            observed, opinions = [], []
            for one, assessment in _assessed(assessor, rated):
                observed.append(observe(assessment, manifest.alignment))
                opinions.append(one.scores["alignment"])
        found = fit(gather(observed, opinions))
        constants = {
            "temperature": round(found.temperature, 4),
            "beta": round(found.beta, 5),
            "a_bound": round(found.a_bound, 5),
        }
        write(
            bundle,
            dataclasses.replace(manifest, alignment=dataclasses.replace(manifest.alignment, **constants)),
        )
    for name, value in dataclasses.asdict(found).items():
        typer.echo(f"{name}: {value:.4f}")


@contextlib.contextmanager
def _clear_errors() -> Iterator[None]:
    """What a user can mend becomes one sentence and exit code 1."""
    from grefine_rt.errors import GRefineError

    try:
        yield
    except (ValueError, OSError, GRefineError) as error:
        # What went wrong in a process that reads pictures comes with its traceback: the sentence is the last line.
        kind = type(error)
        sentence = str(error).rstrip().rpartition("\n")[2]
        sentence = sentence.removeprefix(f"{kind.__module__}.{kind.__qualname__}: ")
        typer.echo(f"error: {sentence}", err=True)
        raise typer.Exit(1) from error


def _device(name: str) -> torch.device:
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError("PyTorch sees no CUDA device here: use --device cpu")
    return torch.device(name)


def _side(resolution: int) -> int:
    if resolution < 32 or resolution % 32:
        raise ValueError(
            f"the side of the pictures must be a multiple of 32, such as 224 or 512, not {resolution}"
        )
    return resolution


def _same_run(out: Path, recipe: Recipe, **settings: object) -> None:
    """Leave in `out` what a run was asked for; a run that is asked for something else must not go on from there."""
    import dataclasses
    import json

    of_machine = ("workers",)
    asked = {name: value for name, value in dataclasses.asdict(recipe).items() if name not in of_machine}
    text = json.dumps({**asked, **settings}, default=str, indent=1)
    file = out / "run.json"
    if file.exists() and file.read_text(encoding="utf-8") != text:
        raise ValueError(f"'{out}' holds a run with other options, see its run.json: give a new folder")
    out.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def _resnet(path: Path) -> ResNetClip:
    from grefine_export.models.clip_loading import load_clip
    from grefine_export.models.clip_resnet_surgery import ResNetClip

    clip = load_clip(path)
    if not isinstance(clip, ResNetClip):
        raise ValueError(
            f"'{path}' is a CLIP with a vision transformer, but IP-IQA needs a ResNet: give RN50"
        )
    return clip


def _tokenizer(path: Path, given: Path | None, text: CLIPTextConfig, out: Path) -> PromptTokenizer:
    """CLIP's tokenizer, which is left in `out` for the bundle."""
    from grefine_export.models.clip_tokenizer import read_tokenizer
    from grefine_rt.text.tokenizer import PromptTokenizer

    words = read_tokenizer(given or (path if path.is_dir() else path.parent), text.vocab_size)
    out.mkdir(parents=True, exist_ok=True)
    words.save(str(out / "tokenizer.json"))
    return PromptTokenizer.from_file(out / "tokenizer.json", text.max_position_embeddings)


def _present(rated: Sequence[Rated]) -> list[Rated]:
    """Those whose pictures are there."""
    there = [one for one in rated if one.path.is_file()]
    if not there:
        raise ValueError("none of the database's pictures is there: unpack them below its folder")
    if len(there) < len(rated):
        typer.echo(f"{len(rated) - len(there)} of {len(rated)} pictures are not there", err=True)
    return there


def _assessed(assessor: Assessor, rated: Sequence[Rated]) -> Iterator[tuple[Rated, Assessment]]:
    """Assessments of the readable pictures that have a prompt."""
    from grefine_rt.errors import ImageError
    from grefine_rt.imaging.image import load
    from grefine_rt.text.emphasis import plain_text

    unreadable = 0
    for start in range(0, len(rated), 8):
        batch, pictures = [], []
        for one in rated[start : start + 8]:
            try:
                if plain_text(one.prompt).strip():
                    pictures.append(load(one.path).rgb)
                    batch.append(one)
            except ImageError:
                unreadable += 1
        yield from zip(batch, assessor.assess_batch(pictures, [one.prompt for one in batch]), strict=True)
        if start % 400 == 0:
            typer.echo(f"{start + len(batch)} of {len(rated)} pictures assessed", err=True)
    if unreadable:
        typer.echo(f"{unreadable} pictures could not be read", err=True)
