"""Whether a file has a manifest of content credentials (C2PA). Only headers are read, nothing is verified."""

import struct
from collections.abc import Callable
from typing import BinaryIO

MAX_PARTS = 100_000
"""Chunks, segments or boxes that are looked at."""

_BMFF_UUID = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")


def present(file: BinaryIO) -> bool:
    """Whether a PNG, JPEG, WebP, AVIF, HEIC or TIFF file has a manifest. Any bytes are fine; the file is rewound."""
    try:
        file.seek(0)
        head = file.read(16)
        for matches, walk in _WALKS:
            if matches(head):
                return walk(file)
        return False
    except (OSError, ValueError, struct.error, OverflowError):
        return False
    finally:
        file.seek(0)


def _png(file: BinaryIO) -> bool:
    file.seek(8)
    for _ in range(MAX_PARTS):
        header = file.read(8)
        if len(header) < 8 or header[4:] == b"IEND":
            return False
        if header[4:] == b"caBX":
            return True
        file.seek(int.from_bytes(header[:4], "big") + 4, 1)
    return False


def _jpeg(file: BinaryIO) -> bool:
    file.seek(2)
    for _ in range(MAX_PARTS):
        header = file.read(4)
        if len(header) < 4 or header[0] != 0xFF or header[1] in (0xDA, 0xD9):
            return False
        size = int.from_bytes(header[2:], "big") - 2
        if header[1] == 0xEB:  # APP11: JUMBF boxes
            body = file.read(max(size, 0))
            if b"jumb" in body[:64] and b"c2pa" in body[:256]:
                return True
        else:
            file.seek(max(size, 0), 1)
    return False


def _riff(file: BinaryIO) -> bool:
    file.seek(12)
    for _ in range(MAX_PARTS):
        header = file.read(8)
        if len(header) < 8:
            return False
        if header[:4] == b"C2PA":
            return True
        size = int.from_bytes(header[4:], "little")
        file.seek(size + size % 2, 1)
    return False


def _bmff(file: BinaryIO) -> bool:
    position = 0
    for _ in range(MAX_PARTS):
        file.seek(position)
        header = file.read(32)
        if len(header) < 8:
            return False
        size, start = int.from_bytes(header[:4], "big"), 8
        if size == 1:
            size, start = int.from_bytes(header[8:16], "big"), 16
        if header[4:8] == b"uuid" and header[start : start + 16] == _BMFF_UUID:
            return True
        if size < start:
            return False
        position += size
    return False


def _tiff(file: BinaryIO) -> bool:
    file.seek(0)
    head = file.read(8)
    order = "<" if head[:2] == b"II" else ">"
    file.seek(struct.unpack(order + "I", head[4:])[0])
    (count,) = struct.unpack(order + "H", file.read(2))
    entries = file.read(12 * count)
    return any(
        struct.unpack_from(order + "H", entries, 12 * index)[0] == 52545
        for index in range(len(entries) // 12)
    )


_WALKS: tuple[tuple[Callable[[bytes], bool], Callable[[BinaryIO], bool]], ...] = (
    (lambda head: head[:8] == b"\x89PNG\r\n\x1a\n", _png),
    (lambda head: head[:2] == b"\xff\xd8", _jpeg),
    (lambda head: head[:4] == b"RIFF" and head[8:12] == b"WEBP", _riff),
    (lambda head: head[4:8] == b"ftyp", _bmff),
    (lambda head: head[:4] in (b"II*\0", b"MM\0*"), _tiff),
)
