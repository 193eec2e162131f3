"""UniverSeg as a row: what its network is shown, and that each label's logits come back to the image."""

import numpy as np
import torch

from fewshot_node.evaluation.baselines import UniverSegLearner
from fewshot_node.evaluation.baselines.rival import Example
from fewshot_node.vision.universeg import UniverSegModel


class Brightness:
    """A network's stand-in: a pixel belongs where it is as bright as the examples' marked pixels are on the mean."""

    def __init__(self):
        self.seen = []

    def to(self, device):
        return self

    def __call__(self, image, support_images, support_masks):
        self.seen.append((image, support_images, support_masks))
        level = (support_images * support_masks).sum() / support_masks.sum()
        return 0.15 - (image - level).abs()


def test_each_label_is_shown_by_the_slices_that_hold_it():
    images = [np.full((40, 60), 0.2, dtype=np.float32) for _ in range(3)]
    labels = [np.zeros((40, 60), dtype=np.uint8) for _ in range(3)]
    for index, value, level in ((0, 2, 0.6), (1, 2, 0.6), (1, 5, 1.0)):
        rows = slice(4, 20) if value == 2 else slice(24, 36)
        images[index][rows, 10:50], labels[index][rows, 10:50] = level, value
    network = Brightness()
    examples = [Example(*pair) for pair in zip(images, labels, strict=True)]
    model = UniverSegLearner(UniverSegModel(network, 32)).learn(examples, (2, 5))
    logits = model.label_logits(images[1])
    assert logits.shape == (2, 40, 60)
    for value, found in zip((2, 5), logits, strict=True):
        truth = labels[1] == value
        overlap = (found.numpy() > 0) & truth
        assert overlap.sum() / ((found.numpy() > 0) | truth).sum() > 0.85
    shown = [(tuple(one.shape) for one in call) for call in network.seen]
    assert [tuple(call) for call in shown] == [
        ((1, 1, 32, 32), (1, 2, 1, 32, 32), (1, 2, 1, 32, 32)),
        ((1, 1, 32, 32), (1, 1, 1, 32, 32), (1, 1, 1, 32, 32)),
    ]
    assert set(network.seen[0][2].unique().tolist()) == {0.0, 1.0}


def test_a_structure_below_a_pixel_is_still_shown_and_many_slices_are_thinned():
    labels = np.zeros((128, 128), dtype=np.uint8)
    labels[50, 70] = 1
    examples = [Example(np.full((128, 128), index / 100, dtype=np.float32), labels) for index in range(100)]
    (support,) = UniverSegLearner(UniverSegModel(Brightness(), 32)).learn(examples, (1,)).supports
    assert support.shape == (64, 2, 32, 32)
    assert torch.all(support[:, 1].sum(dim=(1, 2)) >= 1)
    levels = support[:, 0, 0, 0]
    assert (round(float(levels[0]), 2), round(float(levels[-1]), 2)) == (0.0, 0.99)
