"""Tiny graphs with the contracts of ARCHITECTURE.md, their numpy twins, and a bundle made of them."""

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper, parser

from grefine_rt.bundle.store import write

SIDE = 8
LENGTH, WIDTH, POOLED, WORDS = 6, 5, 3, 64

_rng = np.random.default_rng(11)
ENCODER = (_rng.standard_normal((4, 3, SIDE, SIDE)) / 40).astype(np.float32)
DECODER = (_rng.standard_normal((4, 3, SIDE, SIDE)) / 4).astype(np.float32)
CONTEXT = _rng.standard_normal((WORDS, WIDTH)).astype(np.float32)
POOL = _rng.standard_normal((WORDS, POOLED)).astype(np.float32)

_STEP_INPUTS = {
    "sample": "float[1,4,h,w] sample",
    "previous": "float[1,4,h,w] previous",
    "noise": "float[1,4,h,w] noise",
    "mask": "float[1,1,h,w] mask",
    "masked_latent": "float[1,4,h,w] masked_latent",
    "original": "float[1,4,h,w] original",
    "original_noise": "float[1,4,h,w] original_noise",
    "control": "float[1,3,H,W] control",
    "context": "float[n,l,5] context",
    "pooled": "float[n,3] pooled",
    "time_ids": "float[n,6] time_ids",
    "timestep": "float[1] timestep",
    "coefficients": "float[{width}] coefficients",
    "surprise": "float[1] surprise",
}
_BLENDED = ("original", "original_noise")
INPAINT = tuple(name for name in _STEP_INPUTS if name not in ("control", "surprise", *_BLENDED))
BLENDED = tuple(name for name in _STEP_INPUTS if name not in ("control", "surprise", "masked_latent"))
RESTORE = ("sample", "previous", "noise", "control", "context", "timestep", "coefficients")


def model(
    text: str, weights: dict[str, np.ndarray] | None = None, opset: int = 18, domains: tuple[str, ...] = ()
) -> onnx.ModelProto:
    """A model from ONNX's text form, with weights added. domains: others than ONNX's, at version 1."""
    versions = "".join(f', "{domain}" : 1' for domain in domains)
    proto = parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}{versions}]> {text}')
    proto.graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in (weights or {}).items()
    )
    onnx.checker.check_model(proto)
    return proto


def encoder() -> onnx.ModelProto:
    return model(
        "g (float[b,3,H,W] image) => (float[b,4,h,w] latent) { latent = Conv<strides=[8,8]>(image, k) }",
        {"k": ENCODER},
    )


def decoder() -> onnx.ModelProto:
    return model(
        "g (float[b,4,h,w] latent) => (float[b,3,H,W] image) {"
        " image = ConvTranspose<strides=[8,8]>(latent, k) }",
        {"k": DECODER},
    )


def text_encoder(pooled: bool) -> onnx.ModelProto:
    outputs = "float[n,l,5] context" + ", float[n,3] pooled" * pooled
    extra = " each = Gather<axis=0>(p, ids) one = Constant<value_ints=[1]>()" * pooled
    extra += " pooled = ReduceMean<keepdims=0>(each, one)" * pooled
    weights = {"t": CONTEXT, "p": POOL} if pooled else {"t": CONTEXT}
    return model(f"g (int64[n,l] ids) => ({outputs}) {{ context = Gather<axis=0>(t, ids){extra} }}", weights)


def bundle(folder: Path) -> Path:
    """`save`, with its manifest."""
    write(save(folder), manifest())
    return folder


