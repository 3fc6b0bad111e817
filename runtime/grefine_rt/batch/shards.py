"""Samples of webdataset shards: files of one tar archive whose names differ only after the first dot."""

from __future__ import annotations

import json
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from grefine_rt.batch.rows import Row, row_of
from grefine_rt.batch.store import Location, reason_of
from grefine_rt.imaging.files_in import MAX_BYTES
from grefine_rt.imaging.prompts.found import MAX_FIELD

PICTURES = (
    *(".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".avif", ".bmp", ".gif", ".jp2", ".qoi", ".heic"),
    *(".heif", ".tga", ".ppm"),
)
"""Suffixes by which pictures are told from other files."""
_DAMAGE = (tarfile.TarError, OSError, EOFError, zlib.error, ValueError)


def shard_rows(shard: Location) -> Iterator[Row]:
    """A row for each sample that has a picture, in the order of the archive.

    The prompt is the sample's `.txt`, or `prompt`, `text` or `caption` of its `.json`, which may also have `id`, `seed`
    and `options`; else the one in the picture. Nothing is unpacked onto the disk. A damaged shard gives the samples
    before the damage, and a row with an error.
    """
    key = ""
    parts: dict[str, bytes | str] = {}
    try:
        with shard.open("rb") as file, tarfile.open(fileobj=file, mode="r:*") as archive:
            for member in archive:
                if not member.isfile():
                    continue
                folder, _, base = member.name.rpartition("/")
                stem, _, suffix = base.partition(".")
                if not stem:
                    continue
                name = f"{folder}/{stem}" if folder else stem
                if name != key and parts:
                    yield from _sample(shard, key, parts)
                    parts = {}
                key = name
                parts["." + suffix.lower()] = _content(archive, member, suffix)
    except _DAMAGE as error:
        if parts:
            yield from _sample(shard, key, parts)
        reason = reason_of(error)[:200]
        text = f'The shard "{shard.name}" is damaged ({reason}): what follows in it was left out.'
        yield Row(f"{shard.name}/", error=text)
        return
    if parts:
        yield from _sample(shard, key, parts)


def shard_length(shard: Location) -> int | None:
    """The number of files that look like pictures; None for a damaged shard."""
    try:
        with shard.open("rb") as file, tarfile.open(fileobj=file, mode="r:*") as archive:
            return sum(_is_picture("." + name.lower()) for name in archive.getnames())
    except _DAMAGE:
        return None


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo, suffix: str) -> bytes | str:
    limit = MAX_BYTES if _is_picture("." + suffix.lower()) else MAX_FIELD
    if member.size > limit:
        return f'The file "{member.name}" has more than {limit >> 20} MiB, the limit.'
    file = archive.extractfile(member)
    data = b"" if file is None else file.read()
    if len(data) < member.size:
        raise EOFError("it ends within a file")
    return data


def _is_picture(suffix: str) -> bool:
    return suffix.endswith(PICTURES)


def _sample(shard: Location, key: str, parts: dict[str, bytes | str]) -> Iterator[Row]:
    name = f"{shard.name}/{key}"
    pictures = [suffix for suffix in parts if _is_picture(suffix)]
    if not pictures:
        return
    row, data = Row(name), parts[pictures[0]]
    problem = next((part for part in parts.values() if isinstance(part, str)), "")
    said: Any = {}
    if not problem and ".json" in parts:
        try:
            said = json.loads(parts[".json"])
        except (ValueError, RecursionError):
            said = None
        if not isinstance(said, dict):
            problem = f'The JSON of the sample "{name}" is no object.'
    if not problem and said:
        row = row_of(said, f'The sample "{name}"', None)
        problem = row.error
    text = parts.get(".txt")
    if not problem and isinstance(text, bytes):
        try:
            row = replace(row, prompt=text.decode("utf-8-sig").strip())
        except UnicodeDecodeError:
            problem = f'The prompt of the sample "{name}" is no UTF-8 text.'
    picture = data if isinstance(data, bytes) else b""
    yield replace(row, name=name + pictures[0], data=picture, error=problem)
