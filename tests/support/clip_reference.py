"""CLIP with surgery once more: nothing but float64 numpy and the state's names, one picture at a time."""

import numpy as np

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def value_value(v, scale, attention):
    """Attention weights (t, t) of one head."""
    if attention == "vv":
        return softmax(v @ v.T * scale)
    unit = v / np.linalg.norm(v, axis=1, keepdims=True)
    return softmax(unit @ unit.T * 8 * scale)  # "the scale is 8 times larger"


class Reference:
    """The whole ViT for one image, token by token, head by head."""

    def __init__(self, clip):
        self.state = {name: value.detach().double().numpy() for name, value in clip.state_dict().items()}
        vision = clip.config.vision_config
        self.patch, self.size, self.width = vision.patch_size, vision.image_size, vision.hidden_size
        self.heads, self.blocks = vision.num_attention_heads, vision.num_hidden_layers

    def linear(self, x, name):
        return x @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

    def norm(self, x, name):
        centred = x - x.mean(-1, keepdims=True)
        unit = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        return unit * self.state[f"{name}.weight"] + self.state[f"{name}.bias"]

    def embed(self, image):
        """(3, R, R) in 0..1 -> (1 + N, c): patches row by row behind the class embedding."""
        p = self.patch
        x = (image - np.array(MEAN)[:, None, None]) / np.array(STD)[:, None, None]
        kernel = self.state["vision_model.embeddings.patch_embedding.weight"].reshape(self.width, -1)
        grid = range(0, self.size, p)
        patches = [kernel @ x[:, top : top + p, left : left + p].ravel() for top in grid for left in grid]
        tokens = np.stack([self.state["vision_model.embeddings.class_embedding"], *patches])
        tokens = tokens + self.state["vision_model.embeddings.position_embedding.weight"]
        return self.norm(tokens, "vision_model.pre_layrnorm")

    def mix(self, v, weights_of):
        """Joins heads: `weights_of(head slice)` are the attention weights (t, t)."""
        side = self.width // self.heads
        heads = [slice(h * side, (h + 1) * side) for h in range(self.heads)]
        return np.concatenate([weights_of(head) @ v[:, head] for head in heads], 1)

    def tokens(self, image, depth, attention):
        scale = (self.width // self.heads) ** -0.5
        x, new = self.embed(image), None
        for index in range(self.blocks):
            block = f"vision_model.encoder.layers.{index}"
            if index == self.blocks - depth:
                new = x
            normed = self.norm(x, f"{block}.layer_norm1")
            q, k, v = (self.linear(normed, f"{block}.self_attn.{name}_proj") for name in "qkv")

            def original(head, q=q, k=k):
                return softmax(q[:, head] @ k[:, head].T * scale)

            def second(head, v=v):
                return value_value(v[:, head], scale, attention)

            if new is not None:
                new = new + self.linear(self.mix(v, second), f"{block}.self_attn.out_proj")
            x = x + self.linear(self.mix(v, original), f"{block}.self_attn.out_proj")
            hidden = self.linear(self.norm(x, f"{block}.layer_norm2"), f"{block}.mlp.fc1")
            x = x + self.linear(hidden / (1 + np.exp(-1.702 * hidden)), f"{block}.mlp.fc2")
        joined = np.concatenate([x[:1], new[1:]])
        return self.norm(joined, "vision_model.post_layernorm") @ self.state["visual_projection.weight"].T


class ResNetReference:
    """CLIP RN50 on a state with OpenAI's names, for one image."""

    def __init__(self, state):
        self.state = {name: value.double().numpy() for name, value in state.items()}

    def convolution(self, x, name):
        """(c, h, w) with zeros around for a 3 x 3 kernel, nothing for a 1 x 1 one."""
        weight = self.state[f"visual.{name}.weight"]
        out, _, side, _ = weight.shape
        pad = side // 2
        padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
        height, width = x.shape[1:]
        result = np.zeros((out, height, width))
        for row in range(side):
            for column in range(side):
                part = padded[:, row : row + height, column : column + width]
                result += np.tensordot(weight[:, :, row, column], part, 1)
        return result

    def norm(self, x, name):
        scale, bias, mean, variance = (
            self.state[f"visual.{name}.{part}"][:, None, None]
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / np.sqrt(variance + 1e-5) * scale + bias

    def pool(self, x, side):
        c, h, w = x.shape
        return x.reshape(c, h // side, side, w // side, side).mean((2, 4))

    def trunk(self, image):
        x = (image - np.array(MEAN)[:, None, None]) / np.array(STD)[:, None, None]
        for number in (1, 2, 3):
            x = self.convolution(x, f"conv{number}")
            # Stride 2 of the first convolution: every other place, from the first on.
            x = np.maximum(self.norm(x[:, ::2, ::2] if number == 1 else x, f"bn{number}"), 0)
        x = self.pool(x, 2)
        for stage in (1, 2, 3, 4):
            block = 0
            while f"visual.layer{stage}.{block}.conv1.weight" in self.state:
                prefix = f"layer{stage}.{block}"
                stride = 2 if stage > 1 and block == 0 else 1
                y = np.maximum(self.norm(self.convolution(x, f"{prefix}.conv1"), f"{prefix}.bn1"), 0)
                y = np.maximum(self.norm(self.convolution(y, f"{prefix}.conv2"), f"{prefix}.bn2"), 0)
                y = self.norm(self.convolution(self.pool(y, stride), f"{prefix}.conv3"), f"{prefix}.bn3")
                if block == 0:
                    x = self.convolution(self.pool(x, stride), f"{prefix}.downsample.0")
                    x = self.norm(x, f"{prefix}.downsample.1")
                x = np.maximum(x + y, 0)
                block += 1
        return x

    def tokens(self, image, attention="vv"):
        """(1 + N, d): the class token asks with q and k, every other token with its own v."""

        def linear(x, name):
            return (
                x @ self.state[f"visual.attnpool.{name}.weight"].T
                + self.state[f"visual.attnpool.{name}.bias"]
            )

        patches = self.trunk(image)
        patches = patches.reshape(len(patches), -1).T
        x = np.concatenate([patches.mean(0, keepdims=True), patches])
        x = x + self.state["visual.attnpool.positional_embedding"]
        q, k, v = (linear(x, f"{name}_proj") for name in "qkv")
        mixed = np.empty_like(v)
        for head in range(v.shape[1] // 64):
            of = slice(64 * head, 64 * (head + 1))
            mixed[:1, of] = softmax(q[:1, of] @ k[:, of].T / 8) @ v[:, of]
            mixed[1:, of] = (value_value(v[:, of], 1 / 8, attention) @ v[:, of])[1:]
        return linear(mixed, "c_proj")
