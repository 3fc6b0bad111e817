"""What the embedded CLIP learns of whole prompts."""

import pytest
import torch
import torch.nn.functional as F

from grefine_export.mini.train_clip import prompt_loss


def test_own_changed_and_other_prompts_count_the_same():
    count = 4
    logits = torch.full((count, 2 * count), -20.0)
    logits.diagonal().fill_(20.0)
    assert float(prompt_loss(logits)) == pytest.approx(0, abs=1e-6)
    for name, places in (
        ("own", [(k, k) for k in range(count)]),
        ("changed", [(k, count + k) for k in range(count)]),
        ("others", [(k, j) for k in range(count) for j in range(2 * count) if j % count != k]),
    ):
        unsure = logits.clone()
        for place in places:
            unsure[place] = 0.0
        assert float(prompt_loss(unsure)) == pytest.approx(float(F.softplus(torch.tensor(0.0)))), name
