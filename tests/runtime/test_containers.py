"""The container files: read as a linter does, and the wheel that they install built from what they copy."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib

import pytest

from tests.support.paths import ROOT

FILES = {"Dockerfile": "cpu", "Dockerfile.gpu": "gpu"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def instructions(name):
    """(instruction, arguments) of a Dockerfile, in order, continued lines joined."""
    text = re.sub(r"^#.*\n", "", (ROOT / name).read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    return [(line.split()[0], " ".join(line.split()[1:])) for line in lines]


def stages(name):
    """The instructions of each stage."""
    found = []
    for instruction in instructions(name):
        found += [[]] if instruction[0] == "FROM" else []
        found[-1].append(instruction)
    return found


def copied(name):
    """What the first stage copies from the checkout."""
    sources = []
    for kind, arguments in stages(name)[0]:
        sources += shlex.split(arguments)[:-1] if kind == "COPY" else []
    return sources


@pytest.mark.parametrize("name", FILES)
def test_base_images_are_one_and_have_a_version(name):
    images = {arguments.split()[0] for kind, arguments in instructions(name) if kind == "FROM"}
    (image,) = images
    python = re.fullmatch(r"python:(\d+\.\d+)-slim-[a-z]+", image)
    tested = re.search(r"CPython (\d+\.\d+)", (ROOT / "constraints.txt").read_text(encoding="utf-8"))
    assert python[1] == tested[1]


@pytest.mark.parametrize("name", FILES)
def test_what_runs_is_no_root_and_gets_signals(name):
    last = dict(stages(name)[-1])
    user, group = last["USER"].split(":")
    assert int(user) > 1000
    assert int(group) > 1000
    assert json.loads(last["ENTRYPOINT"]) == ["grefine-rt"]  # a list: no shell in between
    assert json.loads(last["CMD"]) == ["--help"]
    order = [kind for kind, _ in stages(name)[-1]]
    assert "RUN" not in order[order.index("USER") :]
    assert last["WORKDIR"].startswith("/")


@pytest.mark.parametrize(("name", "extra"), FILES.items())
def test_only_tested_versions_are_installed_without_a_cache(name, extra):
    runs = [arguments for kind, arguments in instructions(name) if kind == "RUN"]
    (pip,) = [arguments for arguments in runs if "pip" in arguments]
    assert {"--no-cache-dir", "--constraint"} <= set(shlex.split(pip))
    assert pip.endswith(f'".[{extra}]"')
    assert extra in PROJECT["project"]["optional-dependencies"]
    forbidden = ("sudo", "apt-get", "curl", "wget", "http:", "https:", "chmod 777", "--trusted-host", "| sh")
    assert [word for word in forbidden if any(word in arguments for arguments in runs)] == []


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_fetched_by_add_and_no_secret_is_kept(name):
    assert {kind for kind, _ in instructions(name)} <= {
        *("FROM", "WORKDIR", "COPY", "RUN", "LABEL", "ENV", "USER", "VOLUME", "ENTRYPOINT", "CMD")
    }
    told = " ".join(arguments for kind, arguments in instructions(name) if kind in ("ENV", "LABEL"))
    assert not re.search(r"token|password|secret|key", told, re.IGNORECASE)


def test_both_files_differ_in_the_extra_and_the_gpu_alone():
    cpu, gpu = (instructions(name) for name in FILES)
    assert len(cpu) == len(gpu)
    changed = [kind for (kind, before), (_, after) in zip(cpu, gpu, strict=True) if before != after]
    assert changed == ["RUN", "ENV"]


def test_the_context_holds_what_is_copied_and_nothing_else():
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    for name in FILES:
        assert {source.removeprefix("./") for source in copied(name)} == allowed
    assert all((ROOT / path).exists() for path in allowed)


def test_hadolint_finds_nothing():
    beside = os.path.dirname(
        sys.executable
    )  # an environment's own commands are on the path only when it is active
    hadolint = shutil.which("hadolint", path=beside) or shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run([hadolint, *(str(ROOT / name) for name in FILES)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.slow
def test_the_wheel_of_what_is_copied_works_in_a_clean_environment(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for path in copied("Dockerfile"):
        if (ROOT / path).is_dir():
            shutil.copytree(ROOT / path, source / path, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / path, source / path)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "GREFINE"))}
    clean |= {"GREFINE_CACHE": str(tmp_path / "cache"), "GREFINE_CONFIG": ""}

    def run(*arguments):
        done = subprocess.run(
            list(map(str, arguments)), cwd=tmp_path, env=clean, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, source)
    (wheel,) = tmp_path.glob("*.whl")
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    scripts = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin")
    constraints = source / "constraints.txt"
    run(scripts / "python", "-m", "pip", "install", "--quiet", "--constraint", constraints, f"{wheel}[cpu]")
    shutil.rmtree(source)

    picture = ROOT / "examples" / "broken_shape.png"
    said = json.loads(run(scripts / "grefine-rt", "assess", picture, "--json"))
    assert said["bundle"] == "mini"
    assert 0 <= said["before"]["perceptual"] <= 1
    assert said["mask"]["coverage"] > 0
    module = json.loads(run(scripts / "python", "-m", "grefine_rt", "assess", picture, "--json"))
    assert module["before"] == said["before"]
    installed = run(scripts / "python", "-m", "pip", "list", "--format", "freeze").lower()
    assert "torch" not in installed
