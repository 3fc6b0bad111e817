"""The authors' IP-IQA once more: their names of weights and their forward in plain float64 torch, nothing of ours."""

import torch
import torch.nn.functional as F

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def random_checkpoint(clip, side, outputs=2, head="mlp", seed=61):
    """What their training saves from the CLIP state `clip` (OpenAI's names): whatever requires a gradient, and buffers.

    Blocks and last norm of the text side are frozen, so they are not in it. Everything that learns has moved.
    """
    generator = torch.Generator().manual_seed(seed)

    def moved(value, by=0.05):
        return value + by * value.std() * torch.randn(value.shape, generator=generator)

    def random(*shape):
        return torch.randn(*shape, generator=generator) * (1.5 / shape[-1] ** 0.5)

    state = {}
    for name, value in clip.items():
        if name.startswith("visual.attnpool."):
            state[name.removeprefix("visual.")] = moved(value)
        elif name.startswith("visual."):
            own = value if "running" in name or not value.is_floating_point() else moved(value)
            state["resnet50." + name.removeprefix("visual.")] = own
    channels, out = state["attnpool.q_proj.weight"].shape[0], state["attnpool.c_proj.weight"].shape[0]
    asked = clip["text_projection"].shape[1]
    state["attnpool.positional_embedding"] = random(side * side + 1, channels) * 4
    state["txt_attnpool.positional_embedding"] = random(side * side + 1, channels) * 4
    for name, shape in (
        ("q", (channels, asked)),
        ("k", (channels, channels)),
        ("v", (channels, channels)),
        ("out", (out, channels)),
    ):
        state[f"txt_attnpool.cross_attn.{name}_proj.weight"] = random(*shape) * 2
        state[f"txt_attnpool.cross_attn.{name}_proj.bias"] = 0.1 * random(shape[0])
    if head == "mlp":
        state["head.dense.weight"], state["head.dense.bias"] = random(2 * out, 2 * out), random(2 * out)
        state["head.out_proj.weight"], state["head.out_proj.bias"] = random(outputs, 2 * out), random(outputs)
    else:
        state["head.weight"], state["head.bias"] = random(outputs, 2 * out), random(outputs)
    state["wte.weight"] = moved(clip["token_embedding.weight"], 0.3)
    state["txt_pos"] = moved(clip["positional_embedding"], 0.3)
    state["text_projection"] = moved(clip["text_projection"], 0.3)
    return {name: value.clone().contiguous() for name, value in state.items()}


def saved(state):
    """The file's content: the state beside what a training goes on from."""
    optimiser = {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-5, "params": [0]}]}
    config = {
        "model": {"arch": "ipiqa", "input_resolution": 512, "qa_token": True},
        "run": {"batch_size": 32},
    }
    return {"model": state, "optimizer": optimiser, "config": config, "scaler": None, "epoch": 41}


def scores(state, clip, image, ids, heads, text_heads):
    """(b, S) of `image` (b, 3, R, R) in [0, 1] and `ids` (b, L): their forward, with the frozen tensors of `clip`."""
    state = {name: value.double() for name, value in state.items()}
    clip = {name: value.double() for name, value in clip.items()}
    features = trunk(state, image.double())
    visual = pool(state, features, state["attnpool.positional_embedding"], heads)
    asked = text(state, clip, ids, text_heads)
    crossed = pool(state, features, state["txt_attnpool.positional_embedding"], heads, asked)
    both = torch.cat([visual, crossed], -1)
    if "head.weight" in state:
        return both @ state["head.weight"].T + state["head.bias"]
    hidden = torch.tanh(both @ state["head.dense.weight"].T + state["head.dense.bias"])
    return hidden @ state["head.out_proj.weight"].T + state["head.out_proj.bias"]


