"""A bundle on disk that only assesses: small ONNX graphs with the contracts of ARCHITECTURE.md, IP-IQA and a reward."""

import numpy as np
import onnx
from tokenizers import Tokenizer, models, pre_tokenizers

from grefine_rt.bundle.store import write
from tests.support import tiny

SIDE, GRID, WIDTH, LENGTH = 32, 4, 6, 12
WORDS = ("[UNK]", "<|startoftext|>", "<|endoftext|>", "a", "red", "house", "tree", "tall", "and", "sea")

TOKENIZER = [{"file": "tokenizers/words.json", "input": "ids", "length": LENGTH}]

_rng = np.random.default_rng(5)
PATCH = (_rng.standard_normal((WIDTH, 3, 8, 8)) / 8).astype(np.float32)
PAIRS = _rng.standard_normal((WIDTH, 4)).astype(np.float32)
TABLE = _rng.standard_normal((len(WORDS), WIDTH)).astype(np.float32)
QA_TABLE = _rng.standard_normal((len(WORDS), WIDTH)).astype(np.float32)
HEAD = _rng.standard_normal((2 * WIDTH, 2)).astype(np.float32)

# Tokens (b, 1 + 16, 6): the mean of all patches, then the patches row by row.
_TOKENS = (
    "flat = Conv<strides=[8,8]>(image, patch) rows = Constant<value_ints=[0,6,-1]>()"
    " wide = Reshape(flat, rows) patches = Transpose<perm=[0,2,1]>(wide)"
    " one = Constant<value_ints=[1]>() mean = ReduceMean(patches, one)"
    " {name} = Concat<axis=1>(mean, patches)"
)


def graphs(batch="b", length=str(LENGTH)):
    """The graphs by component; `batch` and `length` are the axes of images and ids, a number or a name."""
    image = f"float[{batch},3,{SIDE},{SIDE}] image"
    return {
        "perceptual": tiny.model(
            f"g ({image}) => (float[b,17,4] pairs, float[b,17,4,2] published, float[b,17,6] tokens) {{"
            + _TOKENS.format(name="raw")
            + " tokens = LpNormalization<axis=2>(raw) logits = MatMul(raw, w) pairs = Sigmoid(logits)"
            " last = Constant<value_ints=[3]>() good = Unsqueeze(logits, last) bad = Neg(good)"
            " published = Concat<axis=3>(good, bad) }",
            {"patch": PATCH, "w": PAIRS},
        ),
        "alignment_text": tiny.model(
            f"g (int64[n,{length}] ids) => (float[n,6] features) {{ each = Gather<axis=0>(t, ids)"
            " zero = Constant<value_int=0>() sums = CumSum(each, one)"
            " two = Constant<value_int=2>() ends = Equal(ids, two) marks = Cast<to=1>(ends)"
            " end = ArgMax<axis=1, keepdims=1>(marks) at = Unsqueeze(end, last)"
            " width = Constant<value_ints=[1,1,6]>() spread = Expand(at, width)"
            " found = GatherElements<axis=1>(sums, spread) middle = Constant<value_ints=[1]>()"
            " squeezed = Squeeze(found, middle) features = LpNormalization<axis=1>(squeezed) }",
            {"t": TABLE, "one": np.array(1), "last": np.array([2])},
        ),
        "ip_iqa_image": tiny.model(
            f"g ({image}) => (float[b,17,6] tokens) {{" + _TOKENS.format(name="tokens") + "}",
            {"patch": PATCH},
        ),
        "ip_iqa_text": tiny.model(
            f"g (int64[n,{length}] ids) => (float[n,6] features) {{ each = Gather<axis=0>(t, ids)"
            " one = Constant<value_ints=[1]>() features = ReduceMax<keepdims=0>(each, one) }",
            {"t": QA_TABLE},
        ),
        "ip_iqa_fusion": tiny.model(
            "g (float[b,17,6] tokens, float[b,6] features) => (float[b,2] scores) {"
            " one = Constant<value_ints=[1]>() pooled = ReduceMax<keepdims=0>(tokens, one)"
            " both = Concat<axis=1>(pooled, features) scores = MatMul(both, w) }",
            {"w": HEAD},
        ),
        "image_reward": tiny.model(
            f"g ({image}, int64[{batch},{length}] ids) => (float[b] reward) {{"
            " axes = Constant<value_ints=[1,2,3]>() light = ReduceMean<keepdims=0>(image, axes)"
            " one = Constant<value_ints=[1]>() most = ReduceMax<keepdims=0>(ids, one)"
            " word = Cast<to=1>(most) reward = Add(light, word) }",
            {},
        ),
    }


def manifest(ip_iqa=True, reward=False):
    """The JSON of the bundle, without `files`."""
    data = tiny.manifest()
    names = ["perceptual", "alignment_text"]
    components = {name: _graph(name) for name in names}
    opinions = {
        "components": {name: _graph(name) for name in ("ip_iqa_image", "ip_iqa_text", "ip_iqa_fusion")},
        "tokenizers": {"ip_iqa_text": TOKENIZER},
        "settings": {"resolution": SIDE, "outputs": ["quality", "alignment"]},
    }
    preference = {
        "components": {"image_reward": _graph("image_reward")},
        "settings": {"slope": 1.0, "centre": 0.0},
    }
    return {
        **data,
        "name": "only-assesses",
        "inpaint": None,
        "restore": None,
        "scorers": ({"ip_iqa": opinions} if ip_iqa else {})
        | ({"image_reward": preference} if reward else {}),
        "components": {**components, "alignment_image": components["perceptual"]},
        "tokenizers": {"alignment_text": TOKENIZER},
    }


def _graph(component):
    return f"components/{component}.onnx"


def save(folder, ip_iqa=True, reward=False, **axes):
    """Writes the whole bundle and returns its folder."""
    for name in ("components", "tokenizers"):
        (folder / name).mkdir(parents=True)
    data, made = manifest(ip_iqa, reward), graphs(**axes)
    metrics = [name for metric in data["scorers"].values() for name in metric["components"]]
    for name in made.keys() & {*data["components"], *metrics}:
        onnx.save(made[name], folder / "components" / f"{name}.onnx")
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, "[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.add_special_tokens(["<|startoftext|>", "<|endoftext|>"])
    words.save(str(folder / "tokenizers" / "words.json"))
    write(folder, data)
    return folder


def tokens(rgb):
    """What `ip_iqa_image` gives for a picture of SIDE x SIDE, float64 (17, 6)."""
    cells = (rgb.astype(np.float64) / 255).reshape(GRID, 8, GRID, 8, 3)
    patches = np.einsum("hiwjc,ocij->hwo", cells, PATCH.astype(np.float64)).reshape(-1, WIDTH)
    return np.vstack([patches.mean(axis=0), patches])
