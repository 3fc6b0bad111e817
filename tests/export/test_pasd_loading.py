"""Published PASD checkpoints load strictly, and compute what a plain reference on their tensors computes."""

import json

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from grefine_export.models.pasd_loading import PasdCheckpoint, Sd15
from tests.support import tiny_pasd
from tests.support.fake_hub import FakeHub

KINDS = {"pasd": (False, False), "light": (True, False), "rrdb": (False, True), "light-rrdb": (True, True)}


class Reference:
    """PASD from its tensors alone: nothing of diffusers, nothing of ours. Sizes of `tiny_pasd.LEVELS`."""

    groups = tiny_pasd.LEVELS["norm_num_groups"]
    heads = tiny_pasd.LEVELS["attention_head_dim"]
    width = tiny_pasd.LEVELS["block_out_channels"][0]

    def __init__(self, unet, controlnet):
        self.unet, self.controlnet = unet, controlnet

    def __call__(self, sample, time, context, control, scale):
        features, middle = self.control(sample, time, context, control, scale)
        w, emb = self.unet, self.time(self.unet, time)
        x, skips = self.down(w, sample, emb, context, 0)
        x = self.middle(w, x, emb, context) + middle
        skips = [skip + feature for skip, feature in zip(skips, features, strict=True)]
        for level in range(4):
            for layer in range(3):
                name, feature = f"up_blocks.{level}", features.pop()
                x = self.resnet(w, f"{name}.resnets.{layer}", torch.cat([x, skips.pop()], 1), emb)
                if f"{name}.attentions.{layer}.norm.weight" in w:
                    x = self.transformer(w, f"{name}.attentions.{layer}", x, context, feature)
                if f"{name}.pixel_attentions.{layer}.norm.weight" in w:
                    tokens = feature.flatten(2).mT
                    x = self.transformer(w, f"{name}.pixel_attentions.{layer}", x, tokens, None)
            if level < 3:
                x = self.conv(w, f"{name}.upsamplers.0.conv", F.interpolate(x, scale_factor=2.0))
        return self.conv(w, "conv_out", F.silu(self.norm(w, "conv_norm_out", x, 1e-5)))

    def control(self, sample, time, context, control, scale):
        w, emb = self.controlnet, self.time(self.controlnet, time)
        name = "controlnet_cond_embedding"
        x = F.silu(self.conv(w, f"{name}.conv_in", control))
        for block in range(2 if f"{name}.preprocesser.0.rdb1.conv1.weight" in w else 0):
            x = self.rrdb(w, f"{name}.preprocesser.{block}", x)
        for index in range(6):
            x = F.silu(self.conv(w, f"{name}.blocks.{index}", x, stride=1 + index % 2))
        x, skips = self.down(w, sample, emb, context, self.conv(w, f"{name}.conv_out", x))
        x = self.middle(w, x, emb, context)
        return (
            [
                scale * self.conv(w, f"controlnet_down_blocks.{i}", skip, padding=0)
                for i, skip in enumerate(skips)
            ],
            scale * self.conv(w, "controlnet_mid_block", x, padding=0),
        )

    def rrdb(self, w, name, x):
        out = x
        for dense in (1, 2, 3):
            seen = [out]
            for number in range(1, 5):
                y = self.conv(w, f"{name}.rdb{dense}.conv{number}", torch.cat(seen, 1))
                seen.append(F.leaky_relu(y, 0.2))
            out = out + 0.2 * self.conv(w, f"{name}.rdb{dense}.conv5", torch.cat(seen, 1))
        return x + 0.2 * out

    def time(self, w, time):
        half = self.width // 2
        angles = time * torch.exp(-torch.log(torch.tensor(10000.0)) * torch.arange(half) / half)
        emb = torch.cat([torch.cos(angles), torch.sin(angles)])[None]
        for number in (1, 2):
            emb = self.linear(w, f"time_embedding.linear_{number}", emb if number == 1 else F.silu(emb))
        return emb

    def down(self, w, sample, emb, context, extra):
        x = self.conv(w, "conv_in", sample) + extra
        skips = [x]
        for level in range(4):
            for layer in range(2):
                name = f"down_blocks.{level}"
                x = self.resnet(w, f"{name}.resnets.{layer}", x, emb)
                if f"{name}.attentions.{layer}.norm.weight" in w:
                    x = self.transformer(w, f"{name}.attentions.{layer}", x, context, None)
                skips.append(x)
            if level < 3:
                x = self.conv(w, f"{name}.downsamplers.0.conv", x, stride=2)
                skips.append(x)
        return x, skips

    def middle(self, w, x, emb, context):
        x = self.resnet(w, "mid_block.resnets.0", x, emb)
        x = self.transformer(w, "mid_block.attentions.0", x, context, None)
        return self.resnet(w, "mid_block.resnets.1", x, emb)

    def resnet(self, w, name, x, emb):
        y = self.conv(w, f"{name}.conv1", F.silu(self.norm(w, f"{name}.norm1", x, 1e-5)))
        y = y + self.linear(w, f"{name}.time_emb_proj", F.silu(emb))[:, :, None, None]
        y = self.conv(w, f"{name}.conv2", F.silu(self.norm(w, f"{name}.norm2", y, 1e-5)))
        shortcut = f"{name}.conv_shortcut"
        return y + (self.conv(w, shortcut, x, padding=0) if f"{shortcut}.weight" in w else x)

    def transformer(self, w, name, x, context, feature):
        """`feature`: the control feature, which only PASD-light's blocks read."""
        tokens = self.conv(w, f"{name}.proj_in", self.norm(w, f"{name}.norm", x, 1e-6), padding=0)
        tokens, block = tokens.flatten(2).mT, f"{name}.transformer_blocks.0"
        normed = self.layer_norm(w, f"{block}.norm1", tokens)
        tokens = tokens + self.attention(w, f"{block}.attn1", normed, normed)
        normed = self.layer_norm(w, f"{block}.norm2", tokens)
        tokens = tokens + self.attention(w, f"{block}.attn2", normed, context)
        if f"{block}.attn2_plus.to_q.weight" in w:
            source = self.conv(w, f"{name}.proj_in_plus", feature, padding=0).flatten(2).mT
            normed = self.layer_norm(w, f"{block}.norm2_plus", tokens)
            tokens = tokens + self.attention(w, f"{block}.attn2_plus", normed, source)
        normed = self.layer_norm(w, f"{block}.norm3", tokens)
        value, gate = self.linear(w, f"{block}.ff.net.0.proj", normed).chunk(2, -1)
        tokens = tokens + self.linear(w, f"{block}.ff.net.2", value * F.gelu(gate))
        return x + self.conv(w, f"{name}.proj_out", tokens.mT.reshape(x.shape), padding=0)

    def attention(self, w, name, x, source):
        q, k, v = (
            torch.stack((y @ w[f"{name}.to_{part}.weight"].T).chunk(self.heads, -1))
            for part, y in (("q", x), ("k", source), ("v", source))
        )
        mixed = torch.softmax(q @ k.mT / q.shape[-1] ** 0.5, -1) @ v
        return self.linear(w, f"{name}.to_out.0", torch.cat([*mixed], -1))

    def conv(self, w, name, x, stride=1, padding=1):
        return F.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], stride, padding)

    def linear(self, w, name, x):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(self, w, name, x, eps):
        return F.group_norm(x, self.groups, w[f"{name}.weight"], w[f"{name}.bias"], eps)

    def layer_norm(self, w, name, x):
        return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])


