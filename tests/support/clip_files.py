"""Random CLIPs and the files in which people have them, written by the layout of each source."""

import json

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPConfig, CLIPModel

VOCABULARY = 560  # of `small_tokenizer_files`


def small_config(vocabulary=VOCABULARY, patch=16, grid=4, blocks=8):
    """Heads of 64 channels, as in all of OpenAI's; 8 blocks, of which 6 have two paths."""
    text = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 1,
        "vocab_size": vocabulary,
        "max_position_embeddings": 77,
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
    }
    vision = {
        "hidden_size": 128,
        "intermediate_size": 160,
        "num_hidden_layers": blocks,
        "num_attention_heads": 2,
        "image_size": patch * grid,
        "patch_size": patch,
    }
    return CLIPConfig(text_config=text, vision_config=vision, projection_dim=40)


def full_config(name):
    """The sizes of OpenAI's models."""
    vision = {"ViT-B/32": {"patch_size": 32}, "ViT-B/16": {"patch_size": 16}, "ViT-L/14": {"patch_size": 14}}[
        name
    ]
    text, projected = {}, 512
    if name == "ViT-L/14":
        vision |= {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24}
        vision["num_attention_heads"] = 16
        text, projected = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}, 768
    return CLIPConfig(text_config=text, vision_config=vision, projection_dim=projected)


def random_clip(config, seed=3):
    """Every weight has a say, and activations stay of the order of 1."""
    with torch.device("meta"):
        clip = CLIPModel(config)
    clip = clip.to_empty(device="cpu").eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in clip.named_parameters():
            if name == "logit_scale":
                parameter.fill_(3.0)
                continue
            parameter.normal_(generator=generator)
            if "norm" in name or "layrnorm" in name:
                parameter.mul_(0.1).add_(1.0 if name.endswith("weight") else 0.0)
            elif name.endswith("bias") or "embedding" in name:
                parameter.mul_(0.1)
            else:
                parameter.mul_(parameter[0].numel() ** -0.5)
        for part in (clip.text_model.embeddings, clip.vision_model.embeddings):
            part.position_ids.copy_(torch.arange(part.position_ids.shape[1])[None])
    return clip.requires_grad_(False)


def openai_state(clip):
    """OpenAI's names (open_clip has the same): joined q, k, v; projections the other way round."""
    state = {"logit_scale": clip.logit_scale}
    text, vision = clip.text_model, clip.vision_model
    state["token_embedding.weight"] = text.embeddings.token_embedding.weight
    state["positional_embedding"] = text.embeddings.position_embedding.weight
    state["text_projection"] = clip.text_projection.weight.T
    state["visual.class_embedding"] = vision.embeddings.class_embedding
    state["visual.positional_embedding"] = vision.embeddings.position_embedding.weight
    state["visual.conv1.weight"] = vision.embeddings.patch_embedding.weight
    state["visual.proj"] = clip.visual_projection.weight.T
    modules = {
        "ln_final": text.final_layer_norm,
        "visual.ln_pre": vision.pre_layrnorm,
        "visual.ln_post": vision.post_layernorm,
    }
    for prefix, layers in (("", text.encoder.layers), ("visual.", vision.encoder.layers)):
        for index, layer in enumerate(layers):
            block, attention = f"{prefix}transformer.resblocks.{index}", layer.self_attn
            thirds = (attention.q_proj, attention.k_proj, attention.v_proj)
            state[f"{block}.attn.in_proj_weight"] = torch.cat([part.weight for part in thirds])
            state[f"{block}.attn.in_proj_bias"] = torch.cat([part.bias for part in thirds])
            modules[f"{block}.attn.out_proj"] = attention.out_proj
            modules[f"{block}.ln_1"], modules[f"{block}.ln_2"] = layer.layer_norm1, layer.layer_norm2
            modules[f"{block}.mlp.c_fc"], modules[f"{block}.mlp.c_proj"] = layer.mlp.fc1, layer.mlp.fc2
    for name, module in modules.items():
        state[f"{name}.weight"], state[f"{name}.bias"] = module.weight, module.bias
    return {name: value.detach().contiguous() for name, value in state.items()}


