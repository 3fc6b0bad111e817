"""Options: one field is the check, the flag, the JSON, the help and the row in the docs."""

import dataclasses
import os
import re
import subprocess
import sys
import types
from dataclasses import dataclass, field
from typing import Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from grefine_rt import AssessOptions, PlanOptions, RefineOptions
from grefine_rt.bundle import manifest
from grefine_rt.cli import option_table
from grefine_rt.cli.method import takes
from grefine_rt.cli.output import one_line_failures
from grefine_rt.errors import OptionError
from grefine_rt.options import (
    Checked,
    Option,
    build,
    changed,
    option,
    options_of,
    parse_option,
    parse_reading,
    to_text,
)
from tests.support.paths import ROOT

ALL = options_of(RefineOptions)
SYMBOL = re.compile(
    r"(?<![\w/'.-])[pPM](?![\w/'.-])|[+-] A\b|A_j|\ba (is|of|from|fell)\b|Eq\.|Table \d|\bn[12]\b|\balpha\b|prod "
)


@pytest.mark.parametrize("declared", ALL, ids=lambda declared: declared.name)
def test_what_an_option_says_needs_no_paper_beside_it(declared):
    assert SYMBOL.search("the defect map 1 - P + A"), "it finds some"
    assert not SYMBOL.search(f"{declared.help} {declared.more} {declared.unit} {declared.panel}")


@dataclass(frozen=True)
class Inner(Checked):
    hue: Literal["warm", "cold"] | None = option(None, "Which light.", reading=True)
    plain: bool = option(True, "Nothing added.", reading=True)


@dataclass(frozen=True)
class Toy(Checked):
    inner: Inner = field(default_factory=Inner)
    depth: int | None = option(None, "How deep it goes.", within=(1, 9), unit="metres", panel="Digging")
    share: float = option(0.5, "How much is taken.", within=(0, 1), positive=True, panel="Digging")
    level: float | Literal["auto"] = option("auto", "Where it stops.", panel="Digging", flag="--stop")
    sides: tuple[Literal["left", "right"], ...] = option(("left", "right"), "Sides.", panel="Digging")
    span: tuple[float, float] | None = option(None, "From where to where.", within=(0, 1), panel="Digging")
    quick: bool = option(False, "In a hurry.", panel="Digging")
    gentle: bool = option(True, "With care.", panel="Digging")
    hidden: int = option(3, "For experts.", panel="Digging", advanced=True)
    inside: str = option("", "Of Python alone.", flag=None)


@pytest.fixture
def dig():
    """A command that takes Toy's options, and what it was called with."""
    app, seen = typer.Typer(context_settings={"help_option_names": ["-h", "--help"]}), []

    @app.command()
    @one_line_failures
    @takes(Toy)
    def dig(where: str, *, options: Toy) -> None:
        seen.append((where, options))

    return (lambda *arguments: CliRunner().invoke(app, arguments, env={"COLUMNS": "100"})), seen


def test_a_field_is_a_flag_a_reading_and_json(dig):
    run, seen = dig
    line = (
        "garden --depth 4 --share 1 --stop 2.5 --sides right --span 0.2 0.8 --quick --no-gentle --hidden 5 "
        "--reading hue=cold --reading plain=off --reading hue=warm"
    )
    done = run(*line.split())
    assert (done.exit_code, done.stderr) == (0, "")
    given = {"depth": 4, "share": 1.0, "level": 2.5, "sides": ("right",), "span": (0.2, 0.8)}
    given |= {"quick": True, "gentle": False, "hidden": 5}
    assert seen == [("garden", Toy(Inner("warm", False), **given))]
    json = {"hue": "warm", "plain": False, **given, "sides": ["right"], "span": [0.2, 0.8]}
    assert changed(seen[0][1]) == json
    assert run("garden").exit_code == 0
    assert seen[1] == ("garden", Toy())
    assert changed(Toy()) == {}


def test_a_field_is_its_help_and_the_experts_part_is_shown_on_request(dig):
    run, seen = dig
    text, everything = run("--help").stdout, run("--help-all").stdout
    for words in ("Digging", "--depth", "1..9", "How deep it goes. Unit: metres.", "--stop", "NUMBER|auto"):
        assert words in text
    assert "How much is taken. Default: 0.5." in text
    assert "--reading" in text
    for words in ("--hidden", "hue=warm|cold", "Which light."):
        assert words not in text
        assert words in everything
    assert "--inside" not in everything
    assert seen == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--depth 10", "--depth must be a whole number from 1 to 9, not '10'"),
        ("--depth 2.0", "--depth must be a whole number"),
        ("--share 0", "--share must be a number above 0 up to 1, not '0'"),
        ("--stop nan", "--stop must be a number or 'auto', not 'nan'"),
        ("--sides up", "--sides must be one or more of 'left', 'right'"),
        ("--span 0.8 0.2", "--span must be two rising numbers from 0 to 1, not '0.8,0.2'"),
        ("--reading hue=dark", "The reading 'hue' must be 'warm' or 'cold', not 'dark'"),
        ("--reading plain=1", "The reading 'plain' must be on or off"),
        ("--reading depth=3", "there are hue=warm|cold, plain=on|off"),
        ("--reading hue", "NAME=VALUE"),
    ],
)
def test_what_a_field_does_not_allow_is_one_sentence(dig, line, words):
    run, seen = dig
    done = run("garden", *line.split())
    assert done.exit_code == 2
    assert words in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert seen == []


def refusal(cls, name, value):
    try:
        cls(**{name: value})
    except OptionError as error:
        return str(error)
    return ""


