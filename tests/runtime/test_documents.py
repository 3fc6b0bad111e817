"""What documents say of versions, names and commands agrees with the code."""

import ast
import importlib.util
import inspect
import re
import tomllib
from datetime import date

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import grefine_rt
from grefine_rt import errors
from tests.support.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CI = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
INSTALLED = [
    extra for line in re.findall(r"-c constraints\.txt -e \"\.\[([a-z,]+)\]", CI) for extra in line.split(",")
]


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_version_is_that_of_the_newest_release():
    headings = re.findall(r"^## \[(.+?)\](?: - (.+))?$", read("CHANGELOG.md"), re.MULTILINE)
    assert headings[0] == ("Unreleased", "")
    versions = [tuple(map(int, version.split("."))) for version, _ in headings[1:]]
    assert versions == sorted(versions, reverse=True)
    days = [date.fromisoformat(day) for _, day in headings[1:]]
    assert days == sorted(days, reverse=True)
    assert headings[1][0] == grefine_rt.__version__


def test_the_version_is_written_in_one_place():
    assert "version" not in PROJECT["project"]
    home = ROOT / PROJECT["tool"]["hatch"]["version"]["path"]
    assert f'__version__ = "{grefine_rt.__version__}"' in home.read_text(encoding="utf-8")


def test_constraints_name_one_version_that_fits_for_all_that_ci_installs():
    pinned = [line.split("==") for line in read("constraints.txt").splitlines() if line and line[0] != "#"]
    versions = dict(pinned)
    assert len(versions) == len(pinned)
    wanted = PROJECT["project"]["dependencies"].copy()
    assert {"cpu", "export", "test"} <= set(INSTALLED)
    for extra in INSTALLED:
        wanted += PROJECT["project"]["optional-dependencies"][extra]
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), requirement


def test_hooks_run_what_ci_runs():
    entries = re.findall(r"entry: (.+)", read(".pre-commit-config.yaml"))
    commands = {" ".join(entry.split(" --")[0].split()) for entry in entries}
    assert commands == {"ruff format", "ruff check", "mypy", "lint-imports"}
    lines = CI.splitlines()
    assert all(any(line.startswith(command) for line in lines) for command in commands)


def test_the_page_of_troubleshooting_names_every_kind_of_error():
    page = read("docs/troubleshooting.md")
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Exception)]
    assert len(kinds) >= 10
    assert [kind.__name__ for kind in kinds if kind.__name__ not in page] == []


@pytest.fixture(scope="module")
def extension():
    pytest.importorskip("griffe", reason="pip install '.[docs]' makes the site")
    found = importlib.util.spec_from_file_location("docstrings", ROOT / "docs" / "docstrings.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_the_page_of_the_api_has_every_public_name_with_its_docstring(extension):
    import griffe

    loaded = griffe.load(
        "grefine_rt",
        search_paths=[ROOT / "runtime"],
        extensions=griffe.load_extensions(extension.Docstrings()),
    )
    for name in grefine_rt.__all__:
        shown = loaded[name]
        assert shown.is_exported, name
        assert shown.docstring is not None, name
        assert len(shown.docstring.value.split()) > 3, name


def test_lines_on_parameters_become_items(extension):
    text = "Begins.\n\nmask: bool (H, W),\n    drawn.\na, b: two of\nthem.\nRaises E: never."
    assert extension.with_items(text).splitlines() == [
        *("Begins.", "", "", "- `mask`: bool (H, W),", "  drawn."),
        *("- `a, b`: two of", "  them.", "", "Raises E: never."),
    ]


def test_a_field_of_options_shows_its_default_and_help(extension, tmp_path):
    import griffe

    (tmp_path / "toy.py").write_text(
        "class Toy:\n    depth: int = option(\n        3, 'How deep ' 'it goes.', within=(1, 9)\n    )\n"
    )
    field = griffe.load(
        "toy", search_paths=[tmp_path], extensions=griffe.load_extensions(extension.Docstrings())
    )["Toy.depth"]
    assert str(field.value) == "3"
    assert field.docstring.value == "How deep it goes."


MADE = ("bundle.json", "site/")
"""Names of files that no checkout holds: a manifest's, and the folder that mkdocs makes."""
PLACES = ("", "runtime/grefine_rt", "runtime/grefine_rt/assess", "runtime/grefine_rt/assess/scorers")
"""Folders that the names in CONTRIBUTING.md begin at."""


def test_files_that_contributing_names_exist():
    named = re.findall(
        r"`(?:[^`]*\s)?([\w./]*(?:/|\.(?:py|md|toml|txt|json))[\w./]*)`", read("CONTRIBUTING.md")
    )
    named += re.findall(r"\]\(([^)#:]+)\)", read("CONTRIBUTING.md"))
    files = {name for name in named if name not in MADE and "NAME" not in name}
    assert {".ci/run", "tests/support/graph_store.py", "engine/base.py", "docs/options.md"} <= files
    assert [name for name in files if not any((ROOT / place / name).exists() for place in PLACES)] == []


def test_names_that_contributing_gives_are_in_the_files_it_names():
    items = re.findall(r"^\d\. `([\w/]+\.py)`(.+?)(?=^\d\. |^$)", read("CONTRIBUTING.md"), re.M | re.S)
    told = [(file, name) for file, text in items for name in re.findall(r"`(_?[A-Za-z_]+)`", text)]
    assert ("runtime/grefine_rt/engine/devices.py", "ORDER") in told
    for file, name in told:
        if "NAME" not in file:
            assert re.search(rf"\b{name}\b", read(file)), (file, name)


def test_no_file_above_400_lines_and_no_function_above_60():
    """The sizes that CONTRIBUTING.md promises, of both packages."""
    files = [path for package in ("runtime", "export") for path in (ROOT / package).rglob("*.py")]
    assert len(files) > 200
    long = []
    for path in files:
        text = path.read_text(encoding="utf-8")
        long += [path.name] * (text.count("\n") > 400)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                long += [f"{path.name}: {node.name} has {lines} lines"] * (lines > 60)
    assert long == []
