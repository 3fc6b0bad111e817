"""Reports, masks, maps and results: how they are named, which files are kept, several pictures in one process."""

import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from grefine_rt.cli.outputs import run_of
from grefine_rt.report.answers import all_maps, map_names
from tests.support import generator_files as made
from tests.support.fake_bundle import scene

PROMPT = "a house, the sea"
POOR = [
    ["house", "house", "sea", "sea"],
    ["house", "poor", "sea", "sea"],
    *[["house", "house", "sea", "sea"]] * 2,
]


def written(path, prompt=PROMPT, size=None):
    image = Image.fromarray(scene(POOR))
    path.write_bytes(made.png({"parameters": prompt}, image if size is None else image.resize(size)))
    return path


@pytest.fixture
def picture(tmp_path):
    return written(tmp_path / "scene.png")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


class TestKept:
    """An existing file is kept unless --overwrite; the same run writes its own anew."""

    def everything(self, run, command, picture, tmp_path, *more):
        files: tuple[object, ...] = ("--report", tmp_path / "r.html", "--maps", tmp_path / "maps")
        if command == "refine":
            files += ("-o", tmp_path / "out.png", "--save-mask", tmp_path / "m.png")
        return run(command, picture, *files, *more)

    @pytest.mark.parametrize("command", ["refine", "assess"])
    def test_the_same_run_writes_its_own_files_anew_and_another_run_none(
        self, run, fake, picture, tmp_path, command
    ):
        for _ in range(2):
            assert self.everything(run, command, picture, tmp_path).exit_code == 0
        ours = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path != picture}
        assert len(ours) == (12 if command == "refine" else 8)
        done = self.everything(run, command, picture, tmp_path, "-p", "a house")
        assert (done.exit_code, "exists already" in done.stderr) == (1, True)
        assert {path: path.read_bytes() for path in ours} == ours
        assert self.everything(run, command, picture, tmp_path, "-p", "a house", "--overwrite").exit_code == 0
        assert all(path.read_bytes() != data for path, data in ours.items() if path.name == "r.html")

    @pytest.mark.parametrize("command", ["refine", "assess"])
    @pytest.mark.parametrize("name", ["r.html", "maps/scene.maps.npz", "maps/scene.technical.png"])
    def test_files_of_others_are_kept(self, run, fake, picture, tmp_path, command, name):
        other = tmp_path / name
        other.parent.mkdir(exist_ok=True)
        if name.endswith(".npz"):
            np.savez(other, mine=np.arange(3))
        elif name.endswith(".png"):
            Image.new("RGB", (20, 20)).save(other)
        else:
            other.write_text("<!doctype html><p>my own page")
        mine = other.read_bytes()
        before = sorted(tmp_path.rglob("*"))
        done = self.everything(run, command, picture, tmp_path)
        assert (done.exit_code, "exists already" in done.stderr) == (1, True)
        assert other.read_bytes() == mine
        assert sorted(tmp_path.rglob("*")) == before
        assert self.everything(run, command, picture, tmp_path, "--overwrite").exit_code == 0
        assert other.read_bytes() != mine

    def test_maps_are_as_numpy_reads_them_and_say_their_run(self, run, fake, picture, tmp_path):
        assert run("refine", picture, "--maps", tmp_path / "maps").exit_code == 0
        runs = {run_of(path) for path in (tmp_path / "maps").iterdir()}
        assert len(runs) == 1
        assert runs == {run_of(tmp_path / "scene.refined.png")}
        with np.load(tmp_path / "maps" / "scene.maps.npz") as maps:
            assert set(maps.files) == set(map_names(refined=True))
        damaged = tmp_path / "maps" / "scene.maps.npz"
        damaged.write_bytes(damaged.read_bytes()[:500])
        assert run_of(damaged) is None
        with zipfile.ZipFile(damaged, "w") as archive:
            archive.comment = b"somebody's own"
        assert run_of(damaged) is None

    def test_names_of_maps_are_those_that_are_made(self, fake):
        from grefine_rt import Refiner

        before = Refiner(fake).assess(scene(POOR), PROMPT)
        mask = np.zeros((128, 128), bool)
        assert tuple(all_maps(before, mask)) == map_names(refined=False)
        assert tuple(all_maps(before, mask, before)) == map_names(refined=True)


class TestFolders:
    def test_one_picture_into_folders_that_exist(self, run, fake, picture, tmp_path):
        out = tmp_path / "out"
        out.mkdir()
        done = run("refine", picture, "-o", out, "--report", out, "--save-mask", out)
        assert done.exit_code == 0, done.stderr
        assert names(out) == ["scene.html", "scene.mask.png", "scene.png"]
        other = tmp_path / "assessed"
        other.mkdir()
        assert run("assess", picture, "--report", other).exit_code == 0
        assert names(other) == ["scene.html"]

    def test_a_mask_and_the_map_of_it_want_one_name(self, run, fake, picture, tmp_path):
        (tmp_path / "out").mkdir()
        done = run("refine", picture, "--save-mask", tmp_path / "out", "--maps", tmp_path / "out")
        assert done.exit_code == 1
        assert "The mask and the map 'mask' cannot both be" in done.stderr
        assert names(tmp_path / "out") == []


