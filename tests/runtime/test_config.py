"""Defaults from files, the command as a module, shell completion."""

import json
import re
import subprocess
import sys

import pytest
import typer
from PIL import Image

from grefine_rt import OptionError
from grefine_rt.cli import app, config
from tests.support.fake_bundle import scene
from tests.support.paths import ROOT
from tests.support.processes import ENVIRONMENT

POOR = [
    ["house", "house", "sea", "sea"],
    ["house", "poor", "sea", "sea"],
    *[["house", "house", "sea", "sea"]] * 2,
]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """An empty folder to work in, and an empty one for the user's configuration."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("GREFINE_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    Image.fromarray(scene(POOR)).save("scene.png")
    return folder


@pytest.fixture
def planned(fake, run):
    """What a plan was made with: planned(arguments) gives the options of the JSON output."""

    def planned(*arguments):
        result = run("refine", "scene.png", "-p", "a house, the sea", "--plan-only", "--json", *arguments)
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)["options"]

    return planned


def test_options_and_readings_of_a_file_are_defaults_and_the_command_line_wins(home, planned):
    (home / "grefine.toml").write_text(
        'drafts = 2\ninterval = [0.0, 0.5]\ndecoding = "plain"\nmatch-rim = false\nindicators = ["perceptual"]\n'
    )
    own = {
        "drafts": 2,
        "interval": [0.0, 0.5],
        "decoding": "plain",
        "match_rim": False,
        "indicators": ["perceptual"],
    }
    assert planned() == own
    assert planned("--drafts", "3", "--reading", "decoding=quality") == own | {
        "drafts": 3,
        "decoding": "quality",
    }


def test_what_commands_share_comes_from_the_file_too(home, fake, run):
    (home / "grefine.toml").write_text(
        'bundle = "mine"\ndevice = "cpu"\nthreads = 2\n[assess]\nthreads = 3\n'
    )
    run("refine", "scene.png", "-p", "a house", "--plan-only")
    run("assess", "scene.png", "-p", "a house")
    run("assess", "scene.png", "-p", "a house", "--threads", "1", "--bundle", "other")
    assert fake.loaded == [("mine", "cpu", 2), ("mine", "cpu", 3), ("other", "cpu", 1)]


def test_every_command_with_options_of_the_method_takes_them_from_the_file():
    commands = getattr(typer.main.get_command(app), "commands")  # noqa: B009  # not every command has them
    own = {name for name, command in commands.items() if hasattr(command.callback, "method_options")}
    assert own == {"refine", "assess", "batch", "evaluate"}
    assert own <= set(config.COMMANDS) <= set(commands)


def test_format_and_switches_of_the_table_of_a_command(home, fake, run):
    (home / "grefine.toml").write_text('[refine]\nformat = "webp"\njson = true\n')
    result = run("refine", "scene.png", "-p", "a house, the sea")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["output"] == "scene.refined.webp"
    assert Image.open("scene.refined.webp").format == "WEBP"


def test_the_nearest_file_is_read_and_a_pyproject_without_the_table_is_none(home, planned, monkeypatch):
    (home / "pyproject.toml").write_text("[tool.grefine]\ndrafts = 4\n")
    inner = home / "inner"
    inner.mkdir()
    (inner / "pyproject.toml").write_text("[tool.other]\ndrafts = 5\n")
    Image.fromarray(scene(POOR)).save(inner / "scene.png")
    monkeypatch.chdir(inner)
    assert planned() == {"drafts": 4}
    (inner / "grefine.toml").write_text("drafts = 6\n")
    assert planned() == {"drafts": 6}


def test_the_user_s_file_and_the_environment_s(home, tmp_path, planned, monkeypatch):
    own = tmp_path / "config" / "grefine-rt"
    own.mkdir(parents=True)
    (own / "grefine.toml").write_text("drafts = 2\n")
    assert planned() == {"drafts": 2}
    (tmp_path / "other.toml").write_text("drafts = 3\n")
    monkeypatch.setenv("GREFINE_CONFIG", str(tmp_path / "other.toml"))
    assert planned() == {"drafts": 3}
    monkeypatch.setenv("GREFINE_CONFIG", "")
    assert planned() == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("drats = 2", "unknown key 'drats': did you mean 'drafts'?"),
        ("[refine]\nshow_prompt = true", "unknown key 'refine.show_prompt'"),
        ("[refin]\ndrafts = 2", "unknown key 'refin': did you mean 'refine'?"),
        ("[evaluate]\ndrafts = 2", "unknown key 'evaluate.drafts'"),
        ("[refine]\noverwrite = true", "the key 'refine.overwrite', which is for the command line alone"),
        ("host = '0.0.0.0'", "the key 'host', which is for the command line alone"),
        ("help = true", "unknown key 'help'"),
        ("drafts = 0", "the key 'drafts' must be a whole number"),
        ("drafts = 1979-05-27", "'drafts' must be a text, a number"),
        ('decoding = "some"', "The reading 'decoding' must be"),
        ("interval = [1]", "'interval' must be a list of two numbers"),
        ("threads = 'many'", "--threads"),
        ("drafts = ", "is no TOML file"),
        ("drafts = '\udcff'", "is no TOML file"),
        ("a = " + "[" * 5000, "is no TOML file"),
    ],
)
def test_what_is_wrong_is_one_sentence(home, fake, run, text, said):
    (home / "grefine.toml").write_bytes(text.encode(errors="surrogateescape"))
    result = run("refine", "scene.png", "-p", "a house", "--plan-only")
    assert result.exit_code == 2
    assert said in re.sub(r"[\s│]+", " ", result.stderr)
    assert "Traceback" not in result.stderr


def test_a_file_that_is_not_there_or_a_table_that_is_none(home, fake, run, monkeypatch):
    monkeypatch.setenv("GREFINE_CONFIG", "nowhere.toml")
    result = run("refine", "scene.png")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "'nowhere.toml' cannot be read" in result.stderr
    monkeypatch.delenv("GREFINE_CONFIG")
    (home / "pyproject.toml").write_text("[tool]\ngrefine = 3\n")
    assert "tool.grefine must be a table" in run("refine", "scene.png").stderr


def test_other_commands_need_no_sound_file(home, run):
    (home / "grefine.toml").write_text("drats = 2")
    assert run("bundle", "list").exit_code == 0


def test_the_api_reads_no_file(home):
    (home / "grefine.toml").write_text("drafts = 9")
    from grefine_rt import RefineOptions

    assert RefineOptions().plan.drafts is None
    with pytest.raises(OptionError):
        config.defaults_of({}, "refine")


def test_the_package_is_the_command():
    said = [
        subprocess.run(
            [sys.executable, "-m", module, "--version"], env=ENVIRONMENT, capture_output=True, text=True
        ).stdout
        for module in ("grefine_rt", "grefine_rt.cli")
    ]
    assert said[0] == said[1] != ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_and_options(home, shell):
    def complete(line):
        words = line.split(" ")
        more = {
            "_GREFINE_RT_COMPLETE": f"complete_{shell}",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words) - 1),
            "_TYPER_COMPLETE_ARGS": line,
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        }
        program = "import sys; sys.argv = ['grefine-rt']; from grefine_rt.cli import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", program], env=ENVIRONMENT | more, capture_output=True, text=True
        )
        assert done.stderr == ""
        return done.stdout

    (home / "grefine.toml").write_text("drats = 2")  # completing needs no sound file
    assert re.findall(r"\b(assess|refine)\b", complete("grefine-rt as"))[:1] == ["assess"]
    assert "--strength" in complete("grefine-rt refine --stre")


def test_the_page_names_every_variable_that_the_code_reads():
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "runtime").rglob("*.py"))
    read = set(re.findall(r"environ(?:\.get|\.setdefault)?[\[(]\s*\"(\w+)\"", code))
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert {"GREFINE_CACHE", "GREFINE_CONFIG", "GREFINE_DEBUG"} <= read
    assert [name for name in sorted(read) if f"`{name}`" not in page] == []


def test_the_example_of_the_page_is_a_file_that_works(home, planned):
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```toml\n(.+?)```", page, re.DOTALL)
    (home / "grefine.toml").write_text(example)
    assert planned() == {
        "drafts": 2,
        "interval": [0.0, 0.8],
        "decoding": "difference",
        "outside": "refine",
    }
