"""How much memory of this machine a process may use, and how much it holds."""

import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

KIBI = 1024


def free_memory(root: Path = Path("/")) -> int | None:
    """Bytes of memory that this process can still get; None when unknown.

    The smaller of what the machine has available and what the limits of the process's control groups (version 1 or 2)
    leave. Linux alone tells. root: where `proc` and `sys` lie.
    """
    machine = _numbers(root / "proc/meminfo").get("MemAvailable")
    left = [*_groups(root)] + ([machine * KIBI] if machine is not None else [])
    return min(left, default=None)


def usable_memory(root: Path = Path("/")) -> int | None:
    """Bytes of memory that this process may use in all: those it holds and `free_memory`; None when unknown.

    What a refine call needs (`graph_costs.check_memory`) compares with this: some of it may be loaded already.
    """
    free = free_memory(root)
    return None if free is None else free + _numbers(root / "proc/self/status").get("RssAnon", 0) * KIBI


def resident_memory(root: Path = Path("/")) -> int | None:
    """Bytes of this process that lie in memory now; None when unknown, as on other systems than Linux."""
    held = _numbers(root / "proc/self/status").get("VmRSS")
    return None if held is None else held * KIBI


def peak_memory(root: Path = Path("/")) -> int | None:
    """The most bytes of this process that lay in memory at once; None when unknown, as on Windows.

    Since the process began, or since something reset the kernel's record (`engine.tensorrt.memory.forget_peak`).
    """
    held = _numbers(root / "proc/self/status").get("VmHWM")
    if held is not None:
        return held * KIBI
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else KIBI)


def _groups(root: Path) -> Iterator[int]:
    """Bytes that each control group around this process leaves, where it has a limit."""
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            mount, limit, usage = root / "sys/fs/cgroup", "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            mount, limit = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
            usage = "memory.usage_in_bytes"
        else:
            continue
        here = PurePosixPath(path.lstrip("/"))
        for group in (here, *here.parents):
            files = [_lines(mount / group / name) for name in (limit, usage)]
            if all(lines and lines[0].isdecimal() for lines in files):  # "max" is no limit
                most, used = (int(lines[0]) for lines in files)
                # The page cache counts as used, but gives way.
                statistics = _numbers(mount / group / "memory.stat")
                cache = statistics.get("total_inactive_file", statistics.get("inactive_file", 0))
                yield max(most - used + cache, 0)


def _numbers(file: Path) -> dict[str, int]:
    """First words of the lines, without a colon, and the numbers that follow them."""
    rows = (line.split() for line in _lines(file))
    return {row[0].rstrip(":"): int(row[1]) for row in rows if len(row) > 1 and row[1].isdecimal()}


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
