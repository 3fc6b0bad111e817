"""Pages of docs/: every one can be found from the first, and the code that they show works."""

import contextlib
import io
import re

import pytest

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


def test_options_and_files_that_the_new_pages_name_exist(run):
    helped = run("refine", "--help-all").stdout + run("batch", "--help-all").stdout
    for page in ("concepts.md", "choosing.md", "embedding.md", "files.md"):
        text = (DOCS / page).read_text("utf-8")
        for option in re.findall(r"grefine-rt (?:refine|batch)[^\n`]*?(--[a-z-]+)", text):
            assert option in helped, (page, option)
        for path in re.findall(r"`((?:examples|tests|engines)/[\w./-]+)`", text):
            assert (ROOT / path).exists(), (page, path)
