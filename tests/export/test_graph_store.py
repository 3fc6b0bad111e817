"""The tests' own store of traced graphs: what its key tells apart, and that a graph out of it is the traced one."""

import copy

import pytest
import torch
from torch import nn

from grefine_export.onnx.convert import export
from tests.support import graph_store, tiny_models

INPUTS = {"x": torch.randn(2, 3)}


class Scaled(nn.Module):
    def __init__(self, scale=2.0):
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.scale = nn.Linear(3, 3), scale

    def forward(self, x):
        return self.linear(x) * self.scale


def key(module, rows=2, **options):
    return graph_store._key(module, (torch.randn(rows, 3),), options)


def test_equal_modules_have_one_key_and_all_others_their_own(monkeypatch):
    first = key(Scaled())
    assert first == key(Scaled()) == key(copy.deepcopy(Scaled()))
    shifted, tied = Scaled(), Scaled()
    shifted.linear.bias.data += 1e-6
    tied.linear.bias = nn.Parameter(tied.linear.bias.detach().expand(3))
    tied.linear.weight.data = tied.linear.bias.data.expand(3, 3)
    others = [key(Scaled(2.5)), key(Scaled().half()), key(shifted), key(tied), key(Scaled(), 3)]
    others.append(key(Scaled(), opset_version=20))
    monkeypatch.setattr(Scaled, "forward", lambda self, x: self.linear(x) + self.scale)
    others.append(key(Scaled()))
    assert len({first, *others}) == len(others) + 1


def test_a_configuration_of_diffusers_has_a_key_that_other_processes_find():
    """The list of its default values comes out of a set: in another order in each process."""
    one, other = tiny_models.vae(), tiny_models.vae()
    config = dict(other.kl._internal_dict)
    config["_use_default_values"] = config["_use_default_values"][::-1]
    other.kl._internal_dict = type(one.kl._internal_dict)(config)
    assert graph_store._key(one, (), {}) == graph_store._key(other, (), {})


def test_what_cannot_be_pickled_is_traced():
    class Local(Scaled):
        pass

    assert key(Local()) is None


def test_a_graph_out_of_the_store_is_the_traced_one(tmp_path, monkeypatch):
    store = tmp_path / "store"
    store.mkdir()
    files = [tmp_path / f"{name}.onnx" for name in ("traced", "read")]
    with graph_store.bypassed(), graph_store.shared(store):
        export(Scaled(3.0), INPUTS, ["y"], {"x": {0: "n"}}, files[0])
        monkeypatch.setattr(torch.export, "export", lambda *_, **__: pytest.fail("traced again"))
        export(Scaled(3.0), INPUTS, ["y"], {"x": {0: "n"}}, files[1])
    assert files[0].read_bytes() == files[1].read_bytes()
    assert len([*store.glob("*.onnx")]) == 1
