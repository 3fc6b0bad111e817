"""One large file of a model hub, byte by byte: a download that was killed goes on where it stopped.

huggingface_hub begins such a file anew, under another temporary name. Here the bytes so far lie in its cache under the
SHA-256 of the whole (`blobs/SHA256.part`), and the rest is asked for with a Range request; the finished file takes the
place where huggingface_hub looks for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

PART = ".part"
WAIT, TRIES = 5.0, 5
"""Seconds to wait where a hub that is asked too often does not say how long; how often it is asked in all."""

_STALE = 24 * 3600.0  # seconds: what nobody has written to for so long is nobody's download


def blobs(repo: str) -> Path:
    """The folder of huggingface_hub's cache that holds the files of a model by their SHA-256."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}" / "blobs"


def begun(repo: str, sha256: str | None) -> int:
    """Bytes of a file that a former run has left."""
    if sha256 is None:
        return 0
    part = blobs(repo) / f"{sha256}{PART}"
    return part.stat().st_size if part.is_file() else 0


def download(repo: str, revision: str | None, name: str, size: int, sha256: str) -> Path:
    """The file `name` of a model as a blob of the cache; its contents are for the caller to prove.

    Raises the errors of the hub's client and of the network; the bytes so far then stay for the next run.
    """
    from huggingface_hub.utils import WeakFileLock

    blob = blobs(repo) / sha256
    part = blob.with_name(f"{sha256}{PART}")
    part.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(part.with_suffix(".lock")):  # two processes must not append to one file
        if blob.is_file() and blob.stat().st_size == size:
            return blob
        if begun(repo, sha256) > size:
            part.unlink()
        while (there := begun(repo, sha256)) < size or not part.is_file():
            patiently(partial(_append, repo, revision, name, part, there))
            if part.is_file() and begun(repo, sha256) <= there:
                raise ConnectionError(f"the hub sends no more of '{name}'")
        part.replace(blob)
    part.with_suffix(".lock").unlink(missing_ok=True)
    return blob


def patiently(ask: Callable[[], Any], sleep: Callable[[float], None] = time.sleep) -> Any:
    """The answer of `ask`; where the hub is asked too often (429), after the wait that it tells."""
    for left in reversed(range(TRIES)):
        try:
            return ask()
        except Exception as error:  # the client has kinds of its own
            answer: Any = getattr(error, "response", None)
            if getattr(answer, "status_code", None) != 429 or not left:
                raise
            sleep(told_to_wait(answer.headers))
    raise AssertionError


def told_to_wait(headers: Any) -> float:
    """Seconds of `Retry-After`, which may be a number or a date, or of `RateLimit: ...;t=SECONDS`; at most an hour."""
    from email.utils import parsedate_to_datetime

    text = str(headers.get("retry-after", "")).strip()
    if not text:
        text = str(headers.get("ratelimit", "")).rpartition(";t=")[2]
    try:
        return min(max(float(text), 0.0), 3600.0)
    except ValueError:
        pass
    try:
        return min(max(parsedate_to_datetime(text).timestamp() - time.time(), 0.0), 3600.0)
    except ValueError:
        return WAIT


def remove_stale(repo: str, wanted: Iterable[str | None]) -> None:
    """Remove parts of files that are no longer `wanted` (SHA-256) and that nobody has written to for a day, and
    huggingface_hub's own, which it never looks at again."""
    kept = {f"{sha}{PART}" for sha in wanted}
    for pattern in (f"*{PART}", "*.incomplete"):
        for part in blobs(repo).glob(pattern):
            if part.name not in kept and time.time() - part.stat().st_mtime > _STALE:
                part.unlink(missing_ok=True)


def _append(repo: str, revision: str | None, name: str, part: Path, there: int) -> None:
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    # Compressed on the way, a range would be one of other bytes.
    headers = {**build_hf_headers(), "accept-encoding": "identity"}
    if there:
        headers["range"] = f"bytes={there}-"
    url = hf_hub_url(repo, name, revision=revision)
    with get_session().stream("GET", url, headers=headers, follow_redirects=True, timeout=30.0) as answer:
        if answer.status_code == 416:
            part.unlink()
            return
        hf_raise_for_status(answer)
        whole = answer.status_code != 206  # a hub that knows no ranges sends all of it
        with part.open("wb" if whole else "ab") as file:
            for chunk in answer.iter_raw():  # as it arrives: what a kill loses is not kept back
                file.write(chunk)
                file.flush()
