"""Fetching a bundle over HTTPS: every file proven by its SHA-256, a broken transfer continued."""

import os
import re
import shutil
import urllib.request
from collections.abc import Callable
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO, cast
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import Request

from grefine_rt.bundle.manifest import FILE_NAME, FileEntry, Manifest
from grefine_rt.bundle.store import ENGINES, bundle_dir, files_in, verify
from grefine_rt.bundle.strict import REINSTALL
from grefine_rt.errors import HERE, BundleError, OutputError, shown
from grefine_rt.files import locked, sha256, written_whole

OnBytes = Callable[[int, int], None]
"""Called with (bytes at hand, bytes of the whole bundle)."""

_TIMEOUT = 30.0
"""Seconds without a byte after which a connection is given up."""
_CHUNK = 2**20
_MANIFEST_LIMIT = 16 * 2**20
_LOCAL = ("localhost", "127.0.0.1", "::1")


def fetch(source: str, on_bytes: OnBytes | None = None) -> tuple[Path, Manifest]:
    """Download a bundle into the cache, or mend the one that is there; returns its folder and manifest.

    source: the https address of a folder that holds `bundle.json`, or a hub id `owner/name`, which stands for
        `https://huggingface.co/owner/name/resolve/main` (another hub: $HF_ENDPOINT).

    A bundle is made aside and takes its place whole: until then an older one stays as it was. Files of the older one
    that are proven are taken over, what was cut off is continued. Of two fetches at once the second waits. Raises
    BundleError when the address is of no known kind, cannot be reached or serves something else than its `bundle.json`
    says, and OutputError when the cache cannot be written or has no room.
    """
    base = _base_url(source)
    text = _manifest_text(base)
    manifest = Manifest.from_json(text)
    if not re.fullmatch(r"\w[\w.-]{0,200}", manifest.name):
        raise BundleError(
            f"The bundle at '{base}' calls itself {shown(manifest.name)}, which is no usable name."
        )
    folder = bundle_dir(manifest.name if "://" in source else source)
    aside = folder.with_name(f".{folder.name}.fetching")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder.with_name(f".{folder.name}.lock")):
            _recover(folder)
            if not _is_whole(folder, text):
                _fetch_aside(base, text, manifest, folder, aside, on_bytes or (lambda done, total: None))
                _swap(folder, aside)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(
            f"The bundle cannot be written to '{folder}': {reason}; free some space, or choose another cache "
            f"folder with the variable GREFINE_CACHE."
        ) from error
    return folder, manifest


def _is_whole(folder: Path, text: str) -> bool:
    """Whether exactly this bundle is there."""
    try:
        verify(folder)
        return (folder / FILE_NAME).read_text(encoding="utf-8") == text
    except (BundleError, OSError, UnicodeDecodeError):
        return False


def _fetch_aside(
    base: str, text: str, manifest: Manifest, folder: Path, aside: Path, report: OnBytes
) -> None:
    """The whole bundle in `aside`, proven; files of an older one in `folder` are linked, not fetched."""
    aside.mkdir(parents=True, exist_ok=True)
    _clear(aside, manifest)
    for path, entry in manifest.files.items():
        _take_over(folder / path, aside / path, entry)
    _check_room(aside, manifest)
    total, done = sum(entry.size for entry in manifest.files.values()), 0
    for path, entry in manifest.files.items():
        _fetch_file(f"{base}/{quote(path)}", aside / path, entry, done, total, report)
        done += entry.size
        report(done, total)
    with written_whole(aside / FILE_NAME) as temporary:
        temporary.write_text(text, encoding="utf-8")
    verify(aside)


def _take_over(old: Path, new: Path, entry: FileEntry) -> None:
    """A file of the bundle that is there, where it is the one that is wanted."""
    if _is_file(new, entry) or not _is_file(old, entry):
        return
    new.parent.mkdir(parents=True, exist_ok=True)
    new.unlink(missing_ok=True)
    try:
        os.link(old, new)
    except OSError:  # a file system without links
        shutil.copyfile(old, new)


def _check_room(aside: Path, manifest: Manifest) -> None:
    """Raise OutputError where the declared sizes do not fit, before the first byte is fetched."""
    missing = 0
    for path, entry in manifest.files.items():
        file, partial = aside / path, aside / f"{path}.part"
        if not file.is_file():
            missing += entry.size - (min(partial.stat().st_size, entry.size) if partial.is_file() else 0)
    free = shutil.disk_usage(aside).free
    if missing > free:
        raise OutputError(
            f"The bundle needs {missing / 1e9:.3g} GB more on the disk of '{aside.parent}', which has "
            f"{free / 1e9:.3g} GB left: free some space, or choose another cache folder with the variable "
            f"GREFINE_CACHE."
        )


def _swap(folder: Path, aside: Path) -> None:
    """`aside` takes the place of `folder`; engines that were built here move along."""
    old = folder.with_name(f".{folder.name}.old")
    if folder.exists():
        folder.rename(old)
    aside.rename(folder)
    if (old / ENGINES).is_dir() and not (folder / ENGINES).exists():
        (old / ENGINES).rename(folder / ENGINES)
    shutil.rmtree(old, ignore_errors=True)


