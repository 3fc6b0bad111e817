"""docs/errors.md: every sentence that an error can say."""

import ast
import importlib.util
import sys

import pytest

from tests.support.paths import ROOT


@pytest.fixture(scope="module")
def maker():
    found = importlib.util.spec_from_file_location("error_sentences", ROOT / "docs" / "error_sentences.py")
    module = importlib.util.module_from_spec(found)
    sys.modules[found.name] = module
    found.loader.exec_module(module)
    yield module
    del sys.modules[found.name]


def test_the_page_is_made_from_the_code_as_it_is(maker):
    page = (ROOT / "docs" / "errors.md").read_text("utf-8")
    assert page == maker.page(), "run: python docs/error_sentences.py > docs/errors.md"


def test_sentences_are_found_behind_names_and_functions(maker):
    page = maker.page()
    assert "`NAME has more than MAX PIXELS million pixels, the limit; make it smaller first.`" in page
    assert "ONNX Runtime is not installed: run 'pip install .[cpu]' in the checkout of grefine-rt" in page


def test_hardly_a_place_that_raises_is_left_out(maker):
    """Sentences that are handed through, from an error of a library or as an argument, cannot be known before."""
    silent = []
    for name, module in maker.modules().items():
        for function in ast.walk(module):
            if not isinstance(function, ast.FunctionDef):
                continue
            for node in ast.walk(function):
                kind = maker.kind_of(node)
                if (
                    kind
                    and isinstance(node, ast.Call)
                    and node.args
                    and not any(maker.texts(node.args[0], function, 0))
                ):
                    silent.append(f"{name}:{node.lineno}")
    assert len(silent) <= 12, silent


def test_every_sentence_is_one_line_without_a_blank_in_its_place(maker):
    for kind, text, module in maker.sentences():
        assert "\n" not in text.strip(), (kind, text, module)
        assert "  " not in text, (kind, text, module)