def inputs():
    torch.manual_seed(4)
    context = torch.randn(2, 5, tiny_pasd.WIDTH)
    return torch.randn(2, 4, 8, 16), torch.tensor([321.0]), context, torch.rand(1, 3, 64, 128)


@pytest.mark.parametrize("kind", KINDS)
def test_computes_what_the_reference_computes(tmp_path, kind):
    light, rrdb = KINDS[kind]
    unet, controlnet = tiny_pasd.states("sd15", light, rrdb)
    tiny_pasd.save_pasd(tmp_path / "checkpoint-1", "sd15", light, rrdb)
    model = PasdCheckpoint.find(str(tmp_path)).load()
    expected = Reference(unet, controlnet)(*inputs(), 0.8)
    got = model(*inputs(), conditioning_scale=0.8)
    assert expected.std() > 0.1
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_every_weight_has_its_place_and_rgb_heads_have_none(tmp_path):
    """Pickled, as early versions of diffusers wrote it: the same values under the same names."""
    model = PasdCheckpoint.find(str(tiny_pasd.save_pasd(tmp_path / "p", kind="bin"))).load()
    unet, controlnet = tiny_pasd.states()
    assert torch.equal(model.paca[4].proj_out.weight, unet["up_blocks.1.pixel_attentions.1.proj_out.weight"])
    own = sum(parameter.numel() for parameter in model.parameters())
    heads = sum(value.numel() for name, value in controlnet.items() if ".to_rgbs." in name)
    assert own == sum(value.numel() for value in (*unet.values(), *controlnet.values())) - heads


