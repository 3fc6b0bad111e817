"""Libraries as CUDA's compiler makes them, without their code."""

import struct


def library_with(path, *kernels):
    """An ELF file with a fat binary of `kernels`, kinds and compute capabilities, behind padding."""
    entries = b"".join(
        struct.pack("<HHIQ", kind, 0x101, 64, 24) + bytes(12) + struct.pack("<I", capability) + bytes(32 + 24)
        for kind, capability in kernels
    )
    content = bytes(8) + struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(entries)) + entries
    names = b"\0.nv_fatbin\0"
    table = 64 + len(content) + len(names)
    head = b"\x7fELF\x02".ljust(0x28, b"\0") + struct.pack("<Q", table)
    head = head.ljust(0x3A, b"\0") + struct.pack("<HHH", 64, 2, 1)
    sections = [(1, 64, len(content)), (0, 64 + len(content), len(names))]
    rows = b"".join(
        struct.pack("<IIQQQQ", name, 1, 0, 0, at, size) + bytes(24) for name, at, size in sections
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head.ljust(64, b"\0") + content + names + rows)