def trunk(state, image):
    def convolved(x, name, stride=1, padding=0):
        return F.conv2d(x, state[f"resnet50.{name}.weight"], stride=stride, padding=padding)

    def normed(x, name):
        mean, var, scale, shift = (
            state[f"resnet50.{name}.{part}"][:, None, None]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / torch.sqrt(var + 1e-5) * scale + shift

    mean, std = (torch.tensor(v, dtype=torch.float64)[:, None, None] for v in (MEAN, STD))
    x = (image - mean) / std
    x = torch.relu(normed(convolved(x, "conv1", 2, 1), "bn1"))
    x = torch.relu(normed(convolved(x, "conv2", 1, 1), "bn2"))
    x = torch.relu(normed(convolved(x, "conv3", 1, 1), "bn3"))
    x = F.avg_pool2d(x, 2)
    for stage in (1, 2, 3, 4):
        block = 0
        while f"resnet50.layer{stage}.{block}.conv1.weight" in state:
            place = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            y = torch.relu(normed(convolved(x, f"{place}.conv1"), f"{place}.bn1"))
            y = torch.relu(normed(convolved(y, f"{place}.conv2", 1, 1), f"{place}.bn2"))
            y = normed(
                convolved(F.avg_pool2d(y, stride) if stride > 1 else y, f"{place}.conv3"), f"{place}.bn3"
            )
            if block == 0:
                x = F.avg_pool2d(x, stride) if stride > 1 else x
                x = normed(convolved(x, f"{place}.downsample.0"), f"{place}.downsample.1")
            x = torch.relu(x + y)
            block += 1
    return x


def resized(table, side):
    """Their interpolation of a position table: the first row stays."""
    old = round((len(table) - 1) ** 0.5)
    if old == side:
        return table
    grid = table[1:].reshape(old, old, -1).permute(2, 0, 1)[None]
    grid = F.interpolate(grid, (side, side), mode="bicubic", align_corners=False)
    return torch.cat([table[:1], grid[0].permute(1, 2, 0).flatten(0, 1)])


def pool(state, features, positions, heads, asked=None):
    """CLIP's attention pool, or with `asked` (b, D) theirs for texts; one head at a time."""
    tokens = features.flatten(2).transpose(1, 2)
    tokens = torch.cat([tokens.mean(1, keepdim=True), tokens], 1) + resized(positions, features.shape[-1])
    names = ("attnpool.{}_proj", "c") if asked is None else ("txt_attnpool.cross_attn.{}_proj", "out")

    def linear(x, letter):
        name = names[0].format(letter)
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    q = linear(tokens[:, :1] if asked is None else asked[:, None], "q")
    k, v = linear(tokens, "k"), linear(tokens, "v")
    width = q.shape[-1] // heads
    mixed = []
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        logits = q[..., part] @ k[..., part].transpose(1, 2) / width**0.5
        mixed.append(logits.softmax(-1) @ v[..., part])
    return linear(torch.cat(mixed, -1), names[1])[:, 0]


def text(state, clip, ids, heads):
    """The feature at the highest id: table, positions and projection of theirs, blocks and last norm of CLIP."""
    x = state["wte.weight"][ids] + state["txt_pos"]
    length, width = x.shape[1:]

    def normed(x, name):
        return F.layer_norm(x, (width,), clip[f"{name}.weight"], clip[f"{name}.bias"])

    later = torch.ones(length, length, dtype=torch.bool).triu(1)
    block = 0
    while (place := f"transformer.resblocks.{block}") + ".ln_1.weight" in clip:
        y = normed(x, f"{place}.ln_1")
        qkv = y @ clip[f"{place}.attn.in_proj_weight"].T + clip[f"{place}.attn.in_proj_bias"]
        mixed = []
        for head in range(heads):
            q, k, v = (third.chunk(heads, -1)[head] for third in qkv.chunk(3, -1))
            logits = (q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).masked_fill(later, float("-inf"))
            mixed.append(logits.softmax(-1) @ v)
        y = torch.cat(mixed, -1)
        x = x + y @ clip[f"{place}.attn.out_proj.weight"].T + clip[f"{place}.attn.out_proj.bias"]
        y = normed(x, f"{place}.ln_2") @ clip[f"{place}.mlp.c_fc.weight"].T + clip[f"{place}.mlp.c_fc.bias"]
        y = y * torch.sigmoid(1.702 * y)
        x = x + y @ clip[f"{place}.mlp.c_proj.weight"].T + clip[f"{place}.mlp.c_proj.bias"]
        block += 1
    x = normed(x, "ln_final")
    return x[torch.arange(len(x)), ids.argmax(-1)] @ state["text_projection"]
