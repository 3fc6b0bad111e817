"""Bundles on disk: found, and proven whole."""

import dataclasses
import json
import mmap
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from grefine_rt.bundle.manifest import FILE_NAME, FORMAT, FileEntry, Manifest
from grefine_rt.bundle.strict import MEND, REINSTALL, digest
from grefine_rt.errors import HERE, BundleError, shown
from grefine_rt.files import cache_dir, proven, sha256, written_whole

_PACKAGE = Path(__file__).resolve().parent.parent
ENGINES = "engines"
_LOCATION = b"\x0a\x08location\x12"
"""The key of a StringStringEntryProto, and the tag of its value."""
"""Folder of engines built on this machine; they have sidecars of their own and are not in the manifest."""


def bundle_dir(name: str) -> Path:
    """The folder of a fetched bundle of this name (or hub id) in the cache."""
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


def find_bundle(name_or_path: str | Path) -> Path:
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
    """The manifest of the bundle in `folder`; no other file is looked at. Raises BundleError."""
    return Manifest.from_json(_read(folder))


def verify(folder: Path) -> Manifest:
    """The manifest of a bundle whose files are exactly those listed, by size and SHA-256; `engines/` is left
    out.

    Raises BundleError for the first file that is missing, changed or not listed, and for a bad `bundle.json`.
    """
    text = _read(folder)
    manifest = Manifest.from_json(text)
    for path in manifest.files:
        check_size(folder, manifest, path)
    extra = sorted(set(files_in(folder)) - manifest.files.keys())
    if extra:
        raise BundleError(
            f"Bundle '{manifest.name}' has the file '{extra[0]}', which its bundle.json does not list: "
            f"delete it, or {mend(folder)}."
        )
    for path in manifest.files:
        _check_hash(folder, manifest, path)
    for graph in {*manifest.components.values()}:
        check_external_data(folder, manifest, graph)
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
    with written_whole(folder / FILE_NAME) as temporary:
        temporary.write_text(result.to_json(), encoding="utf-8")
    return result


def _embedded_roots() -> tuple[Path, ...]:
    """Bundles packed into the wheel, and those of a source checkout (runtime/grefine_rt next to engines/)."""
    return _PACKAGE / "bundles", _PACKAGE.parent.parent / "engines"


def mend(folder: Path) -> str:
    """The command that mends the bundle in `folder`, as part of a sentence."""
    embedded = folder.resolve().parent in [root.resolve() for root in _embedded_roots()]
    return f"run '{REINSTALL}' {HERE} to get it again" if embedded else MEND


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
        if not path.is_dir() and relative.parts[0] != ENGINES and relative.parts != (FILE_NAME,):
            yield relative.as_posix()


def check_size(folder: Path, manifest: Manifest, path: str) -> None:
    """Raise BundleError unless the file is there with its size."""
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


def external_data(graph: Path) -> set[str]:
    """Names of the files in which an ONNX graph says that weights of it are, relative to its folder.

    They are found by their key as protobuf writes it, not by reading the graph.
    """
    with graph.open("rb") as file:
        if not graph.stat().st_size:
            return set()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            found, place = set(), -1
            while (place := data.find(_LOCATION, place + 1)) >= 0:
                begin = place + len(_LOCATION)
                size, shift = 0, 0
                for byte in data[begin : begin + 5]:
                    begin, size, shift = begin + 1, size | (byte & 127) << shift, shift + 7
                    if byte < 128:
                        break
                found.add(data[begin : begin + min(size, 4096)].decode("utf-8", "replace"))
            return found


def check_external_data(folder: Path, manifest: Manifest, graph: str) -> None:
    """Raise BundleError when a graph reads weights from a file that the manifest does not list."""
    for name in external_data(folder / graph):
        path = (PurePosixPath(graph).parent / name).as_posix()
        if path not in manifest.files:
            raise BundleError(
                f"Bundle '{manifest.name}': graph '{graph}' reads {shown(name)}, which bundle.json does not list: "
                f"{mend(folder)}."
            )


def check_before_use(folder: Path, manifest: Manifest, path: str) -> None:
    """As `_check_hash`, by size and `proven`."""
    check_size(folder, manifest, path)
    if not proven(folder / path, manifest.files[path].sha256):
        raise _changed(folder, manifest, path)


def _changed(folder: Path, manifest: Manifest, path: str) -> BundleError:
    return BundleError(
        f"Bundle '{manifest.name}': file '{path}' was changed, its SHA-256 differs from bundle.json: {mend(folder)}."
    )