def step(inputs: tuple[str, ...]) -> onnx.ModelProto:
    """A fused step whose UNet is `tanh` of a sum over all its inputs and of the number of guidance passes.

    Without guidance rescale, as the first bundles had it: 8 coefficients, or 11 when it blends.
    """
    width = 11 if "original" in inputs else 8
    sums = ["flat = Identity(scaled)"]
    sums += ["low = Mul(mask, masked_latent) flat1 = Add(flat, low)"] if "masked_latent" in inputs else []
    if "control" in inputs:
        sums += ["all = Constant<value_ints=[1,2,3]>() c = ReduceMean(control, all) flat1 = Add(flat, c)"]
    sums += ["l1 = Constant<value_ints=[1,2]>() words = ReduceMean<keepdims=0>(context, l1)"]
    for name, scale in (("pooled", 1.0), ("time_ids", 0.001)):
        if name in inputs:
            sums += [
                f"ax_{name} = Constant<value_ints=[1]>() m_{name} = ReduceMean<keepdims=0>({name}, ax_{name})"
                f" k_{name} = Constant<value_float={scale}>() s_{name} = Mul(m_{name}, k_{name})"
            ]
    rows = "words"
    for name in ("pooled", "time_ids"):
        if name in inputs:
            sums += [f"with_{name} = Add({rows}, s_{name})"]
            rows = f"with_{name}"
    sums += [
        f"shape = Shape<end=1>(context) n = Cast<to=1>(shape) tenth = Constant<value_float=0.1>()"
        f" count = Mul(n, tenth) rows = Add({rows}, count)"
        " spread = Constant<value_ints=[1,2,3]>() rows4 = Unsqueeze(rows, spread)"
        " small = Constant<value_float=0.001>() time = Mul(timestep, small)"
        f" x = Add({'flat1' if {'masked_latent', 'control'} & set(inputs) else 'flat'}, time)"
        " y = Add(x, rows4) models = Tanh(y)"
        " zero = Constant<value_int=0>() last = Constant<value_int=-1>()"
        " m0 = Gather<axis=0>(models, zero) m1 = Gather<axis=0>(models, last)"
        " d = Sub(m1, m0) gd = Mul(c7, d) m = Add(m0, gd)"
        " a = Mul(c1, sample) b = Mul(c2, m) clean = Add(a, b)"
        " p = Mul(c3, sample) q = Mul(c4, clean) next0 = Add(p, q)"
    ]
    result = "next0"
    for name, coefficient in (("previous", "c5"), ("noise", "c6")):
        if name in inputs:
            sums += [f"w_{name} = Mul({coefficient}, {name}) n_{name} = Add({result}, w_{name})"]
            result = f"n_{name}"
    if "original" in inputs:
        sums += [
            "o = Mul(c9, original) e = Mul(c10, original_noise) outside = Add(o, e)"
            " unit = Constant<value_float=1.0>() rest = Sub(unit, mask)"
            f" inner = Mul(mask, {result}) outer = Mul(rest, outside) n_blended = Add(inner, outer)"
        ]
        result = "n_blended"
    columns = ", ".join(f"c{index}" for index in range(width))
    body = "\n".join(
        [
            f"{columns} = Split<axis=0, num_outputs={width}>(coefficients)",
            "scaled = Mul(c0, sample)",
            *sums,
            f"next = Identity({result})",
        ]
    )
    declared = ", ".join(_STEP_INPUTS[name].format(width=width) for name in inputs)
    return model(f"g ({declared}) => (float[1,4,h,w] next, float[1,4,h,w] clean) {{ {body} }}")


