"""A random IP-IQA, small, in which every weight has a say, and the files that one is trained from."""

import json

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import CLIPTextConfig

from grefine_export.models.clip_resnet import AttentionPool2d, ModifiedResNet
from grefine_export.models.clip_resnet_surgery import ResNetClip
from grefine_export.models.ip_iqa import Design, IpIqa, encoders

WORDS = ("a", "red", "blue", "house", "cat", "sun", "boat", "and", "under", "in", "the", "sky")
LENGTH, BOS, EOT = 24, len(WORDS), len(WORDS) + 1


def tiny_clip(seed=51):
    """A CLIP with a ResNet: 4 heads of 64 channels in the pool, features of 24."""
    torch.manual_seed(seed)
    trunk = ModifiedResNet((1, 1, 1, 1), 8)
    text = CLIPTextConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=1,
        vocab_size=len(WORDS) + 2,
        max_position_embeddings=LENGTH,
        bos_token_id=BOS,
        eos_token_id=EOT,
        hidden_act="quick_gelu",
    )
    clip = ResNetClip(trunk, AttentionPool2d(2, trunk.channels, 4, 24), text, 24)
    with torch.no_grad():
        for name, parameter in clip.named_parameters():
            if name.startswith("text_model") and parameter.ndim > 1:
                parameter.mul_(8)
            elif parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
        for name, value in trunk.state_dict().items():
            if name.endswith("running_mean"):
                value.add_(0.1 * torch.randn_like(value))
            elif value.ndim == 4:
                value.copy_(torch.randn_like(value) * (2 / value[0].numel()) ** 0.5)
    return clip.eval().requires_grad_(False)


def tiny_ip_iqa(design=None, seed=52):
    design, clip = design or Design(), tiny_clip()
    torch.manual_seed(seed)
    model = IpIqa(*encoders(clip, design.qa_token), design)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "proj.weight" in name and not name.startswith("text"):
                parameter.mul_(4)
    if design.prompt and design.qa_token:
        with torch.no_grad():
            model.text.qa.add_(0.5 * torch.randn_like(model.text.qa))
    return model.eval()


def write_tokenizer(folder):
    """`tokenizer.json` of `WORDS` with CLIP's special tokens; returns the file."""
    vocabulary = {word: i for i, word in enumerate((*WORDS, "<|startoftext|>", "<|endoftext|>"))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="a"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["<|startoftext|>", "<|endoftext|>"])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


def write_checkpoint(folder, seed=51):
    """The tiny CLIP with the names of an OpenAI ResNet, as safetensors, and its tokenizer; returns the folder."""
    write_tokenizer(folder)
    save_file(openai_names(tiny_clip(seed)), folder / "model.safetensors")
    return folder


def openai_names(clip):
    """OpenAI's names for a ResNetClip."""
    tensors = {f"visual.{name}": value for name, value in clip.visual.state_dict().items()}
    tensors |= {f"visual.attnpool.{name}": value for name, value in clip.attnpool.state_dict().items()}
    text = clip.text_model
    tensors |= {
        "token_embedding.weight": text.embeddings.token_embedding.weight,
        "positional_embedding": text.embeddings.position_embedding.weight,
        "ln_final.weight": text.final_layer_norm.weight,
        "ln_final.bias": text.final_layer_norm.bias,
        "text_projection": clip.text_projection.weight.T,
        "logit_scale": clip.logit_scale,
        # What OpenAI's archives hold beside the weights.
        "input_resolution": torch.tensor(64),
        "context_length": torch.tensor(LENGTH),
        "vocab_size": torch.tensor(len(WORDS) + 2),
    }
    for number, layer in enumerate(text.encoder.layers):
        block = f"transformer.resblocks.{number}"
        for part in ("weight", "bias"):
            thirds = [getattr(getattr(layer.self_attn, f"{letter}_proj"), part) for letter in "qkv"]
            tensors[f"{block}.attn.in_proj_{part}"] = torch.cat(thirds)
            for theirs, module in (
                ("attn.out_proj", layer.self_attn.out_proj),
                ("ln_1", layer.layer_norm1),
                ("ln_2", layer.layer_norm2),
                ("mlp.c_fc", layer.mlp.fc1),
                ("mlp.c_proj", layer.mlp.fc2),
            ):
                tensors[f"{block}.{theirs}.{part}"] = getattr(module, part)
    return {name: value.detach().clone().contiguous() for name, value in tensors.items()}


def write_diffusiondb(folder, pictures):
    """One part in DiffusionDB's layout out of (name, PIL image, prompt)."""
    part = folder / "part-000001"
    part.mkdir(parents=True)
    entries = {}
    for name, image, prompt in pictures:
        image.save(part / name)
        entries[name] = {"p": prompt, "se": 1, "c": 7.0, "st": 50, "sa": "k_lms"}
    (part / "part-000001.json").write_text(json.dumps(entries))
    return folder
