"""A random CLIP of transformers' own modules, small, in which every weight has a say."""

import torch
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig

SIZE, PATCH, WIDTH, VOCABULARY, LENGTH, PROJECTED = 24, 8, 24, 50, 24, 12
HEADS, BLOCKS = 3, 4
BOS, EOT = VOCABULARY - 2, VOCABULARY - 1


def tiny_clip(eos: int = EOT) -> CLIPModel:
    """Grid 3 x 3, heads of 8 channels; `eos`: what the configuration says the end token is."""
    torch.manual_seed(7)
    text = CLIPTextConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        vocab_size=VOCABULARY,
        max_position_embeddings=LENGTH,
        bos_token_id=BOS,
        eos_token_id=eos,
        pad_token_id=1,
    )
    vision = CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=40,
        num_hidden_layers=BLOCKS,
        num_attention_heads=HEADS,
        image_size=SIZE,
        patch_size=PATCH,
    )
    model = CLIPModel(
        CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=PROJECTED)
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name == "logit_scale":
                parameter.fill_(1.5)
            elif name.endswith("bias") or "norm" in name or "layrnorm" in name:
                parameter.add_(0.2 * torch.randn_like(parameter))
            else:
                parameter.copy_(torch.randn_like(parameter) * 0.3)
    return model.eval()


def images(count: int = 2) -> torch.Tensor:
    """(count, 3, SIZE, SIZE) in [0, 1]."""
    return torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(11))


def token_ids() -> torch.Tensor:
    """Texts of 0, 4 and LENGTH - 2 tokens: (3, LENGTH), the first padded with end tokens, the second with 1."""
    generator = torch.Generator().manual_seed(12)
    ids = torch.randint(3, BOS, (3, LENGTH), generator=generator)
    ids[:, 0] = BOS
    ids[0, 1:] = EOT
    ids[1, 5], ids[1, 6:] = EOT, 1
    ids[2, -1] = EOT
    return ids