def encode(picture: np.ndarray) -> np.ndarray:
    """(H, W, 3) in [-1, 1] to (1, 4, h, w)."""
    height, width = picture.shape[:2]
    cells = picture.astype(np.float64).reshape(height // SIDE, SIDE, width // SIDE, SIDE, 3)
    return np.einsum("hiwjc,ocij->ohw", cells, ENCODER.astype(np.float64))[None]


def decode(latent: np.ndarray) -> np.ndarray:
    """(1, 4, h, w) to (H, W, 3) in [0, 1], not clipped."""
    _, _, h, w = latent.shape
    image = np.einsum("ohw,ocij->hiwjc", latent[0].astype(np.float64), DECODER.astype(np.float64))
    return image.reshape(h * SIDE, w * SIDE, 3) / 2 + 0.5


def run_steps(table, latent, noise, contexts, pooled=None, time_ids=None, low=0.0, fresh=(), mask=1.0):
    """What `denoise` must give; `low` is what mask and masked latent, or the control, add to the sample, `fresh` the
    noise of each step, `mask` that of a blended step."""
    sample = table.start[0] * latent + table.start[1] * noise
    previous = np.zeros_like(sample)
    for index, row in enumerate(table.coefficients.astype(np.float64)):
        timestep = table.timesteps[index]
        keep = slice(1, 2) if row[7] == 1 else slice(0, 2)
        rows = contexts[keep].mean(axis=(1, 2)) + 0.1 * len(contexts[keep])
        rows = rows + (pooled[keep].mean(axis=1) if pooled is not None else 0)
        rows = rows + (time_ids.mean() / 1000 if time_ids is not None else 0)
        models = np.tanh(row[0] * sample + low + timestep / 1000 + rows[:, None, None, None])
        output = models[:1] + row[7] * (models[-1:] - models[:1])
        clean = row[1] * sample + row[2] * output
        added = row[6] * fresh[index] if len(fresh) else 0
        sample = row[3] * sample + row[4] * clean + row[5] * previous + added
        sample = mask * sample + (1 - mask) * (row[9] * latent + row[10] * noise)
        previous = clean
    return sample


def manifest() -> dict:
    """The JSON of a bundle of these graphs, without `files`."""
    schedule = {
        "train_steps": 1000,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "spacing": "leading",
        "offset": 1,
    }
    tokenizer = [{"file": "tokenizers/words.json", "input": "ids", "length": LENGTH}]
    names = ["perceptual", "alignment_image", "alignment_text"]
    names += [
        f"{stage}_{part}" for stage in ("inpaint", "restore") for part in ("text", "encode", "step", "decode")
    ]
    components = {name: f"components/{name}.onnx" for name in names}
    components["alignment_image"] = components["perceptual"]
    return {
        "format": 1,
        "name": "tiny",
        "version": "1",
        "description": "for tests",
        "weights": [{"component": "perceptual", "origin": "made up", "license": "Apache-2.0"}],
        "perceptual": {
            "resolution": 32,
            "grid": 4,
            "alpha": [0.9, 0.5, 0.7],
            "scoring": "calibrated",
            "attention": "vv",
        },
        "alignment": {
            "resolution": 32,
            "grid": 4,
            "temperature": 10.0,
            "a_bound": 0.5,
            "beta": 0.6,
            "encoder": "clip",
        },
        "plan": {
            "tau": 0.5,
            "strength_min": 0.5,
            "strength_max": 0.99,
            "joining": "union",
            "strength_rule": "deficit",
            "missing_region": "ancestor",
            "grow": 1.0,
            "feather": 1.0,
            "min_area": 0.002,
            "p_bound": 1.0,
        },
        "inpaint": {
            "resolution": 32,
            "multiple": 16,
            "steps": 5,
            "solver": "euler",
            "guidance": 4.0,
            "drafts": 1,
            "negative": "zeros",
            "prediction": "epsilon",
            "schedule": schedule,
            "time_ids": True,
        },
        "restore": {
            "resolution": 32,
            "multiple": 16,
            "steps": 10,
            "delta": 0.3,
            "solver": "ddim",
            "guidance": 1.0,
            "conditioning_scale": 1.0,
            "prompt_suffix": "clean, sharp",
            "negative_prompt": "blurry",
            "prediction": "epsilon",
            "schedule": schedule,
            "decoding": "difference",
        },
        "tokenizers": {name: tokenizer for name in names if name.endswith("_text")},
        "components": components,
    }


def graphs() -> dict[str, onnx.ModelProto]:
    """A graph for each diffusion component; the indicators get one that only counts as a graph."""
    plain = model("g (float[b,3,H,W] image) => (float[b,3,H,W] same) { same = Identity(image) }")
    return {
        "perceptual": plain,
        "alignment_text": text_encoder(pooled=False),
        "inpaint_text": text_encoder(pooled=True),
        "restore_text": text_encoder(pooled=False),
        "inpaint_step": step(INPAINT),
        "restore_step": step(RESTORE),
        **{f"{stage}_encode": encoder() for stage in ("inpaint", "restore")},
        **{f"{stage}_decode": decoder() for stage in ("inpaint", "restore")},
    }


def save(folder: Path) -> Path:
    """Graphs and a stand-in for the tokenizer, in their places; `bundle.json` is still to be written."""
    for name in ("components", "tokenizers"):
        (folder / name).mkdir(parents=True)
    for name, graph in graphs().items():
        onnx.save(graph, folder / "components" / f"{name}.onnx")
    (folder / "tokenizers" / "words.json").write_text("{}")
    return folder
