"""OpenAI's ModifiedResNet and its attention pool, against plain arithmetic on the same weights."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from grefine_export.models.clip_resnet import (
    AttentionPool2d,
    ModifiedResNet,
    QueryPool,
    resized_positions,
    to_openai,
)


def randomised(module, seed=41):
    """Every weight has a say, statistics of batch norms too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if name.endswith("running_var"):
                value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
            elif value.is_floating_point():
                scale = value[0].numel() ** -0.5 if value.ndim > 1 else 0.3
                value.copy_(scale * torch.randn(value.shape, generator=generator))
                if name.rpartition(".")[0][-3:-1] == "bn" or name.endswith("downsample.1.weight"):
                    value.add_(1.0 if name.endswith("weight") else 0.0)
    return module.eval()


def trunk_by_hand(weights, image, layers):
    """The network as the paper's appendix draws it, on a dictionary with OpenAI's names."""

    def norm(x, name):
        parts = (
            weights[f"visual.{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, *parts, eps=1e-5)

    def conv(x, name, **options):
        return F.conv2d(x, weights[f"visual.{name}.weight"], **options)

    x = F.relu(norm(conv(image, "conv1", stride=2, padding=1), "bn1"))
    x = F.relu(norm(conv(x, "conv2", padding=1), "bn2"))
    x = F.relu(norm(conv(x, "conv3", padding=1), "bn3"))
    x = F.avg_pool2d(x, 2)
    for stage, blocks in enumerate(layers, 1):
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            halved = stage > 1 and block == 0
            y = F.relu(norm(conv(x, f"{name}.conv1"), f"{name}.bn1"))
            y = F.relu(norm(conv(y, f"{name}.conv2", padding=1), f"{name}.bn2"))
            y = norm(conv(F.avg_pool2d(y, 2) if halved else y, f"{name}.conv3"), f"{name}.bn3")
            if block == 0:
                x = F.avg_pool2d(x, 2) if halved else x
                x = norm(conv(x, f"{name}.downsample.0"), f"{name}.downsample.1")
            x = F.relu(x + y)
    return x


@pytest.fixture(scope="module")
def small():
    trunk = randomised(ModifiedResNet((2, 1, 2, 1), 8))
    return trunk, randomised(AttentionPool2d(3, trunk.channels, 4, 20))


def test_the_trunk_is_that_of_openai(small):
    trunk, pool = small
    image = torch.randn(2, 3, 96, 64, generator=torch.Generator().manual_seed(42)).double()
    weights = {name: value.double() for name, value in to_openai(trunk, pool).items()}
    with torch.no_grad():
        got = trunk(image.float())
    expected = trunk_by_hand(weights, image, (2, 1, 2, 1))
    assert got.shape == (2, 256, 3, 2)
    assert (got > 0).float().mean() > 0.2
    torch.testing.assert_close(got.double(), expected, rtol=1e-4, atol=1e-4)


def test_the_names_and_sizes_of_rn50():
    """Every tensor of OpenAI's RN50, by the rule of its layout."""
    expected = {"visual.attnpool.positional_embedding": (50, 2048)}

    def convolution(name, out, into, side):
        expected[f"visual.{name}.weight"] = (out, into, side, side)  # type: ignore[assignment]

    def norm(name, channels):
        for part in ("weight", "bias", "running_mean", "running_var"):
            expected[f"visual.{name}.{part}"] = (channels,)  # type: ignore[assignment]
        expected[f"visual.{name}.num_batches_tracked"] = ()  # type: ignore[assignment]

    for number, (into, out) in enumerate(((3, 32), (32, 32), (32, 64)), 1):
        convolution(f"conv{number}", out, into, 3)
        norm(f"bn{number}", out)
    channels = 64
    for stage, (blocks, planes) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512)), 1):
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            convolution(f"{name}.conv1", planes, channels, 1)
            convolution(f"{name}.conv2", planes, planes, 3)
            convolution(f"{name}.conv3", 4 * planes, planes, 1)
            for number, width in enumerate((planes, planes, 4 * planes), 1):
                norm(f"{name}.bn{number}", width)
            if block == 0:
                convolution(f"{name}.downsample.0", 4 * planes, channels, 1)
                norm(f"{name}.downsample.1", 4 * planes)
            channels = 4 * planes
    for letter in "qkvc":
        out = 1024 if letter == "c" else 2048
        expected[f"visual.attnpool.{letter}_proj.weight"] = (out, 2048)
        expected[f"visual.attnpool.{letter}_proj.bias"] = (out,)  # type: ignore[assignment]
    with torch.device("meta"):
        trunk = ModifiedResNet()
        pool = AttentionPool2d(7, trunk.channels, 32, 1024)
        shape = trunk(torch.empty(1, 3, 512, 512)).shape
    named = {f"visual.{name}": value for name, value in trunk.state_dict().items()}
    named |= {f"visual.attnpool.{name}": value for name, value in pool.state_dict().items()}
    assert {name: tuple(value.shape) for name, value in named.items()} == expected
    assert shape == (1, 2048, 16, 16)
    count = sum(p.numel() for module in (trunk, pool) for p in module.parameters())
    assert count == 38_316_896  # of CLIP's RN50, image side


