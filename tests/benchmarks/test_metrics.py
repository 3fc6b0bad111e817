import numpy as np
import pytest

from benchmarks.metrics import psnr, rmse, roc_auc


def rows(seed, ties):
    rng = np.random.default_rng(seed)
    a = rng.standard_normal(60)
    b = 0.5 * a + rng.standard_normal(60)
    return (a.round(), b.round()) if ties else (a, b)


@pytest.mark.parametrize("ties", [False, True])
def test_auc_counts_pairs(ties):
    _, score = rows(3, ties)
    truth = np.random.default_rng(4).random(60) < 0.3
    above = [(p > n) + 0.5 * (p == n) for p in score[truth] for n in score[~truth]]
    assert roc_auc(truth, score) == pytest.approx(np.mean(above))
    assert roc_auc(truth.reshape(6, 10), score.reshape(6, 10)) == pytest.approx(np.mean(above))


def test_auc_of_one_class_is_undefined():
    assert np.isnan(roc_auc([True, True], [0.1, 0.2]))
    with pytest.raises(ValueError, match="do not fit"):
        roc_auc([True, False], [0.1])


def test_psnr_and_rmse():
    black, grey = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 51, np.uint8)
    assert rmse(black, grey) == 51
    assert psnr(black, grey) == pytest.approx(20 * np.log10(5))
    assert psnr(grey, grey) == float("inf")
    half = black.copy()
    half[:2] = 51
    assert rmse(black, half, np.arange(4)[:, None].repeat(4, 1) < 2) == 51
    assert rmse(black, half, np.arange(4)[:, None].repeat(4, 1) >= 2) == 0