def test_the_latest_checkpoint_is_taken(tmp_path):
    for number in (900, 1000):
        tiny_pasd.save_pasd(tmp_path / "runs" / f"checkpoint-{number}")
    assert PasdCheckpoint.find(str(tmp_path)).folder.name == "checkpoint-1000"
    tiny_pasd.save_pasd(tmp_path / "other" / "checkpoint-2000", light=True)
    with pytest.raises(
        ValueError, match=r"several PASD models: give one of '.*/other/checkpoint-2000', '.*/runs/"
    ):
        PasdCheckpoint.find(str(tmp_path))


def _edit(file, change):
    state = load_file(file)
    change(state)
    save_file(state, file)


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        (
            "unet",
            lambda state: state.pop("up_blocks.1.pixel_attentions.1.proj_out.bias"),
            r"lacks the weight 'unet/up_blocks\.1\.pixel_attentions\.1\.proj_out\.bias'",
        ),
        (
            "controlnet",
            lambda state: state.update({"zero_convs.0.weight": torch.zeros(1)}),
            r"has the weight 'controlnet/zero_convs\.0\.weight', which",
        ),
        (
            "unet",
            lambda state: state.update({"conv_in.bias": torch.zeros(3)}),
            r"'unet/conv_in\.bias' has shape \(3,\) where its configuration asks for \(32,\)",
        ),
        (
            "unet",
            lambda state: [state.pop(name) for name in [*state] if "pixel_attentions" in name],
            "no pixel-aware attention",
        ),
    ],
)
def test_a_wrong_key_is_named_in_one_sentence(tmp_path, part, change, message):
    folder = tiny_pasd.save_pasd(tmp_path / "p")
    _edit(folder / part / "diffusion_pytorch_model.safetensors", change)
    with pytest.raises(ValueError, match=message) as caught:
        PasdCheckpoint.find(str(folder)).load()
    assert "\n" not in str(caught.value)


