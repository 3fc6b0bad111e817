"""What messages and documents say about installing: nobody can be sure whose a name on a package index is."""

import ast
import re

from tests.support.paths import ROOT

CODE = sorted(path for room in ("runtime", "export") for path in (ROOT / room).rglob("*.py"))
DOCUMENTS = sorted(
    path
    for pattern in (
        "*.md",
        "docs/*.md",
        "integrations/**/*.md",
        "Dockerfile*",
        "examples/*.*",
    )
    for path in ROOT.glob(pattern)
    if path.suffix in (".md", ".py", ".ipynb", "") or path.name.startswith("Dockerfile")
)


def texts(path):
    """Every string of a module; what an f-string puts in is {}."""
    tree = ast.parse(path.read_text("utf-8"))
    inner = {
        id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            yield node.value


def installed(text):
    """What each `pip install` of a text installs, without its options."""
    for found in re.finditer(r"pip install ([^\n`]*)", text):
        words = re.findall(r"[^\s'\"]+", found.group(1).split("' ")[0])
        yield next((word for word in words if not word.startswith("-")), "")


def test_the_reader_of_commands_finds_what_is_installed():
    assert [*installed("run 'pip install --force-reinstall --no-deps .' here")] == ["."]
    assert [*installed("pip install '.[cpu]' in")] == [".[cpu]"]
    assert [*installed("run 'pip install --upgrade grefine-rt', or")] == ["grefine-rt"]


def test_messages_install_from_the_checkout_or_the_wheel():
    named = {
        (path.name, what)
        for path in CODE
        for text in texts(path)
        for what in installed(text)
        if not re.match(r"\.(\[|$|[,;])|\{\}|grefine_rt-[\d.]+-py3-none-any\.whl", what)
    }
    assert named == set()


def test_our_name_is_never_asked_of_an_index():
    assert len(DOCUMENTS) > 20
    for path in (*CODE, *DOCUMENTS):
        text = path.read_text("utf-8")
        assert [what for what in installed(text) if re.match(r"grefine[-_]rt(?!-\d)", what)] == [], path
        assert "grefine-rt[" not in text, path