class TestSeveral:
    def test_each_picture_has_all_its_files(self, run, fake, picture, tmp_path):
        bad = tmp_path / "bad.png"
        bad.write_bytes(b"no picture")
        second = written(tmp_path / "second.png", "a house")
        folder = tmp_path / "new" / "out"
        places = ("-o", folder, "--report", folder, "--save-mask", folder, "--maps", folder / "maps")
        done = run("refine", picture, bad, second, *places, "--json")
        assert done.exit_code == 1
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert [(line["input"], line["prompt"]) for line in lines] == [
            (str(picture), PROMPT),
            (str(second), "a house"),
        ]
        assert [line["output"] for line in lines] == [str(folder / "scene.png"), str(folder / "second.png")]
        wanted = [f"{stem}{end}" for stem in ("scene", "second") for end in (".html", ".mask.png", ".png")]
        assert names(folder) == ["maps", *wanted]
        assert {name.split(".")[0] for name in names(folder / "maps")} == {"scene", "second"}
        assert "a house, the sea" in (folder / "scene.html").read_text("utf-8")
        assert "a house, the sea" not in (folder / "second.html").read_text("utf-8")
        assert "bad.png" in done.stderr
        assert "1 of 3 pictures failed" in done.stderr
        assert len(fake.loaded) == 1

    def test_what_is_said_of_each_begins_with_its_name(self, run, fake, picture, tmp_path):
        second = written(tmp_path / "second.png")
        done = run("refine", picture, second, "-o", tmp_path / "out")
        assert (done.exit_code, done.stderr) == (0, "")
        lines = done.stdout.splitlines()
        assert lines[0] == f"{picture}:"
        assert lines.index(f"{second}:") > lines.index(f"written: {tmp_path / 'out' / 'scene.png'}")

    def test_the_name_of_a_picture_is_no_folder_of_several(self, run, fake, picture, tmp_path):
        done = run("refine", picture, written(tmp_path / "second.png"), "-o", tmp_path / "x.png")
        assert (done.exit_code, "is the name of a picture" in done.stderr) == (2, True)
        assert not (tmp_path / "x.png").exists()

    def test_without_places_results_are_beside_their_pictures(self, run, fake, picture, tmp_path):
        second = written(tmp_path / "second.png")
        assert run("refine", picture, second).exit_code == 0
        assert names(tmp_path) == ["scene.png", "scene.refined.png", "second.png", "second.refined.png"]

    def test_pictures_of_one_name_never_replace_each_others_files(self, run, fake, picture, tmp_path):
        for folder in ("a", "b"):
            (tmp_path / folder).mkdir()
        one, two = written(tmp_path / "a" / "x.png"), written(tmp_path / "b" / "x.png", "a house")
        for place in (("-o", tmp_path / "out"), ("--report", tmp_path / "out"), ("--maps", tmp_path / "out")):
            done = run("refine", one, two, *place, "--overwrite")
            assert done.exit_code == 1
            assert f'{two}: Its {"picture" if place[0] == "-o" else place[0][2:]} and that of "{one}"' in (
                done.stderr
            )
            assert "different folders" in done.stderr
        assert run("refine", one, one, "-o", tmp_path / "same").exit_code == 0

    def test_no_picture_that_is_still_to_come_is_replaced(self, run, fake, tmp_path):
        for folder in ("a", "b"):
            (tmp_path / folder).mkdir()
        one, two = written(tmp_path / "a" / "x.png"), written(tmp_path / "b" / "x.png", "a house")
        kept = two.read_bytes()
        done = run("refine", one, two, "-o", tmp_path / "b", "--overwrite")
        assert "overwrite the input" in done.stderr
        assert two.read_bytes() == kept

    def test_a_plan_makes_no_folder(self, run, fake, picture, tmp_path):
        done = run("refine", picture, picture, "-o", tmp_path / "out", "--plan-only", "--json")
        assert done.exit_code == 0
        assert len(done.stdout.splitlines()) == 2
        assert names(tmp_path) == ["scene.png"]

    def test_a_file_where_a_folder_should_be_is_one_sentence(self, run, fake, picture, tmp_path):
        (tmp_path / "out").write_text("mine")
        for option in ("-o", "--report", "--save-mask", "--maps"):
            done = run("refine", picture, picture, option, tmp_path / "out")
            assert done.exit_code == 1
            assert "cannot be made" in done.stderr
        assert fake.loaded == fake.loaded[-1:]

    def test_a_result_that_is_named_like_a_second_picture_is_one_sentence(self, run, fake, picture, tmp_path):
        done = run("refine", picture, tmp_path / "better.png")
        assert done.exit_code == 2
        assert done.stderr == (
            f'error: There is no picture "{tmp_path / "better.png"}"; where the result goes is said with '
            f'-o "{tmp_path / "better.png"}".\n'
        )
        assert names(tmp_path) == ["scene.png"]
        assert fake.loaded == []

    def test_folders_and_addresses_are_told_apart_from_missing_pictures(self, run, fake, tmp_path):
        for command in ("refine", "assess"):
            assert "grefine-rt batch" in run(command, tmp_path, "-p", "x").stderr
            assert "is an address" in run(command, "https://example.org/x.png", "-p", "x").stderr
            assert "There is no image" in run(command, "C:/x.png", "-p", "x").stderr

    def test_streams_are_for_one_picture(self, run, fake, picture):
        for arguments in ((picture, "-"), (picture, picture, "-o", "-")):
            done = run("refine", *arguments, "-p", PROMPT)
            assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
