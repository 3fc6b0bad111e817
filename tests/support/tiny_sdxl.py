"""Small random SDXL checkpoints in the file layouts of the published ones."""

import json

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from grefine_export.models.inpaint import TIME_IDS
from grefine_export.models.lora import original_names
from tests.support import clip_files

VOCABULARY, LENGTH = clip_files.VOCABULARY, 77
WIDTH, WIDTH_2, POOLED = 64, 128, 32
SCHEDULER = {
    "_class_name": "EulerDiscreteScheduler",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "steps_offset": 1,
    "timestep_spacing": "leading",
}


def unet(channels=9, seed=1, **config):
    """Three levels, as SDXL: none, one and two transformer blocks."""
    torch.manual_seed(seed)
    sizes = {
        "block_out_channels": (32, 64, 64),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 1, 2),
        "attention_head_dim": (1, 1, 1),
        "layers_per_block": 1,
        "cross_attention_dim": WIDTH + WIDTH_2,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": POOLED + TIME_IDS * 256,
        "sample_size": 128,
    }
    return UNet2DConditionModel(in_channels=channels, out_channels=4, **{**sizes, **config}).eval()


def vae(seed=2):
    torch.manual_seed(seed)
    return AutoencoderKL(
        block_out_channels=(32, 32, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=4,
        scaling_factor=0.13025,
    ).eval()


def text_config(width, activation):
    return CLIPTextConfig(
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=width // 64,
        hidden_act=activation,
        vocab_size=VOCABULARY,
        max_position_embeddings=LENGTH,
        projection_dim=POOLED,
        bos_token_id=VOCABULARY - 2,
        eos_token_id=VOCABULARY - 1,
    )


def texts(seed=3):
    torch.manual_seed(seed)
    first = CLIPTextModel(text_config(WIDTH, "quick_gelu"))
    second = CLIPTextModelWithProjection(text_config(WIDTH_2, "gelu"))
    for parameter in (*first.parameters(), *second.parameters()):
        if parameter.ndim == 2:
            nn.init.normal_(parameter, std=0.1)
    return first.eval(), second.eval()


class Model:
    """All parts; each is made at its first use."""

    def __init__(self, channels=9, **config):
        self.unet, self.vae = unet(channels, **config), vae()
        self.first, self.second = texts()


def _save(tensors, path):
    save_file({name: value.detach().clone().contiguous() for name, value in tensors.items()}, path)


def _text_state(encoder):
    """With the outer name that published files have and newer modules lack."""
    return {
        name if name.startswith(("text_model.", "text_projection.")) else f"text_model.{name}": value
        for name, value in encoder.state_dict().items()
    }


def _save_part(folder, state, config, stem, half, shards):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    state = {
        name: value.half() if half and value.is_floating_point() else value for name, value in state.items()
    }
    variant = ".fp16" if half else ""
    if shards == 1:
        _save(state, folder / f"{stem}{variant}.safetensors")
        return
    names, where = [*state], {}
    for number in range(shards):
        file = f"{stem}{variant}-{number + 1:05}-of-{shards:05}.safetensors"
        part = {name: state[name] for name in names[number::shards]}
        _save(part, folder / file)
        where |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": 1}, "weight_map": where}
    (folder / f"{stem}.safetensors.index{variant}.json").write_text(json.dumps(index))


def _config(model, name):
    config = {key: value for key, value in model.config.items() if not key.startswith("_")}
    return {"_class_name": name, **config}


def save_unet(unet, folder, half=False, shards=1):
    config = _config(unet, "UNet2DConditionModel")
    _save_part(folder, unet.state_dict(), config, "diffusion_pytorch_model", half, shards)


def save_vae(vae, folder, half=False, shards=1):
    config = _config(vae, "AutoencoderKL")
    _save_part(folder, vae.state_dict(), config, "diffusion_pytorch_model", half, shards)


def save_folder(model, folder, half=False, shards=1, scheduler=SCHEDULER):
    """A pipeline's folder as diffusers writes it."""
    save_unet(model.unet, folder / "unet", half, shards)
    save_vae(model.vae, folder / "vae", half)
    for name, encoder in (("text_encoder", model.first), ("text_encoder_2", model.second)):
        _save_part(folder / name, _text_state(encoder), encoder.config.to_dict(), "model", half, 1)
    for name, pad in (("tokenizer", "<|endoftext|>"), ("tokenizer_2", "!")):
        files = clip_files.small_tokenizer_files(folder / name)
        (files / "tokenizer_config.json").write_text(
            json.dumps({"pad_token": pad, "tokenizer_class": "CLIPTokenizer", "model_max_length": LENGTH})
        )
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    index = {"_class_name": "StableDiffusionXLInpaintPipeline", "force_zeros_for_empty_prompt": True}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def save_single(model, path, half=False):
    """One file with the names of the original code, as people share fine-tunes."""
    state = {f"model.diffusion_model.{name}": value for name, value in original_unet(model.unet).items()}
    state |= {f"first_stage_model.{name}": value for name, value in original_vae(model.vae).items()}
    first = "conditioner.embedders.0.transformer."
    state |= {f"{first}{name}": value for name, value in _text_state(model.first).items()}
    state[f"{first}text_model.embeddings.position_ids"] = torch.arange(LENGTH)[None]
    state |= {
        f"conditioner.embedders.1.model.{name}": value for name, value in open_clip(model.second).items()
    }
    _save({n: v.half() if half and v.is_floating_point() else v for n, v in state.items()}, path)
    return path


def original_unet(unet):
    names = dict(original_names(unet))
    return {
        f"{names[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}": value
        for name, value in unet.state_dict().items()
    }


def original_vae(vae):
    plain = [
        (".resnets.", ".block."),
        (".downsamplers.0.", ".downsample."),
        (".upsamplers.0.", ".upsample."),
        ("mid_block.block.0.", "mid.block_1."),
        ("mid_block.block.1.", "mid.block_2."),
        ("mid_block.attentions.0.", "mid.attn_1."),
        ("group_norm", "norm"),
        ("to_out.0", "proj_out"),
        ("to_q", "q"),
        ("to_k", "k"),
        ("to_v", "v"),
        ("conv_norm_out", "norm_out"),
        ("conv_shortcut", "nin_shortcut"),
        ("down_blocks.", "down."),
        *((f"up_blocks.{i}.", f"up.{3 - i}.") for i in range(4)),
    ]
    state = {}
    for name, value in vae.state_dict().items():
        for new, old in plain:
            name = name.replace(new, old)
        projection = "mid.attn_1" in name and value.ndim == 2
        state[name] = value[:, :, None, None] if projection else value
    return state


def open_clip(encoder):
    """The second text encoder: joined q, k, v; the projection the other way round."""
    text = encoder.text_model
    modules = {"ln_final": text.final_layer_norm}
    state = {
        "token_embedding.weight": text.embeddings.token_embedding.weight,
        "positional_embedding": text.embeddings.position_embedding.weight,
        "text_projection": encoder.text_projection.weight.T,
        "logit_scale": torch.tensor(4.6),
    }
    for index, layer in enumerate(text.encoder.layers):
        block, attention = f"transformer.resblocks.{index}", layer.self_attn
        thirds = (attention.q_proj, attention.k_proj, attention.v_proj)
        state[f"{block}.attn.in_proj_weight"] = torch.cat([part.weight for part in thirds])
        state[f"{block}.attn.in_proj_bias"] = torch.cat([part.bias for part in thirds])
        modules[f"{block}.attn.out_proj"] = attention.out_proj
        modules[f"{block}.ln_1"], modules[f"{block}.ln_2"] = layer.layer_norm1, layer.layer_norm2
        modules[f"{block}.mlp.c_fc"], modules[f"{block}.mlp.c_proj"] = layer.mlp.fc1, layer.mlp.fc2
    for name, module in modules.items():
        state[f"{name}.weight"], state[f"{name}.bias"] = module.weight, module.bias
    return state
