"""Nothing is looked up and nothing is left behind: the command in a namespace without a network, under strace."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import ENVIRONMENT

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "wrong_colour.png"


def works(*command):
    try:
        return subprocess.run(command, capture_output=True, timeout=20).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def traced(tmp_path, *arguments):
    """The command's exit code and the lines of strace: files that were opened or made, and sockets."""
    log = tmp_path / "trace"
    home, cache = tmp_path / "home", tmp_path / "cache"
    home.mkdir()
    environment = {
        **ENVIRONMENT,
        "HOME": str(home),
        "GREFINE_CACHE": str(cache),
        "PYTHONDONTWRITEBYTECODE": "1",
        "TMPDIR": str(tmp_path / "tmp"),
    }
    (tmp_path / "tmp").mkdir()
    calls = "trace=openat,open,creat,mkdir,mkdirat,rename,renameat,renameat2,connect,sendto,socket"
    command = [sys.executable, "-m", "grefine_rt.cli", *map(str, arguments)]
    # A namespace of its own has no network at all: whatever needs one fails.
    done = subprocess.run(
        ["unshare", "-rn", "strace", "-f", "-qq", "-e", calls, "-o", log, *command],
        env=environment,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return log.read_text().splitlines(), home, cache


@pytest.mark.skipif(
    not (shutil.which("strace") and works("unshare", "-rn", "true")), reason="no strace or namespaces"
)
def test_a_run_looks_up_no_host_and_leaves_no_file(mini, tmp_path):
    if not works("unshare", "-rn", "strace", "-qq", "-o", os.devnull, "true"):
        pytest.skip("strace may not trace here")
    out = tmp_path / "out.png"
    lines, home, cache = traced(
        tmp_path,
        "refine",
        EXAMPLE,
        "-p",
        "a red house",
        "-o",
        out,
        "--stage1-steps",
        2,
        "--stage2-steps",
        2,
        "--drafts",
        1,
    )
    assert out.is_file()
    network = [line for line in lines if re.search(r"AF_INET|(connect|sendto)\(", line)]
    assert network == []
    looked_up = [line for line in lines if re.search(r"resolv\.conf|/etc/hosts|nsswitch", line)]
    assert looked_up == []
    assert not list(home.iterdir())
    assert not cache.exists() or {path.name for path in cache.iterdir()} <= {"verified"}
    assert not list((tmp_path / "tmp").iterdir())
    made = {
        match.group(1)
        for line in lines
        if (
            match := re.search(
                r'(?:openat|open|creat)\((?:AT_FDCWD, )?"([^"]+)".*(?:O_CREAT|O_WRONLY|O_RDWR)', line
            )
        )
    }
    elsewhere = {path for path in made if not path.startswith((str(tmp_path), "/dev/", "/proc/", "/sys/"))}
    assert elsewhere == set()


def test_telemetry_is_off_before_the_import():
    program = (
        "import os, sys; os.environ.pop('ORT_DISABLE_TELEMETRY', None)\n"
        "class Watch:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'onnxruntime':\n"
        "            print(os.environ.get('ORT_DISABLE_TELEMETRY'))\n"
        "sys.meta_path.insert(0, Watch())\n"
        "from grefine_rt.engine.onnxruntime.session import module\n"
        "module()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=ENVIRONMENT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[0] == "1"


def test_onnxruntime_is_imported_in_one_place():
    root = Path(__file__).resolve().parents[2] / "runtime"
    places = [
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if re.search(r"^\s*(?:import onnxruntime|from onnxruntime)", path.read_text(), re.MULTILINE)
    ]
    assert places == ["grefine_rt/engine/onnxruntime/session.py"]