def test_other_folders_are_refused_in_one_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        PasdCheckpoint.find(str(tmp_path / "nothing"))
    with pytest.raises(ValueError, match=r"no unet/config\.json"):
        PasdCheckpoint.find(str(tmp_path))
    sdxl = tiny_pasd.save_pasd(tmp_path / "sdxl", more={"addition_embed_type": "text_time"})
    with pytest.raises(ValueError, match="is PASD-SDXL"):
        PasdCheckpoint.find(str(sdxl)).unet_config()
    folder = tiny_pasd.save_pasd(tmp_path / "p")
    (folder / "unet" / "config.json").write_text("[")
    with pytest.raises(ValueError, match=r"config\.json' is no JSON"):
        PasdCheckpoint.find(str(folder)).unet_config()
    (folder / "controlnet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="no file of weights"):
        PasdCheckpoint.find(str(folder)).files()


# --- the Stable Diffusion 1.5 below it


def original_names(folder):
    """A diffusers folder's VAE and text encoder under the names of the original code, as fine-tunes come."""
    state = {}
    vae = tiny_pasd.vae().state_dict()
    for name, value in vae.items():
        for ours, theirs in (
            ("mid_block.resnets.0", "mid.block_1"),
            ("mid_block.resnets.1", "mid.block_2"),
            ("mid_block.attentions.0", "mid.attn_1"),
            ("group_norm", "norm"),
            ("to_q", "q"),
            ("to_k", "k"),
            ("to_v", "v"),
            ("to_out.0", "proj_out"),
            ("conv_norm_out", "norm_out"),
            ("conv_shortcut", "nin_shortcut"),
            ("downsamplers.0", "downsample"),
            ("upsamplers.0", "upsample"),
            *((f"down_blocks.{i}.", f"down.{i}.") for i in range(4)),
            *((f"up_blocks.{i}.", f"up.{3 - i}.") for i in range(4)),
            ("resnets.", "block."),
        ):
            name = name.replace(ours, theirs)
        if "attn_1" in name and value.ndim == 2:
            value = value[:, :, None, None]  # 1 x 1 convolutions there
        state[f"first_stage_model.{name}"] = value.contiguous()
    for name, value in tiny_pasd.text_encoder().state_dict().items():
        state[f"cond_stage_model.transformer.text_model.{name}"] = value
    return state


def test_a_base_in_half_precision_becomes_single(tmp_path):
    """As the hub offers it: only files named .fp16."""
    for name, model in (("vae", tiny_pasd.vae()), ("text_encoder", tiny_pasd.text_encoder())):
        model.half().save_pretrained(tmp_path / name, variant="fp16")
    base = Sd15.find(str(tmp_path))
    for ours, theirs in ((base.vae(), tiny_pasd.vae()), (base.text_encoder(), tiny_pasd.text_encoder())):
        expected = theirs.state_dict()
        for name, value in ours.state_dict().items():
            assert value.dtype == torch.float32
            assert torch.equal(value, expected[name].half().float())


@pytest.mark.parametrize("form", ["folder", "safetensors", "ckpt"])
def test_base_of_every_form_gives_the_same_parts(tmp_path, form):
    folder = tiny_pasd.save_base(tmp_path / "sd15")
    path = folder
    if form != "folder":
        path = tmp_path / f"fine-tune.{form}"
        state = original_names(folder)
        save_file(state, path) if form == "safetensors" else torch.save({"state_dict": state}, path)
    base = Sd15.find(str(path))
    vae, text = base.vae(), base.text_encoder()
    assert vae.config.scaling_factor == 0.18215
    for ours, theirs in ((vae, tiny_pasd.vae()), (text, tiny_pasd.text_encoder())):
        expected = theirs.state_dict()
        assert ours.state_dict().keys() == expected.keys()
        assert all(torch.equal(value, expected[name]) for name, value in ours.state_dict().items())
    assert base.vocabulary() == tiny_pasd.VOCABULARY
    assert (base.tokenizer_folder() is not None) == (form == "folder")


def original_unet_names():
    """The UNet of a personalised model in a file of the original code."""
    places = {
        "conv_in": "input_blocks.0.0",
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
    }
    for level in range(4):
        for layer in range(3):
            down, up = f"input_blocks.{1 + 3 * level + layer}", f"output_blocks.{3 * level + layer}"
            for kind, number in (("resnets", 0), ("attentions", 1)):
                places[f"down_blocks.{level}.{kind}.{layer}"] = f"{down}.{number}"
                places[f"up_blocks.{level}.{kind}.{layer}"] = f"{up}.{number}"
        places[f"down_blocks.{level}.downsamplers.0.conv"] = f"input_blocks.{3 * level + 3}.0.op"
        places[f"up_blocks.{level}.upsamplers.0"] = f"output_blocks.{3 * level + 2}.{2 if level else 1}"
        places |= {
            f"mid_block.{part}": f"middle_block.{index}"
            for index, part in enumerate(("resnets.0", "attentions.0", "resnets.1"))
        }
    inside = {
        "norm1": "in_layers.0",
        "conv1": "in_layers.2",
        "time_emb_proj": "emb_layers.1",
        "norm2": "out_layers.0",
        "conv2": "out_layers.3",
        "conv_shortcut": "skip_connection",
    }
    state = {}
    for name, value in tiny_pasd.base_unet().state_dict().items():
        place = max((place for place in places if name.startswith(f"{place}.")), key=len)
        rest = name.removeprefix(f"{place}.")
        part, _, leaf = rest.rpartition(".")
        rest = f"{inside[part]}.{leaf}" if "resnets" in place else rest
        state[f"model.diffusion_model.{places[place]}.{rest}"] = value
    return state


@pytest.mark.parametrize("form", ["folder", "file"])
def test_personalised_takes_the_unet_of_the_base_and_keeps_paca(tmp_path, form):
    folder = tiny_pasd.save_pasd(tmp_path / "p")
    base = tmp_path / "fine-tune.safetensors"
    if form == "folder":
        base = tiny_pasd.save_base(tmp_path / "sd15")
    else:
        save_file(original_unet_names(), base)
    pasd = PasdCheckpoint.find(str(folder))
    model = pasd.load(Sd15.find(str(base), unet=True).unet_weights(pasd.unet_config()))
    unet, controlnet = tiny_pasd.states()
    own = tiny_pasd.base_unet().state_dict()
    expected = Reference({**unet, **own}, controlnet)(*inputs(), 1.0)
    torch.testing.assert_close(model(*inputs()), expected, rtol=1e-4, atol=1e-5)


def test_wrong_bases_are_refused_in_one_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match="give a Stable Diffusion"):
        Sd15.find(str(tmp_path / "nothing"))
    with pytest.raises(ValueError, match="has no text_encoder"):
        Sd15.find(str(tmp_path))
    file = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(2)}, file)
    with pytest.raises(ValueError, match="no text encoder of Stable Diffusion"):
        Sd15(file).text_encoder()
    base = tiny_pasd.save_base(tmp_path / "sd15")
    (base / "text_encoder" / "config.json").write_text(json.dumps({"hidden_size": 8}))
    with pytest.raises(ValueError, match="no text encoder of Stable Diffusion"):
        Sd15.find(str(base)).text_encoder()
    with pytest.raises(ValueError, match=r"has 'stray', which PASD's lacks"):
        PasdCheckpoint.find(str(tiny_pasd.save_pasd(tmp_path / "p"))).load({"stray": torch.zeros(1)})