def attention_by_hand(pool, query, tokens):
    """float64 numpy: each head by itself, a loop for each picture."""
    w = {name: value.double().numpy() for name, value in pool.state_dict().items()}
    width = w["k_proj.weight"].shape[0] // pool.num_heads
    rows = []
    for one, seen in zip(query.double().numpy(), tokens.double().numpy(), strict=True):
        q = w["q_proj.weight"] @ one + w["q_proj.bias"]
        k = seen @ w["k_proj.weight"].T + w["k_proj.bias"]
        v = seen @ w["v_proj.weight"].T + w["v_proj.bias"]
        heads = []
        for head in range(pool.num_heads):
            part = slice(head * width, (head + 1) * width)
            logits = k[:, part] @ q[part] / np.sqrt(width)
            weight = np.exp(logits - logits.max())
            heads.append(weight / weight.sum() @ v[:, part])
        rows.append(w["c_proj.weight"] @ np.concatenate(heads) + w["c_proj.bias"])
    return np.array(rows)


@pytest.mark.parametrize(("height", "width"), [(3, 3), (4, 5)])
def test_the_attention_pool(small, height, width):
    _, pool = small
    features = torch.randn(2, 256, height, width, generator=torch.Generator().manual_seed(43))
    with torch.no_grad():
        got = pool(features)
    positions = resized_positions(pool.positional_embedding.detach(), height, width)
    patches = features.flatten(2).transpose(1, 2)
    tokens = torch.cat([patches.mean(1, keepdim=True), patches], 1) + positions
    np.testing.assert_allclose(got, attention_by_hand(pool, tokens[:, 0], tokens), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(pool.tokens(features), tokens)


@pytest.mark.parametrize("asked", [256, 24])
def test_the_pools_are_torchs_multi_head_attention(asked):
    """With a query of the tokens' own width, and with one of another (the prompt's), which torch's function takes only
    after the projection: so it goes in projected, past an identity."""
    pool = randomised(QueryPool(256, 8, 20, asked), 44)
    generator = torch.Generator().manual_seed(45)
    query, tokens = torch.randn(3, asked, generator=generator), torch.randn(3, 10, 256, generator=generator)
    w = pool.state_dict()
    same = asked == 256
    with torch.no_grad():
        got = pool(query, tokens)
        expected, _ = F.multi_head_attention_forward(
            query[None] if same else pool.q_proj(query)[None],
            tokens.transpose(0, 1),
            tokens.transpose(0, 1),
            256,
            8,
            None,
            torch.cat([w["q_proj.bias"] if same else torch.zeros(256), w["k_proj.bias"], w["v_proj.bias"]]),
            None,
            None,
            False,
            0.0,
            w["c_proj.weight"],
            w["c_proj.bias"],
            training=False,
            need_weights=False,
            use_separate_proj_weight=True,
            q_proj_weight=w["q_proj.weight"] if same else torch.eye(256),
            k_proj_weight=w["k_proj.weight"],
            v_proj_weight=w["v_proj.weight"],
        )
    assert got.std() > 0.05
    torch.testing.assert_close(got, expected[0], rtol=1e-4, atol=1e-5)


def cubic(t, a=-0.75):
    t = abs(t)
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else 0.0


def bicubic_matrix(old, new):
    """(new, old): bicubic interpolation of a line, pixel centres aligned, ends repeated."""
    matrix = np.zeros((new, old))
    for row in range(new):
        centre = (row + 0.5) * old / new - 0.5
        for place in range(int(np.floor(centre)) - 1, int(np.floor(centre)) + 3):
            matrix[row, min(max(place, 0), old - 1)] += cubic(centre - place)
    return matrix


def test_positions_are_resized_bicubically():
    positions = torch.randn(1 + 49, 6, generator=torch.Generator().manual_seed(46))
    assert torch.equal(resized_positions(positions, 7, 7), positions)
    got = resized_positions(positions, 16, 12)
    assert torch.equal(got[0], positions[0])
    grid = positions[1:].double().numpy().reshape(7, 7, 6)
    expected = np.einsum("hi,wj,ijc->hwc", bicubic_matrix(7, 16), bicubic_matrix(7, 12), grid)
    np.testing.assert_allclose(got[1:], expected.reshape(-1, 6), rtol=1e-4, atol=1e-5)


def test_positions_can_learn_at_another_size(small):
    _, pool = small
    features = torch.randn(1, 256, 5, 4, generator=torch.Generator().manual_seed(47))
    pool(features).sum().backward()
    assert (pool.positional_embedding.grad.abs().amax(1) > 0).all()
    pool.zero_grad()