NOTHING = object()
WRONG = [
    NOTHING,
    b"x",
    [1],
    {},
    (),
    ((),),
    1j,
    np.zeros((9, 9)),
    10**400,
    -1.5,
    float("nan"),
    "\n" * 99,
    "off",
    (1, "x"),
]


@pytest.mark.parametrize("cls", [AssessOptions, PlanOptions, RefineOptions, Toy])
def test_no_wrong_value_of_any_option_goes_unnoticed(cls):
    refused = 0
    for each in dataclasses.fields(cls):
        for value in (*WRONG, True, 1, 0.5, "trained", ("alignment",)):
            told = refusal(cls, each.name, value)
            if told:
                assert f"'{each.name}'" in told
                assert "\n" not in told
                assert len(told) < 250
                refused += 1
            else:
                assert each.name in changed(cls(**{each.name: value})) or value == each.default
        with pytest.raises(OptionError):
            cls(**{each.name: NOTHING})
    assert refused > 12 * len(dataclasses.fields(cls))


@pytest.mark.parametrize(
    "bad",
    [
        *({"stages": 1}, {"stages": [1, 2]}, {"stages": (True,)}, {"stages": ("1",)}, {"indicators": None}),
        *({"full_image": 1}, {"full_image": None}, {"drafts": True}, {"drafts": "3"}, {"tau": "0.5"}),
        *(
            {"interval": 0.5},
            {"interval": (0, None)},
            {"work": None},
            {"crop": ("auto",)},
            {"window": float("inf")},
        ),
    ],
)
def test_a_value_of_the_wrong_type_is_an_option_error(bad):
    with pytest.raises(OptionError, match=f"'{next(iter(bad))}'"):
        PlanOptions(**bad)


def test_options_inside_options_are_checked():
    with pytest.raises(OptionError, match="'plan' must be PlanOptions, not None"):
        RefineOptions(plan=None)
    with pytest.raises(OptionError, match="'assess' must be AssessOptions"):
        RefineOptions(PlanOptions())


def values(declared: Option):
    """Values that an option allows, for Hypothesis."""
    low, high = declared.within or (-1e6, 1e6)
    numbers = st.floats(low, high, exclude_min=declared.positive)
    plain = {
        bool: st.booleans(),
        str: st.text(),
        int: st.integers(int(low), int(high)),
        float: numbers,
        tuple[float, float]: st.tuples(numbers, numbers).map(lambda pair: tuple(sorted(pair))),
    }

    def of(kind):
        if kind in plain:
            return plain[kind]
        members = get_args(kind)
        if members[-1] is ...:
            return st.lists(st.sampled_from(get_args(members[0])), min_size=1).map(tuple)
        return st.sampled_from(members)

    union = get_origin(declared.kind) in (Union, types.UnionType)
    kinds = get_args(declared.kind) if union else (declared.kind,)
    return st.one_of([of(kind) for kind in kinds if kind is not type(None)])


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_every_allowed_value_goes_through_text_and_back(data):
    declared = data.draw(st.sampled_from(ALL))
    value = data.draw(values(declared))
    assert parse_option(declared, to_text(value)) == value
    made = build(RefineOptions, {declared.name: value})
    assert changed(made).get(declared.name, declared.default) in (
        value,
        list(value) if isinstance(value, tuple) else value,
    )


def test_json_of_options_makes_them_again():
    given = {
        "joining": "product",
        "stages": [2],
        "interval": [0.1, 0.9],
        "scoring": "published",
        "color_fix": "off",
    }
    options = build(RefineOptions, given)
    assert (options.plan.stages, options.plan.interval, options.assess.scoring) == (
        (2,),
        (0.1, 0.9),
        "published",
    )
    assert changed(options) == given
    for wrong in ({"joinning": "product"}, {"plan": {}}, {"stages": [3]}, {"stages": [[1]]}):
        with pytest.raises(OptionError, match=next(iter(wrong))):
            build(RefineOptions, wrong)


def test_the_declarations_are_whole():
    names = [each.name for each in ALL]
    assert len(names) == len(set(names))
    flags = [each.flag for each in ALL if each.flag]
    assert len(flags) == len(set(flags))
    for each in ALL:
        assert each.help.endswith("."), each.name
        assert each.panel or each.flag is None
        if each.default is not None:
            assert parse_option(each, to_text(each.default)) == each.default
    assert parse_reading([each for each in ALL if each.reading], " joining = product ") == (
        "joining",
        "product",
    )


def test_a_bundle_and_the_options_mean_the_same_readings():
    shared = {each.name: each.kind for each in ALL if each.reading}
    own = {}
    for section in (manifest.Perceptual, manifest.Plan, manifest.Restore):
        own |= get_type_hints(section)
    both = shared.keys() & own.keys()
    assert both == {
        "scoring",
        "joining",
        "missing_region",
        "strength_rule",
        "redraw",
        "decoding",
        "color_fix",
    }
    for name in both:
        assert shared[name] == own[name] | None


def test_the_page_of_options_is_the_one_that_the_fields_make():
    page = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")
    assert page == option_table.markdown(), "run: python -m grefine_rt.cli.option_table > docs/options.md"


def test_the_help_of_refine_fits_on_two_screens_and_shows_all_on_request():
    environment = {
        **os.environ,
        "COLUMNS": "100",
        "PYTHONPATH": str(ROOT / "runtime"),
        "PYTHONIOENCODING": "utf-8",
    }

    def lines(flag):
        command = [sys.executable, "-m", "grefine_rt.cli", "refine", flag]
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, check=True, timeout=60
        )
        return done.stdout.splitlines()

    brief, everything = lines("--help"), lines("--help-all")
    assert len(brief) <= 100
    assert max(map(len, everything)) <= 100
    text = "\n".join(everything)
    for each in ALL:
        assert (f"{each.name}=" if each.reading else each.flag or "") in text
