"""Where bundles are found, how they are proven whole, and how their components are loaded, once each."""

import dataclasses
import hashlib
import json
import os
import re
import threading
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from grefine_rt.bundle.manifest import FILE_NAME, FORMAT, MEND, REINSTALL, FileEntry, Manifest, digest
from grefine_rt.engine.base import Engine
from grefine_rt.engine.devices import Choice
from grefine_rt.engine.selection import Selection
from grefine_rt.errors import BundleError
from grefine_rt.files import whole
from grefine_rt.text.tokenizer import PromptTokenizer

_PACKAGE = Path(__file__).resolve().parent.parent
_ENGINES = "engines"
"""Folder of engines built on this machine; they have sidecars of their own and are not in the manifest."""

_STAMP_FROM = 64 * 2**20
"""From this size in bytes on, a file proven whole is remembered by size and time, not hashed again."""


def cache_dir() -> Path:
    """Folder for fetched bundles and notes: $GREFINE_CACHE, else grefine-rt in the user's cache folder."""
    if chosen := os.environ.get("GREFINE_CACHE"):
        return Path(chosen)
    if os.name == "nt" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local) / "grefine-rt"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "grefine-rt"


def bundle_dir(name: str) -> Path:
    """Where a fetched bundle of this name (or hub id) lies in the cache."""
    return cache_dir() / "bundles" / name.replace("/", "--")


def list_bundles() -> dict[str, Path]:
    """Names and folders of the bundles at hand: embedded ones first, then fetched ones."""
    found: dict[str, Path] = {}
    for root in (*_embedded_roots(), cache_dir() / "bundles"):
        if root.is_dir():
            for folder in sorted(root.iterdir()):
                if (folder / FILE_NAME).is_file():
                    found.setdefault(folder.name.replace("--", "/"), folder)
    return found


def find(name_or_path: str | Path) -> Path:
    """The folder of a bundle, given its name (such as "mini"), its folder, or the hub id it was fetched by.

    Raises BundleError, naming the command that fetches it, when there is none.
    """
    known = list_bundles()
    if isinstance(name_or_path, str) and name_or_path in known:
        return known[name_or_path]
    folder = Path(name_or_path).expanduser()
    if (folder / FILE_NAME).is_file():
        return folder
    if folder.is_dir():
        raise BundleError(
            f"Folder '{folder}' is no bundle, for it has no bundle.json: give a folder that has one."
        )
    if re.fullmatch(r"[\w.-]+(/[\w.-]+)?", str(name_or_path)):
        address = name_or_path if "/" in str(name_or_path) else "ADDRESS"
        raise BundleError(
            f"No bundle '{name_or_path}' is here (there is: {', '.join(known) or 'none'}): run 'grefine-rt bundle "
            f"fetch {address}', or give a bundle's folder."
        )
    raise BundleError(f"No bundle folder '{folder}' exists: see 'grefine-rt bundle list' for those that do.")


def read_manifest(folder: Path) -> Manifest:
    """What the bundle in `folder` says of itself; no other file is looked at. Raises BundleError."""
    return Manifest.from_json(_read(folder))


def verify(folder: Path) -> Manifest:
    """The manifest of a bundle whose files are exactly those listed, by size and SHA-256; `engines/` is left
    out.

    Raises BundleError for the first file that is missing, changed or not listed, and for a bad `bundle.json`.
    """
    text = _read(folder)
    manifest = Manifest.from_json(text)
    for path in manifest.files:
        _check_size(folder, manifest, path)
    extra = sorted(set(files_in(folder)) - manifest.files.keys())
    if extra:
        raise BundleError(
            f"Bundle '{manifest.name}' has the file '{extra[0]}', which its bundle.json does not list: "
            f"delete it, or {mend(folder)}."
        )
    for path in manifest.files:
        _check_hash(folder, manifest, path)
    if manifest.checksum not in (None, digest(text)):
        raise BundleError(
            f"bundle.json of bundle '{manifest.name}' was changed after it was written, its SHA-256 differs: "
            f"{mend(folder)}."
        )
    return manifest


