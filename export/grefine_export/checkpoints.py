"""The tensors of a checkpoint, whatever its file form. No code and no unrestricted pickle is ever executed."""

from __future__ import annotations

import fnmatch
import json
import math
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from grefine_export.hub import fetch, file_names, is_hub_id

WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "open_clip_model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "open_clip_pytorch_model.bin",
    "ImageReward.pt",
)
"""Names of the weights of a model folder, best first: safetensors before pickles."""

COMPANIONS = (
    "config.json",
    "open_clip_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
)
"""Files beside the weights in a model folder: sizes and the tokenizer."""

_FP8 = (torch.float8_e4m3fn, torch.float8_e5m2)
_NESTED = ("state_dict", "model", "params")
_STORAGES = {
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "ByteStorage": torch.uint8,
    "CharStorage": torch.int8,
    "ShortStorage": torch.int16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "BoolStorage": torch.bool,
}


def public_name(checkpoint: str) -> str:
    """A checkpoint's name in a manifest: its hub id, or the last part alone of a path here, for the folder is nobody
    else's business."""
    path = Path(checkpoint).expanduser()
    return path.absolute().name if path.exists() else checkpoint


def locate(checkpoint: str) -> Path:
    """The file or folder that `checkpoint` names; a hub id ("openai/clip-vit-base-patch16") that is no path here is
    fetched into huggingface_hub's cache: the best of its files of weights, and the files beside them.

    Raises FileNotFoundError (one sentence) when it is neither here nor to be had from the hub, ConnectionError when a
    download stops, ValueError when the model there has no file of weights or a file is damaged.
    """
    if not is_hub_id(checkpoint):
        return Path(checkpoint).expanduser()
    names = file_names(checkpoint)
    weights = next((name for name in WEIGHT_FILES if name in names), None)
    if weights is None:
        raise ValueError(f"the model '{checkpoint}' has no file of weights: one of {', '.join(WEIGHT_FILES)}")
    parts = re.sub(r"\.(safetensors|bin)\.index\.json$", r"-*.\1", weights)
    wanted = {weights, *COMPANIONS, *fnmatch.filter(names, parts)}
    return fetch(checkpoint, None, sorted(wanted & {*names}))


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object, such as a model's configuration; nothing where there is no such file. Raises ValueError."""
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"'{file}' is no JSON ({error}): fetch it again") from error
    if not isinstance(content, dict):
        raise ValueError(f"'{file}' holds no JSON object: fetch it again")
    return content


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Name -> tensor, on the CPU and of the type it is stored in.

    `path` is a safetensors file; a folder of transformers or open_clip, with one file of weights or an index of
    several; a state dict of PyTorch (.pt, .pth, .bin), plain or under `state_dict`, `model` or `params`, read with
    `weights_only`; or a TorchScript archive such as OpenAI's CLIP files, whose code is not looked at. Other values
    than tensors are left out, and so is the prefix `module.` of parallel training.

    Raises FileNotFoundError when there is nothing at `path`, ValueError (one sentence) for anything else.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no checkpoint '{path}': give a file of weights or a model's folder"
        )
    with path.open("rb") as file:
        start = file.read(9)
    if start[8:] == b"{":
        return _scaled(_read_safetensors(path))
    if zipfile.is_zipfile(path) and (root := _torchscript_root(path)):
        return _read_torchscript(path, root)
    return _read_state_dict(path)


