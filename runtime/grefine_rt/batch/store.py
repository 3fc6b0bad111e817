"""Paths in object stores, with as much of `pathlib.Path` as a batch asks of a path.

`s3://`, `gs://` and `abfs://` are read by pyarrow itself, other schemes by fsspec where it knows them. In a store an
object appears whole or not at all, so nothing is renamed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import IO, Any, Union

from grefine_rt.errors import HERE, OptionError, OutputError
from grefine_rt.files import write_whole as write_file

Location = Union[Path, "StorePath"]
_NATIVE = ("s3", "gs", "gcs", "abfs", "abfss")
_REFUSED = (
    *("ACCESS_DENIED", "Access Denied", "Forbidden", "403", "InvalidAccessKeyId", "INVALID_ACCESS_KEY_ID"),
    *("SignatureDoesNotMatch", "SIGNATURE_DOES_NOT_MATCH", "credentials", "UNAUTHENTICATED", "TOKEN"),
)


def location(text: str | os.PathLike[str]) -> Location:
    """A path on this machine's disks, or in an object store where the text begins with a scheme such as `s3://`.

    Raises OptionError for a scheme that nothing here can read.
    """
    scheme, found, rest = os.fspath(text).partition("://")
    if not found:
        return Path(text)
    if scheme == "file":
        return Path("/" + rest.lstrip("/"))
    key, _, query = rest.partition("?")
    path = StorePath(scheme.lower(), str(PurePosixPath(key)) if key else "", query)
    _file_system(path.scheme, path.query)
    return path


def write_whole(path: Location, data: bytes) -> None:
    """Write a file so that it appears whole or not at all. Raises OutputError."""
    if isinstance(path, Path):
        write_file(path, data)
        return
    try:
        with path.file_system.open_output_stream(path.key) as stream:
            stream.write(data)
    except OSError as error:
        raise OutputError(f'"{path}" cannot be written: {reason_of(error)}.') from None


def reason_of(error: Exception) -> str:
    """The reason of a store's failure, in words."""
    text = " ".join(str(getattr(error, "strerror", None) or error).split()).rstrip(".")
    if any(word in text for word in _REFUSED):
        return (
            "the store refuses these credentials, or none are set; give every machine of the run its own, for s3 "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or a profile"
        )
    return text[:300] or type(error).__name__