def write(folder: Path, manifest: Mapping[str, Any] | Manifest) -> Manifest:
    """Make a bundle of a folder whose files are in place: list them, check all, and write `bundle.json`
    whole.

    manifest: a Manifest, or what its JSON holds; `format`, `files` and `checksum` are filled in. External data of a
    graph `components/NAME.onnx` must have a name that begins with `NAME.onnx.` or `NAME.onnx_`. Raises BundleError
    when something does not fit.
    """
    data = dataclasses.asdict(manifest) if isinstance(manifest, Manifest) else dict(manifest)
    data |= {"format": FORMAT, "checksum": None}
    data["files"] = {
        path: dataclasses.asdict(FileEntry((folder / path).stat().st_size, sha256(folder / path)))
        for path in sorted(files_in(folder))
    }
    result = Manifest.from_json(json.dumps(data))
    result = dataclasses.replace(result, checksum=digest(result.to_json()))
    with whole(folder / FILE_NAME) as temporary:
        temporary.write_text(result.to_json(), encoding="utf-8")
    return result


class Bundle:
    """An opened bundle. Components load on first use, once each; any number of threads may ask at once."""

    def __init__(self, folder: Path, manifest: Manifest, selection: Selection) -> None:
        """selection: what opens its graphs. `open` does all of it."""
        self.folder = folder
        self.manifest = manifest
        self._selection = selection
        self._engines: dict[str, Engine] = {}
        self._choices: dict[str, Choice] = {}
        self._tokenizers: dict[str, list[PromptTokenizer]] = {}
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._guard = threading.Lock()

    @classmethod
    def open(
        cls,
        name_or_path: str | Path,
        device: str = "auto",
        threads: int | None = None,
        cuda_graphs: bool = False,
    ) -> "Bundle":
        """Open a bundle: find it, read its manifest, and see that every file is there with its size.

        device: "auto", "cpu", "cuda" for ONNX Runtime CUDA, "tensorrt" for built engines alone, or "rtx" for ONNX
        Runtime's TensorRT-RTX plugin, the last three perhaps with ":N". threads: CPU threads of a run; None for
        all cores. cuda_graphs: with "cuda", denoising steps run as CUDA graphs. Contents are checked when a component
        is loaded. Raises BundleError, DeviceError, and OptionError for CUDA graphs with another device.
        """
        folder = find(name_or_path)
        manifest = read_manifest(folder)
        for path in manifest.files:
            _check_size(folder, manifest, path)
        chosen = Selection(folder, manifest, device, threads, str(name_or_path), cuda_graphs)
        return cls(folder, manifest, chosen)

    def has(self, component: str) -> bool:
        """Whether the bundle has this component."""
        return component in self.manifest.components

    def engine(self, component: str) -> Engine:
        """The engine of a component; components that share a file share the engine.

        Raises BundleError when the bundle lacks it or a byte of its files was changed, and DeviceError.
        """
        if not self.has(component):
            raise BundleError(
                f"Bundle '{self.manifest.name}' has no component '{component}': use a bundle that has, "
                f"see 'grefine-rt bundle show'."
            )
        path = self.manifest.components[component]
        with self._lock(path):
            if path not in self._engines:
                for part in self.manifest.files_of(component):
                    _check_before_use(self.folder, self.manifest, part)
                self._engines[path], self._choices[path] = self._selection.open(path)
            return self._engines[path]

    @property
    def choices(self) -> tuple[Choice, ...]:
        """What runs each component that was loaded so far, and why."""
        chosen = dict(self._choices)
        return tuple(
            dataclasses.replace(chosen[file], component=component)
            for component, file in self.manifest.components.items()
            if file in chosen
        )

    def foresee(self, components: Collection[str] | None = None) -> tuple[Choice, ...]:
        """What would run these components, or all, if what is installed works; nothing is loaded. Raises
        DeviceError."""
        return tuple(
            dataclasses.replace(self._selection.foresee(file), component=component)
            for component, file in self.manifest.components.items()
            if components is None or component in components
        )

    def tokenizer(self, component: str) -> list[PromptTokenizer]:
        """The tokenizers of a text component, in the manifest's order. Raises BundleError."""
        specs = self.manifest.tokenizers.get(component, ())
        if not specs:
            raise BundleError(
                f"Bundle '{self.manifest.name}' has no tokenizer for '{component}': {mend(self.folder)}."
            )
        with self._lock(f"tokenizer {component}"):
            if component not in self._tokenizers:
                for spec in specs:
                    _check_before_use(self.folder, self.manifest, spec.file)
                self._tokenizers[component] = [
                    PromptTokenizer.from_file(self.folder / spec.file, spec.length, spec.cleaning == "clip")
                    for spec in specs
                ]
            return self._tokenizers[component]

    def _lock(self, key: str) -> threading.Lock:
        # One lock a file: components can load side by side, and none twice.
        with self._guard:
            return self._locks[key]


