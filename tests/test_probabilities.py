import numpy as np
import pytest
import torch
from torch.nn import functional

from fewshot_node.probabilities import LabelProbabilities


@pytest.mark.parametrize(("grid", "image"), [((5, 4), (16, 12)), ((3, 7), (10, 7)), ((1, 1), (4, 3)), ((9, 8), (4, 3))])
def test_it_is_the_softmax_of_the_interpolated_scores(grid: tuple[int, int], image: tuple[int, int]) -> None:
    scores = np.random.default_rng(3).normal(size=(2, 4, *grid)).astype(np.float32) * 5
    seen = LabelProbabilities(scores, (1, 7, 12), image).on_slice(1)
    fine = functional.interpolate(torch.from_numpy(scores[1:]), image, mode="bilinear", align_corners=False)
    expected = torch.softmax(fine, dim=1)[0, 1:].numpy()
    assert seen.dtype == np.float32
    np.testing.assert_allclose(seen, expected, atol=1e-5)


def test_a_channel_that_is_ruled_out_has_no_share() -> None:
    scores = np.zeros((1, 3, 2, 2), dtype=np.float32)
    scores[:, 2] = -1e4
    seen = LabelProbabilities(scores, (1, 2), (4, 4)).on_slice(0)
    np.testing.assert_allclose(seen[0], 0.5)
    np.testing.assert_array_equal(seen[1], 0)


def test_scores_that_do_not_fit_the_labels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"do not fit 3 labels"):
        LabelProbabilities(np.zeros((1, 3, 2, 2), dtype=np.float32), (1, 2, 3), (4, 4))