def _read_folder(folder: Path) -> dict[str, Tensor]:
    found = next((folder / name for name in WEIGHT_FILES if (folder / name).is_file()), None)
    if found is None:
        raise ValueError(f"the folder '{folder}' has no file of weights: one of {', '.join(WEIGHT_FILES)}")
    if found.suffix != ".json":
        return read_tensors(found)
    try:
        names = sorted(set(json.loads(found.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"'{found}' is no index of weight files: fetch the checkpoint again") from error
    tensors: dict[str, Tensor] = {}
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise ValueError(
                f"'{found}' names the file '{name}', which the folder lacks: fetch the model whole"
            )
        tensors |= read_tensors(folder / name)
    return tensors


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, ValueError) as error:
        raise _damaged(path, error) from error


def _scaled(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights that ComfyUI stores in FP8 with a factor beside each (`scale_weight`), in float32 with their factors in
    them; `scale_input` is of its FP8 products alone. Names of the factors are gone."""
    if not any(name.endswith(".scale_weight") for name in tensors) and "scaled_fp8" not in tensors:
        return tensors
    marks = ("scaled_fp8", ".scale_weight", ".scale_input")
    factors = {
        name.removesuffix(".scale_weight"): value
        for name, value in tensors.items()
        if name.endswith(".scale_weight")
    }
    plain = {name: value for name, value in tensors.items() if not name.endswith(marks)}
    for name, value in plain.items():
        factor = factors.get(name.removesuffix(".weight")) if name.endswith(".weight") else None
        if value.dtype in _FP8:
            plain[name] = value.float() if factor is None else value.float() * factor.float()
    return plain


def _read_state_dict(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"'{path}' is no checkpoint that can be read without executing code: convert it to safetensors"
        ) from error
    except (RuntimeError, ValueError, KeyError, EOFError, OSError) as error:
        raise _damaged(path, error) from error
    if isinstance(content, Mapping) and not _has_tensors(content):
        content = next((content[name] for name in _NESTED if name in content), None)
    if not isinstance(content, Mapping) or not _has_tensors(content):
        raise ValueError(
            f"'{path}' holds no tensors by name: give a state dict, plain or under {', '.join(_NESTED)}"
        )
    tensors = {str(name): value.detach() for name, value in content.items() if isinstance(value, Tensor)}
    if all(name.startswith("module.") for name in tensors):
        return {name.removeprefix("module."): value for name, value in tensors.items()}
    return tensors


def _has_tensors(content: Mapping[Any, Any]) -> bool:
    return any(isinstance(value, Tensor) for value in content.values())


def _damaged(path: Path, error: Exception) -> ValueError:
    reason = " ".join(str(error).split())[:200].rstrip(".:")
    return ValueError(f"'{path}' cannot be read as a checkpoint ({reason}): fetch it again")


# --- TorchScript archives


def _torchscript_root(path: Path) -> str | None:
    """The archive's folder, when the zip file is a TorchScript archive: code and constants beside the data."""
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
    roots = (name.removesuffix("constants.pkl") for name in names if name.endswith("/constants.pkl"))
    return next((root for root in roots if f"{root}data.pkl" in names), None)


def _read_torchscript(path: Path, root: str) -> dict[str, Tensor]:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{root}data.pkl") as file:
            module = _ModuleReader(file, lambda key: archive.read(f"{root}data/{key}")).load()
            tensors = dict(_named_tensors(module, ""))
    except (
        pickle.UnpicklingError,
        zipfile.BadZipFile,
        AttributeError,
        EOFError,
        IndexError,
        KeyError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        raise _damaged(path, error) from error
    if not tensors:
        raise ValueError(f"the TorchScript archive '{path}' holds no tensors: give a model's own archive")
    return tensors


def _named_tensors(module: Any, prefix: str) -> Iterator[tuple[str, Tensor]]:
    for name, value in vars(module).items():
        if isinstance(value, Tensor):
            yield f"{prefix}{name}", value
        elif type(value) is type(module):
            yield from _named_tensors(value, f"{prefix}{name}.")


class _ModuleReader(pickle.Unpickler):
    """Reads the pickle of a TorchScript archive. Classes of the archive become empty shells that hold attributes;
    beside them it knows tensors and plain containers, and refuses every other name."""

    def __init__(self, file: IO[bytes], read: Callable[[str], bytes]):
        super().__init__(file)
        self._read = read
        self._shell = type("Shell", (), {})
        self._storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "__torch__" or module.startswith("__torch__."):
            return self._shell
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch.jit._pickle":  # tags of typed lists and dictionaries
            return _untagged
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no weights need")

    def persistent_load(self, pid: Any) -> Tensor:
        kind, dtype, key, _, count = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype):
            raise pickle.UnpicklingError("it holds something else than tensors")
        if key not in self._storages:
            data = self._read(key)
            if len(data) != count * dtype.itemsize:
                raise pickle.UnpicklingError("a tensor is cut off")
            self._storages[key] = (
                torch.frombuffer(bytearray(data), dtype=dtype) if count else torch.empty(0, dtype=dtype)
            )
        return self._storages[key]


def _rebuild_tensor(
    storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> Tensor:
    if offset < 0 or any(n < 0 for n in (*size, *stride)):
        raise pickle.UnpicklingError("a tensor's shape is wrong")
    if math.prod(size) and offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True)) >= len(
        storage
    ):
        raise pickle.UnpicklingError("a tensor reaches beyond its data")
    return storage.as_strided(size, stride, offset)


def _untagged(value: Any, *_: Any) -> Any:
    return value
