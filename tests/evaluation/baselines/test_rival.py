"""What all rivals share: what they are shown, how logits become labels, and landmarks as discs."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from fewshot_node.errors import TemplateError
from fewshot_node.evaluation.baselines import RivalMethod
from fewshot_node.records import Code, Label, TaskKind
from fewshot_node.scoring.answers import Query
from fewshot_node.tasks.points import LandmarkPoint
from fewshot_node.tasks.task import TaskDefinition

CODE = Code("1", "SCT", "x")
LABELS = (Label(2, "low", CODE, CODE), Label(7, "high", CODE, CODE))


@dataclass
class Levels:
    """Says label 2 where an image is above 0.3, and 7, more surely, where it is above 0.7."""

    name: str = "levels"
    examples: list = field(default_factory=list)

    def learn(self, examples, label_values):
        self.examples += examples
        return self

    def label_logits(self, image):
        given = torch.from_numpy(image)
        return torch.stack([given - 0.3, 3 * (given - 0.7)])


def definition(kind=TaskKind.SEGMENTATION):
    return TaskDefinition("t", kind, LABELS)


def ramp():
    """Two slices with a margin of the least value; the percentiles lie at about 1 and 100."""
    array = np.zeros((2, 20, 110), dtype=np.float32)
    array[:, 5:15, 5:105] = np.arange(1, 101)
    return array


def test_the_highest_logit_above_nothing_has_the_pixel(make_template):
    array = ramp()
    labels = np.zeros(array.shape, dtype=np.uint8)
    labels[0, 6], labels[1, 8] = 2, 7
    learner = Levels()
    fitted = RivalMethod(learner).fit(definition(), [make_template(array, labels)])
    assert len(learner.examples) == 2
    assert 0 <= learner.examples[0].image.min() < learner.examples[0].image.max() == 1
    found = fitted.predict(Query(array, "MR", (1.0, 1.0, 1.0))).label_map
    assert found.shape == array.shape
    assert found.dtype == np.uint8
    # Of equal logits at 0.9, the first label's is higher below and the second's above.
    assert [int(found[0, 8, 5 + place]) for place in (9, 49, 98)] == [0, 2, 7]
    assert not found[:, 0].any()


def test_ct_is_seen_in_the_soft_tissue_window(make_template):
    array = np.linspace(-1000, 1000, 400, dtype=np.float32).reshape(1, 20, 20)
    learner = Levels()
    labels = np.full(array.shape, 2, dtype=np.uint8)
    labels[0, 0] = 7
    RivalMethod(learner).fit(definition(), [make_template(array, labels, modality="CT")])
    expected = np.clip((array[0] + 160) / 400, 0, 1)
    np.testing.assert_allclose(learner.examples[0].image, expected, atol=1e-5)


def test_landmarks_are_learnt_as_discs_and_found_as_centres(make_template):
    array = ramp()[:1]
    points = [LandmarkPoint(2, 0, 8.0, 30.0), LandmarkPoint(7, 0, 9.0, 80.0)]
    learner = Levels()
    task = definition(TaskKind.LANDMARKS)
    fitted = RivalMethod(learner).fit(task, [make_template(array, np.zeros(array.shape), points)])
    drawn = learner.examples[0].labels
    assert (drawn[8, 30], drawn[9, 80], drawn[8, 55]) == (2, 7, 0)
    query = np.zeros((2, 40, 60), dtype=np.float32)
    query[:, 0] = 1.0
    query[0, 3:6, 2:4] = 50.0  # smaller than the next, so left out of the centre
    query[1, 10:21, 20:31] = 50.0
    query[1, 38, 50:55] = 100.0
    found = {one.label_value: one for one in fitted.predict(Query(query, "MR", (1.0, 1.0, 1.0))).landmarks}
    assert found[2].index == (1.0, 15.0, 25.0)
    assert found[7].index == (1.0, 38.0, 52.0)
    nothing = fitted.predict(Query(query * 0, "MR", (1.0, 1.0, 1.0))).landmarks
    assert [(one.label_value, one.index, one.confidence) for one in nothing] == [(2, None, 0.0), (7, None, 0.0)]


def test_a_label_that_no_template_shows_is_named(make_template):
    labels = np.full((1, 4, 4), 2)
    with pytest.raises(TemplateError, match="no template shows 7=high"):
        RivalMethod(Levels()).fit(definition(), [make_template(np.ones((1, 4, 4)), labels)])