def _recover(folder: Path) -> None:
    """After a run that was killed in the midst of `_swap`: the older bundle is there again."""
    old = folder.with_name(f".{folder.name}.old")
    if old.is_dir() and not folder.exists():
        old.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _base_url(source: str) -> str:
    """The address of the bundle's folder, without a slash at its end."""
    if "://" in source:
        url = source.split("?")[0].rstrip("/").removesuffix(f"/{FILE_NAME}")
        if not _well_formed(url):
            raise BundleError(f"{shown(source)} is no address: give one such as https://example.org/bundle.")
        if not _trusted(url):
            raise BundleError(f"{shown(source)} is no https address: bundles are only fetched over https.")
        return url
    if re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", source):
        hub = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
        if not (_well_formed(hub) and _trusted(hub)):
            raise BundleError(
                f"HF_ENDPOINT is {shown(hub)}, which is no https address: correct it, or unset it."
            )
        return f"{hub}/{source}/resolve/main"
    raise BundleError(
        f"{shown(source)} is no address to fetch a bundle from: give the https address of its folder, or a hub id "
        f"of the form owner/name; a bundle that came with grefine-rt returns with '{REINSTALL}' {HERE}."
    )


def _well_formed(url: str) -> bool:
    """Whether an address can be asked for: plain ASCII, a host, a port that is a number."""
    if not re.fullmatch(r"[!-~]{1,2000}", url):
        return False
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _trusted(url: str) -> bool:
    if not _well_formed(url):
        return False
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOCAL)


def _manifest_text(base: str) -> str:
    try:
        with _open(f"{base}/{FILE_NAME}") as response:
            return response.read(_MANIFEST_LIMIT).decode("utf-8")
    except HTTPError as error:
        raise BundleError(
            f"There is no bundle at '{base}' (the server answered {error.code} for its {FILE_NAME}): check "
            f"the name or address."
        ) from error
    except UnicodeDecodeError as error:
        raise BundleError(f"'{base}/{FILE_NAME}' is not a bundle.json: check the address.") from error
    except _network_errors() as error:
        raise _unreachable(base, error) from error


def _clear(folder: Path, manifest: Manifest) -> None:
    """Take away what is no part of the bundle, and its `bundle.json` until all is proven."""
    (folder / FILE_NAME).unlink(missing_ok=True)
    wanted = {name for path in manifest.files for name in (path, f"{path}.part")}
    for path in list(files_in(folder)):
        if path not in wanted:
            (folder / path).unlink()


def _fetch_file(url: str, path: Path, entry: FileEntry, done: int, total: int, report: OnBytes) -> None:
    """Bring `path` to what `entry` says, continuing `path.part`. `done` of `total` bytes came before it."""
    if _is_file(path, entry):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.part")
    # A part left by another version of the file cannot be told from a good one until it is whole: then all
    # of it is fetched once more.
    continued = partial.is_file() and 0 < partial.stat().st_size <= entry.size
    for begin in (partial.stat().st_size, 0) if continued else (0,):
        _download(url, partial, entry.size, begin, lambda size: report(done + size, total))
        if partial.stat().st_size == entry.size and sha256(partial) == entry.sha256:
            partial.replace(path)
            return
    partial.unlink()
    raise BundleError(
        f"'{url}' is not the file that its bundle.json lists (size or SHA-256 differ): ask its publisher."
    )


def _is_file(path: Path, entry: FileEntry) -> bool:
    return path.is_file() and path.stat().st_size == entry.size and sha256(path) == entry.sha256


def _download(url: str, partial: Path, size: int, begin: int, report: Callable[[int], None]) -> None:
    """Write `url` to `partial`, from byte `begin` on where the server can; never more than `size` bytes."""
    if begin == size:
        return
    try:
        with _open(url, begin) as response:
            # A server without ranges sends all of it with status 200.
            begin = begin if response.status == 206 else 0
            with partial.open("r+b" if begin else "wb") as file:
                file.seek(begin)
                file.truncate()
                while begin < size and (chunk := response.read(min(_CHUNK, size - begin))):
                    file.write(chunk)
                    begin += len(chunk)
                    report(begin)
    except HTTPError as error:
        raise BundleError(
            f"'{url}' cannot be fetched (the server answered {error.code}): the bundle there is incomplete; "
            f"ask its publisher."
        ) from error
    except _network_errors() as error:
        raise _unreachable(url, error) from error
    if begin < size:
        raise _unreachable(url, HTTPException("the connection ended early"))


class _HttpsOnly(urllib.request.HTTPRedirectHandler):
    """Follows a redirect only to an address that may be trusted."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        if not _trusted(newurl):
            raise URLError("it leads to an address without https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open(url: str, begin: int = 0) -> HTTPResponse:
    headers = {"User-Agent": "grefine-rt", **({"Range": f"bytes={begin}-"} if begin else {})}
    opener = urllib.request.build_opener(_HttpsOnly)
    return cast(HTTPResponse, opener.open(Request(url, headers=headers), timeout=_TIMEOUT))


def _network_errors() -> tuple[type[Exception], ...]:
    import ssl

    # A host that cannot be written in the DNS is a UnicodeError.
    return URLError, HTTPException, TimeoutError, ConnectionError, ssl.SSLError, UnicodeError


def _unreachable(url: str, error: Exception) -> BundleError:
    reason = getattr(error, "reason", None) or error
    reason = getattr(reason, "strerror", None) or str(reason) or type(error).__name__
    return BundleError(
        f"'{urlsplit(url).netloc}' cannot be reached ({reason}): check the network, then run the command "
        "again: it goes on where it stopped."
    )
