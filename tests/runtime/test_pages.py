"""Pages of docs/: every one can be found from the first, and the code that they show works."""

import contextlib
import io
import re
from typing import Any

import pytest
import typer

from grefine_export.cli import app as exporter
from grefine_rt.cli import app
from tests.support.paths import ROOT

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))


def blocks(page):
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text("utf-8"), re.DOTALL)


def test_the_first_page_leads_to_every_other():
    index = (DOCS / "index.md").read_text("utf-8")
    linked = set(re.findall(r"\]\(([a-z_]+\.md)", index))
    others = {page.name for page in PAGES} - {"index.md"}
    for page in sorted(linked):
        linked |= set(re.findall(r"\]\(([a-z_]+\.md)", (DOCS / page).read_text("utf-8")))
    assert others - linked == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_pages_that_exist(page):
    for target in re.findall(r"\]\(([^)#\s]+?\.md)(?:#[^)]*)?\)", page.read_text("utf-8")):
        if "://" not in target:
            assert (page.parent / target).is_file(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_of_a_page_is_python(page):
    for block in blocks(page.name):
        compile(block, page.name, "exec")


def test_the_code_of_the_concepts_runs(mini, monkeypatch):
    monkeypatch.chdir(ROOT)
    names = {}
    with contextlib.redirect_stdout(io.StringIO()) as said:
        for block in blocks("concepts.md"):
            exec(compile(block, "concepts.md", "exec"), names)
    result = names["result"]
    assert said.getvalue().startswith(result.summary)
    assert result.before.perceptual_map.shape == result.image.size[::-1]
    assert all(phrase.text in said.getvalue() for phrase in result.before.phrases)


def commands(text):
    """Every `grefine-rt ...` of a text, as words; a line that goes on ends with a backslash."""
    text = text.replace("\\\n", " ")
    for found in re.finditer(r"(?<![\w./-])grefine-rt ((?:[a-z]+ ?){1,2}[^`\n#|']*)", text):
        yield found.group(1).split()


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: page.name)
def test_commands_that_a_page_shows_have_their_options(page):
    top: Any = typer.main.get_command(app)
    for words in commands(page.read_text("utf-8")):
        command = top.commands.get(words[0])
        if command is None:
            continue  # a sentence about the package
        if hasattr(command, "commands") and len(words) > 1:
            command = command.commands.get(words[1], command)
        known = {flag for option in command.params for flag in (*option.opts, *option.secondary_opts)}
        asked = {word.split("=")[0] for word in words if re.match(r"-{1,2}[a-z]", word)}
        assert {flag.rstrip(".,;:)]") for flag in asked} <= known | {"--help", "-h"}, words


COMMAND = re.compile(r"(?:\.venv/bin/)?(grefine-rt|grefine-export) ([^#|]*)")


def lines_of_blocks(page):
    """(program, words) of every command in a block for the shell, without its comment; not those that ask for help."""
    for block in re.findall(r"^```(?:sh|bash)\n(.*?)^```", page.read_text("utf-8"), re.M | re.S):
        for line in block.replace("\\\n", " ").splitlines():
            found = COMMAND.match(line)
            if found and "--help" not in line:
                yield found.group(1), found.group(2).split()


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: page.name)
def test_commands_in_blocks_can_be_given_as_they_stand(page):
    tops: dict[str, Any] = {
        "grefine-rt": typer.main.get_command(app),
        "grefine-export": typer.main.get_command(exporter),
    }
    for program, words in lines_of_blocks(page):
        command, rest = tops[program], words
        while hasattr(command, "commands") and rest and rest[0] in command.commands:
            command, rest = command.commands[rest[0]], rest[1:]
        asked = {word.split("=")[0] for word in rest if word.startswith("-")}
        options = [option for option in command.params if option.param_type_name == "option"]
        assert asked <= {"-h", *(flag for option in options for flag in option.opts + option.secondary_opts)}
        assert all(asked & set(option.opts) for option in options if option.required), words


def test_commands_of_blocks_are_found():
    said = [command for page in [*PAGES, ROOT / "README.md"] for command in lines_of_blocks(page)]
    assert {program for program, _ in said} == {"grefine-rt", "grefine-export"}
    assert len(said) > 12


def test_commands_of_pages_are_found():
    said = [words for page in PAGES for words in commands(page.read_text("utf-8"))]
    assert len(said) > 60
    assert ["refine", "a.png", "-p", '"..."', "--mask", "mask.png"] in said


def test_files_that_pages_name_exist():
    for page in ("concepts.md", "choosing.md", "embedding.md", "files.md", "expected.md", "comfyui.md"):
        for path in re.findall(r"`((?:examples|tests|engines)/[\w./-]+)`", (DOCS / page).read_text("utf-8")):
            assert (ROOT / path).exists(), (page, path)
