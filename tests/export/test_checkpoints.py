"""Tensors from every form of file, and nothing else than tensors."""

import json
import os
import pickle
import struct
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from grefine_export.checkpoints import locate, read_tensors
from tests.support.clip_files import save_torchscript
from tests.support.fake_hub import FakeHub


@pytest.fixture(scope="module")
def tensors():
    generator = torch.Generator().manual_seed(1)
    return {
        "visual.layer1.0.weight": torch.randn(3, 4, generator=generator).half(),
        "visual.layer1.1.weight": torch.randn(2, 3, generator=generator).T,  # not contiguous
        "logit_scale": torch.tensor(4.6),
        "count": torch.tensor(7),
        "nothing": torch.empty(0, dtype=torch.float16),
        "bfloat": torch.randn(5, generator=generator).bfloat16(),
    }


def assert_same(got, expected):
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        assert got[name].dtype == value.dtype, name
        assert torch.equal(got[name], value), name


def contiguous(tensors):
    return {name: value.contiguous() for name, value in tensors.items()}


def test_safetensors(tensors, tmp_path):
    save_file(contiguous(tensors), tmp_path / "any.name")
    assert_same(read_tensors(tmp_path / "any.name"), tensors)


@pytest.mark.parametrize("nested", [None, "state_dict", "model", "params"])
@pytest.mark.parametrize("legacy", [False, True])
def test_state_dict(tensors, tmp_path, nested, legacy):
    content = {**tensors, "epoch": 3} if nested is None else {"epoch": 3, nested: tensors}
    torch.save(content, tmp_path / "x.pth", _use_new_zipfile_serialization=not legacy)
    assert_same(read_tensors(tmp_path / "x.pth"), tensors)


def test_prefix_of_parallel_training(tensors, tmp_path):
    torch.save(
        {"state_dict": {f"module.{name}": value for name, value in tensors.items()}}, tmp_path / "x.pt"
    )
    assert_same(read_tensors(tmp_path / "x.pt"), tensors)


def test_torchscript_archive(tensors, tmp_path):
    path = save_torchscript(tensors, tmp_path / "RN50.pt")
    with pytest.raises(RuntimeError):  # torch itself reads these only by loading the program
        torch.load(path, weights_only=True)
    assert_same(read_tensors(path), tensors)


def test_folder_prefers_safetensors(tensors, tmp_path):
    torch.save({"other": torch.zeros(1)}, tmp_path / "pytorch_model.bin")
    assert list(read_tensors(tmp_path)) == ["other"]
    save_file(contiguous(tensors), tmp_path / "model.safetensors")
    assert_same(read_tensors(tmp_path), tensors)


def sharded(tensors, folder):
    first, *rest = contiguous(tensors).items()
    save_file(dict([first]), folder / "model-00001-of-00002.safetensors")
    save_file(dict(rest), folder / "model-00002-of-00002.safetensors")
    files = {name: f"model-0000{1 if name == first[0] else 2}-of-00002.safetensors" for name in tensors}
    return files


def write_index(files, folder):
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))


def test_folder_with_an_index(tensors, tmp_path):
    write_index(sharded(tensors, tmp_path), tmp_path)
    assert_same(read_tensors(tmp_path), tensors)


@pytest.mark.parametrize("name", ["gone.safetensors", "../outside.safetensors"])
def test_index_of_files_that_are_not_there(tensors, tmp_path, name):
    folder = tmp_path / "model"
    folder.mkdir()
    save_file({"x": torch.zeros(1)}, tmp_path / "outside.safetensors")
    write_index({**sharded(tensors, folder), "x": name}, folder)
    with pytest.raises(ValueError, match="fetch the model whole"):
        read_tensors(folder)


