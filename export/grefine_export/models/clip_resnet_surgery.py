"""CLIP with a ResNet (RN50), and its architecture surgery: the attention pool is the one block with two paths."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from grefine_export.choices import Attention
from grefine_export.models.clip_resnet import AttentionPool2d, ModifiedResNet
from grefine_export.models.clip_surgery import ClipEncoder, heads, merged, value_value


class ResNetClip(nn.Module):
    """The weights of a CLIP whose image side is OpenAI's ResNet: its text side is named as transformers' CLIPModel
    names it, `visual` is the trunk and `attnpool` the pool behind it."""

    def __init__(
        self, visual: ModifiedResNet, attnpool: AttentionPool2d, text: CLIPTextConfig, projected: int
    ):
        super().__init__()
        self.visual = visual
        self.attnpool = attnpool
        self.text_model = CLIPTextModel(text)
        self.text_projection = nn.Linear(text.hidden_size, projected, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(0.0))


class ResNetSurgery(ClipEncoder):
    """Image tokens and text features of a `ResNetClip`. The pool's query of the class token takes the original path,
    every place of the grid value-value attention over the same values, plain unless `attention` says else."""

    def __init__(self, clip: ResNetClip, attention: Attention = "vv"):
        super().__init__(clip, attention)

    def image_tokens(self, image: Tensor) -> Tensor:
        pool = self.clip.attnpool
        tokens = pool.tokens(self.clip.visual(self.normalised(image)))
        k, v = (heads(p(tokens), pool.num_heads) for p in (pool.k_proj, pool.v_proj))
        q = heads(pool.q_proj(tokens[:, :1]), pool.num_heads)
        original = merged(F.scaled_dot_product_attention(q, k, v))
        new = merged(value_value(v, self.attention))
        return pool.c_proj(torch.cat([original, new[:, 1:]], 1))