@dataclass(frozen=True, order=True)
class StorePath:
    """An object, or the folder of all objects that begin with its name and a slash. key: with the bucket in front.
    query: settings of the store, as pyarrow takes them in a URI, such as `endpoint_override=host:9000&scheme=http`."""

    scheme: str
    key: str
    query: str = ""

    def __str__(self) -> str:
        return f"{self.scheme}://{self.key}"

    def __truediv__(self, name: str | PurePosixPath) -> StorePath | Any:
        if "://" in str(name):
            return location(str(name))
        return StorePath(self.scheme, str(PurePosixPath(self.key) / name), self.query)

    @property
    def file_system(self) -> Any:
        """The file system with which pyarrow opens the store."""
        return _file_system(self.scheme, self.query)

    @property
    def name(self) -> str:
        return PurePosixPath(self.key).name

    @property
    def stem(self) -> str:
        return PurePosixPath(self.key).stem

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.key).suffix

    @property
    def parent(self) -> StorePath:
        return StorePath(self.scheme, str(PurePosixPath(self.key).parent), self.query)

    def with_suffix(self, suffix: str) -> StorePath:
        return StorePath(self.scheme, str(PurePosixPath(self.key).with_suffix(suffix)), self.query)

    def resolve(self) -> StorePath:
        return self

    def is_dir(self) -> bool:
        return bool(self._kind() == "Directory")

    def is_file(self) -> bool:
        return bool(self._kind() == "File")

    def exists(self) -> bool:
        return bool(self._kind() != "NotFound")

    def stat(self) -> Any:
        """With `st_size` alone. Raises FileNotFoundError."""
        info = self.file_system.get_file_info(self.key)
        if info.type.name == "NotFound":
            raise FileNotFoundError(2, "No such object", str(self))
        return SimpleNamespace(st_size=info.size)

    def open(self, mode: str = "r", **text: Any) -> IO[Any]:
        """To read, as `Path.open`; a text file in whole. Raises OSError."""
        if mode != "rb":
            import io

            return io.TextIOWrapper(io.BytesIO(self.read_bytes()), **text)
        file: IO[Any] = self.file_system.open_input_file(self.key)
        return file

    def read_bytes(self) -> bytes:
        with self.file_system.open_input_stream(self.key) as stream:
            return bytes(stream.read())

    def read_text(self, encoding: str) -> str:
        return self.read_bytes().decode(encoding)

    def unlink(self, missing_ok: bool = False) -> None:
        if not missing_ok or self.is_file():
            self.file_system.delete_file(self.key)

    def iterdir(self) -> Iterator[StorePath]:
        for path, _ in self.listing():
            yield path

    def listing(self) -> list[tuple[StorePath, bool]]:
        """The names right below, and whether each is a folder. Nothing for a missing folder."""
        import pyarrow.fs

        found = self.file_system.get_file_info(pyarrow.fs.FileSelector(self.key, allow_not_found=True))
        paths = [(StorePath(self.scheme, info.path, self.query), info.type.name) for info in found]
        return sorted((path, kind == "Directory") for path, kind in paths if path.key != self.key)

    def glob(self, pattern: str) -> Iterator[StorePath]:
        """The paths right below that match `pattern`."""
        return (path for path in self.iterdir() if PurePosixPath(path.name).match(pattern))

    def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
        """A store has no folders."""

    def relative_to(self, root: StorePath) -> PurePosixPath:
        return PurePosixPath(self.key).relative_to(root.key)

    def walk(self) -> Iterator[tuple[StorePath, list[str], list[str]]]:
        """The triples of `os.walk`, folders in their order; folders taken out of the list are not entered."""
        listing = self.listing()
        below = [path.name for path, folder in listing if folder]
        yield self, below, [path.name for path, folder in listing if not folder]
        for name in below:
            yield from (self / name).walk()

    def _kind(self) -> Any:
        try:
            return self.file_system.get_file_info(self.key).type.name
        except OSError as error:
            raise OptionError(f'"{self}" cannot be reached: {reason_of(error)}.') from None


@lru_cache(maxsize=32)
def _file_system(scheme: str, query: str) -> Any:
    try:
        import pyarrow.fs as stores
    except ImportError:
        raise OptionError(
            f"Object stores need pyarrow, which is not installed: run pip install '.[batch]' {HERE}."
        ) from None
    try:
        if scheme == "s3":
            return stores.S3FileSystem(**_s3_settings(query))
        if scheme in _NATIVE:
            return stores.FileSystem.from_uri(f"{scheme}://x{'?' if query else ''}{query}")[0]
        import fsspec

        return stores.PyFileSystem(stores.FSSpecHandler(fsspec.filesystem(scheme)))
    except (ImportError, ValueError, OSError, TypeError) as error:
        raise OptionError(
            f"Paths that begin with {scheme}:// cannot be read here: {reason_of(error)}."
        ) from None


def _s3_settings(query: str) -> dict[str, Any]:
    """The settings of the URI, else of the variables that the tools of AWS read; pyarrow itself does not read the
    endpoint's."""
    from urllib.parse import parse_qsl

    said: dict[str, Any] = dict(parse_qsl(query))
    said |= {name: float(value) for name, value in said.items() if name.endswith("_timeout")}
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint and "endpoint_override" not in said:
        scheme, _, host = endpoint.rpartition("://")
        said |= {"endpoint_override": host.rstrip("/"), **({"scheme": scheme} if scheme else {})}
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region:
        said.setdefault("region", region)
    return {"connect_timeout": 10, "request_timeout": 60, **said}