def test_index_that_is_none(tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text("[1")
    with pytest.raises(ValueError, match="no index"):
        read_tensors(tmp_path)


# --- what must not be read


class Touch:
    """Its pickle writes a file when an unrestricted reader loads it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_calls_something_is_refused_and_not_run(tmp_path):
    trap = tmp_path / "trap"
    torch.save({"weight": torch.zeros(2), "x": Touch(trap)}, tmp_path / "x.pt")
    with pytest.raises(ValueError, match="without executing code: convert it to safetensors"):
        read_tensors(tmp_path / "x.pt")
    assert not trap.exists()


def archive(path, pickled, data=b"\0" * 16):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x/data.pkl", pickled)
        file.writestr("x/constants.pkl", pickle.dumps(()))
        file.writestr("x/code/__torch__.py", "raise SystemExit")
        file.writestr("x/data/0", data)
    return path


def test_an_archive_that_calls_something_is_refused_and_not_run(tmp_path):
    trap = tmp_path / "trap"
    path = archive(tmp_path / "x.pt", pickle.dumps(Touch(trap)))
    with pytest.raises(ValueError, match=r"(posix|nt)\.mkdir"):
        read_tensors(path)
    assert not trap.exists()


def forged(tmp_path, size=(2, 2), stride=(2, 1), offset=0, count=4, function="_rebuild_tensor_v2"):
    """An archive with one tensor over 16 bytes of data, its description as given."""
    # Protocol 2 by hand: an object of __torch__.M whose only attribute is the tensor.
    out = b"\x80\x02c__torch__\nM\n)\x81}X\x01\x00\x00\x00w"
    out += b"ctorch._utils\n" + function.encode() + b"\n("
    out += b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
    out += b"J" + struct.pack("<i", count) + b"tQ"
    out += b"J" + struct.pack("<i", offset)
    for numbers in (size, stride):
        out += b"(" + b"".join(b"J" + struct.pack("<i", n) for n in numbers) + b"t"
    out += b"\x89ccollections\nOrderedDict\n)RtRsb."
    data = torch.arange(4.0).numpy().tobytes()
    return archive(tmp_path / "x.pt", out, data)


def test_the_forged_archive_reads_when_it_is_right(tmp_path):
    assert_same(read_tensors(forged(tmp_path)), {"w": torch.tensor([[0.0, 1.0], [2.0, 3.0]])})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"count": 400}, "cut off"),
        ({"size": (3, 2)}, "beyond its data"),
        ({"offset": 1}, "beyond its data"),
        ({"offset": -1}, "shape is wrong"),
        ({"function": "_rebuild_qtensor"}, "torch._utils._rebuild_qtensor"),
    ],
)
def test_tensors_that_leave_their_data(tmp_path, wrong, message):
    with pytest.raises(ValueError, match=message):
        read_tensors(forged(tmp_path, **wrong))


@pytest.mark.parametrize(
    "content", [b"", b"no checkpoint at all", b"\x80\x02", b"PK\x03\x04broken", b"\0" * 9 + b"{"]
)
def test_anything_else_is_one_sentence(tmp_path, content):
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.pt"):
        read_tensors(tmp_path / "x.pt")


def test_a_cut_off_file(tensors, tmp_path):
    for name, write in (("a.pt", save_torchscript), ("b.safetensors", save_file), ("c.pt", torch.save)):
        write(contiguous(tensors), tmp_path / name)
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ValueError, match=name):
            read_tensors(tmp_path / name)


def test_no_tensors(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "x.pt")
    with pytest.raises(ValueError, match="no tensors by name"):
        read_tensors(tmp_path / "x.pt")
    torch.save([torch.zeros(2)], tmp_path / "y.pt")
    with pytest.raises(ValueError, match="no tensors by name"):
        read_tensors(tmp_path / "y.pt")


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        read_tensors(tmp_path / "gone.pt")
    with pytest.raises(ValueError, match="no file of weights"):
        read_tensors(tmp_path)


# --- the hub


@pytest.fixture
def hub(monkeypatch, tmp_path):
    return FakeHub(monkeypatch, tmp_path / "hub", tmp_path / "cache")


def _model(hub, *names):
    folder = hub.root / "some" / "model"
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_text(name)
    return "some/model"


def test_what_is_here_is_not_fetched(hub, tmp_path, monkeypatch):
    hub.offline = True
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "clip").mkdir(parents=True)
    assert locate("models/clip") == locate(str(tmp_path / "models" / "clip")).relative_to(tmp_path)
    assert str(locate("./gone/clip")) == os.path.join("gone", "clip")


@pytest.mark.parametrize(
    ("wanted", "others"),
    [
        (["config.json", "merges.txt", "model.safetensors"], ["pytorch_model.bin", "tf_model.h5"]),
        (["ImageReward.pt"], ["README.md", "med_config.json"]),
        (["model-00001-of-00002.safetensors", "model.safetensors.index.json"], ["pytorch_model.bin"]),
    ],
)
def test_fetching_one_form_of_the_weights(hub, wanted, others):
    folder = locate(_model(hub, *wanted, *others))
    assert sorted(hub.fetched) == wanted
    assert (folder / wanted[0]).read_text() == wanted[0]


def test_what_was_fetched_serves_without_the_hub(hub):
    there = locate(_model(hub, "config.json", "model.safetensors"))
    hub.offline = True
    assert locate("some/model") == there


def test_a_hub_that_answers_only_later_is_asked_for_no_more(hub):
    there, ask = locate(_model(hub, "model.safetensors", "tf_model.h5")), hub.model_info

    def fail_once(*_, **__):
        hub.model_info = ask
        raise OSError("no route")

    hub.model_info = fail_once
    assert locate("some/model") == there
    assert hub.fetched == ["model.safetensors"]


def test_no_hub(hub):
    hub.offline = True
    with pytest.raises(
        FileNotFoundError, match=r"^'some/model' cannot be had .*unreachable\): .* give its folder$"
    ):
        locate("some/model")


def test_a_model_without_weights(hub):
    with pytest.raises(ValueError, match="no file of weights"):
        locate(_model(hub, "README.md"))