def _embedded_roots() -> tuple[Path, ...]:
    """Bundles packed into the wheel, and those of a source checkout (runtime/grefine_rt next to engines/)."""
    return _PACKAGE / "bundles", _PACKAGE.parent.parent / "engines"


def mend(folder: Path) -> str:
    """What to run when something is wrong with the bundle in `folder`."""
    embedded = folder.resolve().parent in [root.resolve() for root in _embedded_roots()]
    return f"run '{REINSTALL}' to get it again" if embedded else MEND


def _read(folder: Path) -> str:
    path = folder / FILE_NAME
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(
            f"'{path}' cannot be read ({type(error).__name__}): see who may read it, or {mend(folder)}."
        ) from error


def files_in(folder: Path) -> Iterator[str]:
    """Every file of a bundle but bundle.json and what lies under engines/, as relative paths with slashes."""
    for path in folder.rglob("*"):
        relative = path.relative_to(folder)
        if not path.is_dir() and relative.parts[0] != _ENGINES and relative.parts != (FILE_NAME,):
            yield relative.as_posix()


def _check_size(folder: Path, manifest: Manifest, path: str) -> None:
    try:
        size = (folder / path).stat().st_size
    except OSError as error:
        raise BundleError(f"Bundle '{manifest.name}' lacks its file '{path}': {mend(folder)}.") from error
    if size != manifest.files[path].size:
        raise BundleError(
            f"Bundle '{manifest.name}': file '{path}' has {size} bytes instead of "
            f"{manifest.files[path].size}: {mend(folder)}."
        )


def _check_hash(folder: Path, manifest: Manifest, path: str) -> None:
    """Raise BundleError unless the file has its SHA-256."""
    if sha256(folder / path) != manifest.files[path].sha256:
        raise _changed(folder, manifest, path)


def _check_before_use(folder: Path, manifest: Manifest, path: str) -> None:
    """As `_check_hash`, by size and `proven`."""
    _check_size(folder, manifest, path)
    if not proven(folder / path, manifest.files[path].sha256):
        raise _changed(folder, manifest, path)


def _changed(folder: Path, manifest: Manifest, path: str) -> BundleError:
    return BundleError(
        f"Bundle '{manifest.name}': file '{path}' was changed, its SHA-256 differs from bundle.json: {mend(folder)}."
    )


def proven(path: Path, wanted: str) -> bool:
    """Whether a file has this SHA-256; a large one proven once is not hashed again while its size and time stay."""
    status = path.stat()
    if status.st_size < _STAMP_FROM:
        return sha256(path) == wanted
    stamp = f"{status.st_size} {status.st_mtime_ns} {wanted}"
    note = cache_dir() / "verified" / hashlib.sha256(str(path.resolve()).encode()).hexdigest()
    with suppress(OSError, UnicodeDecodeError):
        if note.read_text(encoding="utf-8") == stamp:
            return True
    if sha256(path) != wanted:
        return False
    with suppress(OSError):  # a cache that cannot be written only costs time
        note.parent.mkdir(parents=True, exist_ok=True)
        with whole(note) as temporary:
            temporary.write_text(stamp, encoding="utf-8")
    return True


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
