"""Checkpoints from a model hub: only the files that are needed, resumed where a download stopped, and proven."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from grefine_export.hub.resume import begun, download, patiently, remove_stale
from grefine_rt.files import sha256

_TIMEOUT = 30.0  # seconds until the hub must answer


@dataclass(frozen=True)
class HubFile:
    """A file as the hub lists it: its path there, size in bytes, SHA-256 in hexadecimal where it is a large file."""

    name: str
    size: int
    sha256: str | None


class Unreachable(FileNotFoundError):
    """The hub cannot be asked, or has no such model."""


class Refused(Unreachable):
    """The hub answers, and has no such model or revision, or does not give it to this user."""


def is_hub_id(text: str) -> bool:
    """Whether `text` has the form owner/name and is no path here."""
    shaped = re.fullmatch(r"[\w.-]+/[\w.-]+", text) and not text.startswith((".", "~"))
    return bool(shaped) and not Path(text).exists()


def listing(repo: str, revision: str | None, patterns: Sequence[str]) -> tuple[HubFile, ...]:
    """The files of a model that match `patterns` (names, or with `*`), with their sizes and SHA-256.

    Raises Unreachable (one sentence) when the hub does not answer for this model and revision, Refused when it answers
    that there is none or that this user may not have it, ValueError when a pattern matches none of its files. A hub
    that is asked too often is asked again after as long as it says.
    """
    from huggingface_hub import HfApi

    def ask() -> Any:
        return HfApi().model_info(repo, revision=revision, files_metadata=True, timeout=_TIMEOUT)

    try:
        found = patiently(ask).siblings or []
    except Exception as error:  # the hub's client and the network raise many kinds
        if refusal := _refusal(repo, revision, error):
            raise Refused(refusal) from error
        raise Unreachable(
            f"'{repo}' cannot be had from the hub ({_reason(error)}): fetch it on a machine that reaches the hub and "
            f"give its folder"
        ) from error
    names = [file.rfilename for file in found]
    if lacking := [pattern for pattern in patterns if not any(fnmatchcase(n, pattern) for n in names)]:
        raise ValueError(f"the model '{repo}' on the hub has no file '{lacking[0]}': give a local folder")
    return tuple(
        HubFile(file.rfilename, file.size or 0, file.lfs.sha256 if file.lfs else None)
        for file in found
        if any(fnmatchcase(file.rfilename, pattern) for pattern in patterns)
    )


def file_names(repo: str, *needed: str) -> list[str]:
    """The names of a model's files as the hub lists them; without an answer of it, as the cache has them, provided
    that each of the patterns `needed` matches one. Raises the errors of `listing`."""
    try:
        return [file.name for file in listing(repo, None, ["*"])]
    except Unreachable:
        if there := cached(repo, None, ["*", *needed]):
            return sorted(there)
        raise


def not_cached(repo: str, revision: str | None, files: Sequence[HubFile]) -> int:
    """Bytes of `files` that are not in huggingface_hub's cache yet, without the ones of begun downloads."""
    from huggingface_hub import try_to_load_from_cache

    return sum(
        file.size - min(begun(repo, file.sha256), file.size)
        for file in files
        if not isinstance(try_to_load_from_cache(repo, file.name, revision=revision), str)
    )


def cached(repo: str, revision: str | None, patterns: Sequence[str]) -> dict[str, Path]:
    """The files of a model in huggingface_hub's cache that match `patterns`, by name; none when a pattern matches
    nothing there. Asks no hub."""
    try:
        folder = _snapshot(repo, revision, patterns, local=True)
    except Exception:  # the client has several for a cache that lacks the model
        return {}
    there = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    if not all(any(fnmatchcase(name, pattern) for name in there) for pattern in patterns):
        return {}
    return {name: path for name, path in there.items() if any(fnmatchcase(name, one) for one in patterns)}


def fetch(
    repo: str, revision: str | None, patterns: Sequence[str], say: Callable[[str], None] = print
) -> Path:
    """The folder in huggingface_hub's cache with the files of a model that match `patterns`, proven.

    A download that was broken off goes on at its byte. Sizes and SHA-256 are compared with the hub's list;
    without the hub, files that are all in the cache already are taken when their contents still have the SHA-256 they
    were stored under. A damaged file is removed, so that another run fetches it anew.

    Raises Unreachable when the hub does not answer and the cache lacks a file, Refused when it gives nothing to this
    user, ConnectionError when a download stops, ValueError for a damaged file or one that the model has not; one
    sentence each.
    """
    try:
        files = listing(repo, revision, patterns)
    except Unreachable as error:
        # Also when it refuses: a model that was fetched once stays usable after a logout.
        return _from_cache(repo, revision, patterns, error, say)
    left = not_cached(repo, revision, files)
    say(f"{repo}: {len(files)} files, {gigabytes(left)} of {gigabytes(sum(f.size for f in files))} to fetch")
    remove_stale(repo, [file.sha256 for file in files])
    try:
        for file in files:
            if file.sha256 is not None and not_cached(repo, revision, [file]):
                download(repo, revision, file.name, file.size, file.sha256)
        folder = _snapshot(repo, revision, [file.name for file in files])
    except Exception as error:
        if refusal := _refusal(repo, revision, error):
            raise Refused(refusal) from error
        raise ConnectionError(
            f"the download of '{repo}' stopped ({_reason(error)}): run the command again, it goes on where it stopped"
        ) from error
    for file in files:
        path = folder / file.name
        wrong = not path.is_file() or path.stat().st_size != file.size
        if wrong or (file.sha256 is not None and sha256(path) != file.sha256):
            raise _damaged(repo, path)
    return folder


def gigabytes(count: float) -> str:
    """Bytes for people: "12.9 GB", "3 MB"."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _snapshot(repo: str, revision: str | None, names: Sequence[str], local: bool = False) -> Path:
    from huggingface_hub import snapshot_download

    return Path(
        snapshot_download(repo, revision=revision, allow_patterns=list(names), local_files_only=local)
    )


def _from_cache(
    repo: str,
    revision: str | None,
    patterns: Sequence[str],
    unreachable: Unreachable,
    say: Callable[[str], None],
) -> Path:
    files = cached(repo, revision, patterns)
    if not files:
        raise unreachable
    for path in files.values():
        stored_as = path.resolve().name
        if re.fullmatch("[0-9a-f]{64}", stored_as) and sha256(path) != stored_as:
            raise _damaged(repo, path)
    answers = "refuses" if isinstance(unreachable, Refused) else "does not answer"
    say(f"{repo}: the hub {answers}, its files are in the cache")
    return _snapshot(repo, revision, patterns, local=True)


def _damaged(repo: str, path: Path) -> ValueError:
    for part in {path.resolve(), path}:
        part.unlink(missing_ok=True)
    return ValueError(
        f"the file '{path.name}' of '{repo}' was damaged (size or SHA-256 differ) and is removed: run the command "
        f"again to fetch it anew"
    )


def _refusal(repo: str, revision: str | None, error: Exception) -> str:
    """The sentence for an answer of the hub that no waiting changes; "" for anything else."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return (
            f"the hub does not give '{repo}' to this user: accept its licence at https://huggingface.co/{repo}, if it "
            f"exists, and log in with 'hf auth login'"
        )
    if status == 404:
        at = f" at the revision '{revision}'" if revision else ""
        return f"the hub has no model '{repo}'{at}: mend the name or the revision, or give a local folder"
    return ""


def _reason(error: Exception) -> str:
    """The first sentence of the client's error, without line breaks."""
    return " ".join(str(error).split())[:200].rstrip(".:") or type(error).__name__
