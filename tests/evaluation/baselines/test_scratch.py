"""A U-Net from scratch: it learns discs, repeats itself, and leaves no trace in the random numbers of others."""

import numpy as np
import pytest
import torch

from fewshot_node.evaluation.baselines import ScratchSettings, ScratchUNet
from fewshot_node.evaluation.baselines.rival import Example
from fewshot_node.evaluation.baselines.scratch import _from_square, _square

QUICK = ScratchSettings(steps=40, batch=3, image_px=48, widths=(8, 16, 32), learning_rate=1e-2)


def test_it_learns_a_disc_and_says_nothing_where_there_is_none(disc_examples, make_disc):
    model = ScratchUNet(QUICK).learn(disc_examples, (3,))
    image, disc = make_disc(36, 34, seed=9)
    found = model.label_logits(image)[0].numpy() > 0
    assert found.shape == (64, 64)
    assert (found & disc).sum() / (found | disc).sum() > 0.7
    empty, _ = make_disc(-50, -50, seed=9)
    assert (model.label_logits(empty)[0] > 0).float().mean() < 0.05


def test_the_same_seed_gives_the_same_network_and_another_one_another(disc_examples, make_disc):
    image, _ = make_disc(36, 34)
    short = ScratchSettings(steps=2, batch=2, image_px=48, widths=(8, 16, 32))
    before = torch.random.get_rng_state()
    first, again = (ScratchUNet(short).learn(disc_examples, (3,)).label_logits(image) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first, again)
    other = ScratchSettings(steps=2, batch=2, image_px=48, widths=(8, 16, 32), seed=1)
    assert not torch.equal(ScratchUNet(other).learn(disc_examples, (3,)).label_logits(image), first)


def test_labels_are_told_apart_by_their_values(make_disc):
    """Label values need not be 1 to n; logits come in the order of the values asked for."""
    image, first = make_disc(16, 16, radius=9)
    _, second = make_disc(46, 46, radius=9)
    image = np.where(second, 0.5, image).astype(np.float32)
    labels = np.where(first, 9, np.where(second, 4, 0)).astype(np.uint8)
    settings = ScratchSettings(steps=60, batch=2, image_px=48, widths=(8, 16, 32), learning_rate=1e-2)
    logits = ScratchUNet(settings).learn([Example(image, labels)], (9, 4)).label_logits(image)
    assert logits[0, 16, 16] > max(0, logits[1, 16, 16])
    assert logits[1, 46, 46] > max(0, logits[0, 46, 46])


@pytest.mark.parametrize("shape", [(30, 80), (80, 30), (64, 64)])
def test_what_is_placed_in_a_square_comes_back_to_its_place(shape):
    image = np.zeros(shape, dtype=np.float32)
    image[shape[0] // 3 : shape[0] // 2, shape[1] // 3 : shape[1] // 2] = 1
    square, _ = _square(image, np.zeros(shape, dtype=np.uint8), 160)
    assert square.shape == (1, 160, 160)
    back = _from_square(torch.from_numpy(square)[None], shape)[0, 0].numpy()
    assert (np.abs(back - image) > 0.5).mean() < 0.01