class _Part(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def save_torchscript(state, path):
    """An archive with code, as OpenAI's .pt files are."""
    root = _Part()
    for name, value in state.items():
        *parents, leaf = name.split(".")
        module = root
        for parent in parents:
            if not hasattr(module, parent):
                module.add_module(parent, _Part())
            module = getattr(module, parent)
        if value.is_floating_point():
            module.register_parameter(leaf, nn.Parameter(value, requires_grad=False))
        else:
            module.register_buffer(leaf, value)
    torch.jit.save(torch.jit.trace(root, torch.zeros(1), check_trace=False), path)
    return path


def save_transformers(clip, folder):
    """A folder of transformers: config.json and model.safetensors."""
    clip.save_pretrained(folder)
    return folder


OPENAI_CONSTANTS = {
    name: torch.tensor(value)
    for name, value in (("input_resolution", 224), ("context_length", 77), ("vocab_size", 49408))
}
"""Three numbers that are no weights, by which OpenAI's archives can be told."""


def write_open_clip_config(folder, **settings):
    """`open_clip_config.json` of a CLIP with OpenAI's activation unless `settings` say else."""
    model = {"embed_dim": 40, "quick_gelu": True, **settings}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model}))


def save_open_clip(clip, path):
    save_file(openai_state(clip), path)
    write_open_clip_config(path.parent)
    return path


def small_tokenizer_files(folder, vocabulary=VOCABULARY):
    """vocab.json and merges.txt in the form of transformers' CLIP folders."""
    folder.mkdir(parents=True, exist_ok=True)
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    alphabet = [chr(code) for code in (*printable, *range(256, 512 - len(printable)))]
    tokens = [*alphabet, *(symbol + "</w>" for symbol in alphabet)]
    words = ("good", "bad", "photo", "sharp", "red", "cat")
    merges = []
    for word in words:
        left = word[0]
        for index, letter in enumerate(word[1:], start=1):
            right = letter + "</w>" if index == len(word) - 1 else letter
            if (left, right) not in merges and len(tokens) < vocabulary - 2:
                merges.append((left, right))
                tokens.append(left + right)
            left += right
    tokens += [f"<spare{i}>" for i in range(vocabulary - 2 - len(tokens))]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary_file = folder / "vocab.json"
    vocabulary_file.write_text(json.dumps({token: i for i, token in enumerate(tokens)}), encoding="utf-8")
    lines = ["#version: 0.2", *(f"{a} {b}" for a, b in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def random_resnet(layers=(1, 1, 1, 1), width=4, grid=2, projected=40, seed=5):
    """A state with OpenAI's names of the image side of CLIP RN50: convolutions, norms with their statistics, pool."""
    generator = torch.Generator().manual_seed(seed)
    state = {}

    def convolution(name, out, channels, side):
        weight = torch.randn(out, channels, side, side, generator=generator)
        state[f"visual.{name}.weight"] = weight * (2 / (channels * side * side)) ** 0.5

    def norm(name, channels):
        state[f"visual.{name}.weight"] = 0.7 + 0.1 * torch.randn(channels, generator=generator)
        state[f"visual.{name}.bias"] = 0.1 * torch.randn(channels, generator=generator)
        state[f"visual.{name}.running_mean"] = 0.1 * torch.randn(channels, generator=generator)
        state[f"visual.{name}.running_var"] = 0.8 + 0.4 * torch.rand(channels, generator=generator)
        state[f"visual.{name}.num_batches_tracked"] = torch.tensor(10)

    half = width // 2
    for number, (out, channels) in enumerate(((half, 3), (half, half), (width, half)), start=1):
        convolution(f"conv{number}", out, channels, 3)
        norm(f"bn{number}", out)
    channels = width
    for stage, blocks in enumerate(layers):
        planes = width * 2**stage
        for block in range(blocks):
            prefix = f"layer{stage + 1}.{block}"
            sizes = ((planes, channels, 1), (planes, planes, 3), (4 * planes, planes, 1))
            for number, (out, inner, side) in enumerate(sizes, start=1):
                convolution(f"{prefix}.conv{number}", out, inner, side)
                norm(f"{prefix}.bn{number}", out)
            if block == 0:
                convolution(f"{prefix}.downsample.0", 4 * planes, channels, 1)
                norm(f"{prefix}.downsample.1", 4 * planes)
            channels = 4 * planes
    pool = "visual.attnpool"
    state[f"{pool}.positional_embedding"] = torch.randn(grid * grid + 1, channels, generator=generator)
    for name, out in (("q", channels), ("k", channels), ("v", channels), ("c", projected)):
        weight = torch.randn(out, channels, generator=generator)
        state[f"{pool}.{name}_proj.weight"] = weight * channels**-0.5
        state[f"{pool}.{name}_proj.bias"] = 0.1 * torch.randn(out, generator=generator)
    return state


def with_text_of(clip, resnet):
    """The whole of a CLIP RN50: the text side of `clip` and the image side `resnet`, both with OpenAI's names."""
    text = {name: value for name, value in openai_state(clip).items() if not name.startswith("visual.")}
    return {**resnet, **text, **OPENAI_CONSTANTS}
