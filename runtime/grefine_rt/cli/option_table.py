"""The table of all options, docs/options.md: `python -m grefine_rt.cli.option_table > docs/options.md`."""

from __future__ import annotations

from collections.abc import Iterable

from grefine_rt.assess.options import AssessOptions
from grefine_rt.options import Option, options_of
from grefine_rt.plan.options import PlanOptions, RefineOptions

_HEAD = """# Options

Made from the fields of the options classes by `python -m grefine_rt.cli.option_table > docs/options.md`; change the
fields, not this page. Without a default, an option is the bundle's own (`bundle.json`). A value that an option does not
allow is an `OptionError` in Python and exit code 2 on the command line, with one sentence that names what is allowed.
`refine` takes all of them, `assess` and `evaluate` those that concern them; `--help-all` lists them.
"""


def markdown() -> str:
    """The page, one table for each options class."""
    assess, plan = options_of(AssessOptions), options_of(PlanOptions)
    rest = [each for each in options_of(RefineOptions) if each not in (*assess, *plan)]
    sections = {"AssessOptions": assess, "PlanOptions": plan, "RefineOptions": rest}
    return _HEAD + "".join(_section(name, options) for name, options in sections.items())


def _section(name: str, options: Iterable[Option]) -> str:
    rows = [("name", "command line", "default", "what it is"), ("---",) * 4]
    rows += [(f"`{each.name}`", _given(each), _default(each), _meaning(each)) for each in options]
    return f"\n## {name}\n\n" + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _given(option: Option) -> str:
    if option.reading:
        given = f"--reading {option.name}={option.values}"
    elif option.flag is None:
        return ""
    elif option.kind is bool:
        given = f"--no-{option.flag[2:]}" if option.default else option.flag
    else:
        given = f"{option.flag} {option.values}"
    return "`" + given.replace("|", "\\|") + "`"


def _default(option: Option) -> str:
    return f"`{option.shown_default}`" if option.shown_default else ""


def _meaning(option: Option) -> str:
    unit = f"Unit: {option.unit}." if option.unit else ""
    return " ".join(filter(None, [option.help, unit, option.more])).replace("|", "\\|")


if __name__ == "__main__":
    print(markdown(), end="")
