"""Every sentence that an error can say, from the code: `python docs/error_sentences.py > docs/errors.md`.

What is put into a sentence at run time stands there in capitals. A sentence that is joined from parts is followed into
names and functions of the package as far as that goes without running them.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from grefine_rt import errors

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "runtime" / "grefine_rt"
KINDS = {
    name: kind
    for name, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, errors.GRefineError)
}
HEAD = """# Every error sentence

Made from the code by `python docs/error_sentences.py > docs/errors.md`; change the code, not this page. What depends
on the call stands in capitals; MEND is the command that brings a bundle back. Each sentence says what is wrong and,
where that is not plain, what to do next; [troubleshooting](troubleshooting.md) sorts them by what mends them and says
more of those that are met most. In Python the class is the one of the heading, all of them a `GRefineError`; the
command line prints the sentence after `error: ` and ends with exit code 2 for `OptionError`, 1 for the others.
"""


@cache
def modules() -> dict[str, ast.Module]:
    """The modules of the runtime by their path in the package."""
    return {
        path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text("utf-8"))
        for path in sorted(PACKAGE.rglob("*.py"))
    }


@cache
def constants() -> dict[str, ast.expr]:
    """Texts that modules give names to."""
    found: dict[str, ast.expr] = {}
    for module in modules().values():
        for node in module.body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                found.setdefault(node.targets[0].id, node.value)
    return found


@cache
def functions() -> dict[str, ast.FunctionDef]:
    """Functions and methods by name."""
    nodes = (node for module in modules().values() for node in ast.walk(module))
    return {node.name: node for node in nodes if isinstance(node, ast.FunctionDef)}


def sentences() -> Iterator[tuple[str, str, str]]:
    """Class, sentence and module of every error that the runtime raises or makes."""
    for name, module in modules().items():
        for function in ast.walk(module):
            if not isinstance(function, ast.FunctionDef):
                continue
            for node in ast.walk(function):
                kind = kind_of(node)
                if kind and isinstance(node, ast.Call) and node.args:
                    for text in texts(node.args[0], function, 0):
                        yield kind, text, name


def kind_of(node: ast.AST) -> str | None:
    """The class of the error that an expression makes."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in KINDS:
        return node.func.id
    return None


def texts(node: ast.expr, function: ast.FunctionDef, depth: int) -> Iterator[str]:
    """What a text can be."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield "".join(part_of(part) for part in node.values)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        for left in texts(node.left, function, depth):
            yield from (left + right for right in texts(node.right, function, depth))
    elif isinstance(node, ast.IfExp):
        yield from texts(node.body, function, depth)
        yield from texts(node.orelse, function, depth)
    elif depth < 3 and isinstance(node, ast.Name):
        for value in assigned(node.id, function):
            yield from texts(value, function, depth + 1)
    elif depth < 3 and isinstance(node, ast.Call) and (called := functions().get(name_of(node.func))):
        for part in ast.walk(called):
            if isinstance(part, ast.Return) and part.value is not None:
                yield from texts(part.value, called, depth + 1)


def assigned(name: str, function: ast.FunctionDef) -> list[ast.expr]:
    """The values that a function, or else a module, gives a name."""
    values = [
        node.value
        for node in ast.walk(function)
        if isinstance(node, ast.Assign)
        and any(isinstance(t, ast.Name) and t.id == name for t in node.targets)
    ]
    return values or ([constants()[name]] if name in constants() else [])


def part_of(part: ast.expr) -> str:
    """A part of an f-string: its text, that of a constant, or a name in capitals."""
    if isinstance(part, ast.Constant):
        return str(part.value)
    assert isinstance(part, ast.FormattedValue)
    value = part.value
    known = constants().get(value.id) if isinstance(value, ast.Name) and value.id.isupper() else None
    if known is not None and isinstance(known, ast.Constant | ast.JoinedStr):
        return "".join(map(part_of, known.values)) if isinstance(known, ast.JoinedStr) else str(known.value)
    return name_of(value).strip("_").replace("_", " ").upper() or "..."


def name_of(node: ast.expr) -> str:
    """The name that says best what an expression is."""
    match node:
        case ast.Name():
            return node.id
        case ast.Attribute():
            return name_of(node.value) if node.attr in ("name", "strerror", "parent") else node.attr
        case ast.Call(
            func=ast.Name(id="shown" | "str" | "int" | "len" | "type" | "repr" | "sorted"), args=[first, *_]
        ):
            return name_of(first)
        case ast.Call(func=ast.Attribute(attr="join"), args=[first]):
            return name_of(first)
        case ast.Call():
            return name_of(node.func)
        case ast.BoolOp(values=[*_, last]):
            return name_of(last)
        case ast.BinOp():
            return name_of(node.left)
        case ast.Subscript():
            return name_of(node.value)
        case ast.GeneratorExp() | ast.ListComp():
            return name_of(node.elt)
        case ast.Starred():
            return name_of(node.value)
    return ""


def page() -> str:
    """The page."""
    found: dict[str, dict[str, set[str]]] = {}
    for kind, text, module in sentences():
        text = " ".join(text.split())
        if len(re.findall(r"[a-z]{2,}", text)) >= 2:
            found.setdefault(kind, {}).setdefault(text, set()).add(module.removesuffix(".py"))
    parts = [HEAD]
    for kind in sorted(found):
        said = (inspect.getdoc(KINDS[kind]) or "").replace("\n", " ")
        parts.append(f"\n## {kind}\n{said}\n\n| sentence | from |\n|---|---|\n")
        for text, homes in sorted(found[kind].items(), key=lambda item: item[0].lower()):
            shown = text.replace("|", "\\|").replace("`", "'")
            parts.append(f"| `{shown}` | {', '.join(sorted(homes))} |\n")
    return "".join(parts)


if __name__ == "__main__":
    sys.stdout.write(page())