def test_hub_ids_bring_what_is_needed_and_no_pickle_beside_safetensors(tmp_path, monkeypatch):
    hub = FakeHub(monkeypatch, tmp_path / "hub", tmp_path / "cache")
    tiny_pasd.save_pasd(hub.root / "someone" / "pasd" / "runs" / "checkpoint-7", "flat")
    base = tiny_pasd.save_base(hub.root / "someone" / "sd15", "flat")
    (base / "vae" / "diffusion_pytorch_model.bin").write_bytes(b"pickle")
    lines = []
    pasd = PasdCheckpoint.find("someone/pasd", lines.append)
    assert pasd.folder.name == "checkpoint-7"
    assert pasd.load().light is False
    sd15 = Sd15.find("someone/sd15", say=lines.append)
    assert sd15.vocabulary() == tiny_pasd.VOCABULARY
    assert sd15.tokenizer_folder() is not None
    assert not [name for name in hub.fetched if name.endswith(".bin") or name.startswith("unet/")]
    hub.offline = True
    assert PasdCheckpoint.find("someone/pasd", lines.append) == pasd
    with pytest.raises(FileNotFoundError, match="someone/other"):
        PasdCheckpoint.find("someone/other", lines.append)


def test_of_several_models_of_a_repository_only_one_is_fetched(tmp_path, monkeypatch):
    hub = FakeHub(monkeypatch, tmp_path / "hub", tmp_path / "cache")
    for name in ("pasd/checkpoint-5", "pasd/checkpoint-12", "pasd_light"):
        tiny_pasd.save_pasd(hub.root / "someone" / "models" / name, "flat")
    with pytest.raises(
        ValueError, match="holds several PASD models: give one of 'someone/models/pasd/checkpoint-12'"
    ):
        PasdCheckpoint.find("someone/models", print)
    with pytest.raises(ValueError, match=r"'someone/models/none' on the hub has no unet/config\.json"):
        PasdCheckpoint.find("someone/models/none", print)
    with pytest.raises(
        FileNotFoundError, match=r"no folder 'runs/pasd/checkpoint-5', and 'runs/pasd' cannot be"
    ):
        PasdCheckpoint.find("runs/pasd/checkpoint-5", print)
    assert hub.fetched == []
    found = PasdCheckpoint.find("someone/models/pasd", print)
    assert found.folder.parts[-2:] == ("pasd", "checkpoint-12")
    assert {name.rsplit("/", 2)[0] for name in hub.fetched} == {"pasd/checkpoint-12"}
    assert found.load().light is False
    hub.offline = True
    assert PasdCheckpoint.find("someone/models/pasd", print) == found


def test_models_side_by_side_are_several(tmp_path, monkeypatch):
    hub = FakeHub(monkeypatch, tmp_path / "hub", tmp_path / "cache")
    for name in ("pasd", "pasd_light"):
        tiny_pasd.save_pasd(hub.root / "someone" / "models" / name, "flat")
    with pytest.raises(ValueError, match="several PASD models: give one of 'someone/models/pasd', 'someone/"):
        PasdCheckpoint.find("someone/models", print)
    assert PasdCheckpoint.find("someone/models/pasd_light", print).folder.name == "pasd_light"
    hub.offline = True
    assert PasdCheckpoint.find("someone/models", print).folder.name == "pasd_light"  # all that the cache has


def test_a_model_at_the_root_of_a_repository_serves_from_the_cache(tmp_path, monkeypatch):
    hub = FakeHub(monkeypatch, tmp_path / "hub", tmp_path / "cache")
    tiny_pasd.save_pasd(hub.root / "someone" / "pasd", "flat")
    tiny_pasd.save_base(hub.root / "someone" / "sd15", "flat")
    found = PasdCheckpoint.find("someone/pasd", print), Sd15.find("someone/sd15")
    hub.offline = True
    assert (PasdCheckpoint.find("someone/pasd", print), Sd15.find("someone/sd15")) == found
