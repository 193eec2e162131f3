"""PerSAM: a promptable model personalised by one example, without training (Zhang et al., arXiv 2305.03048)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewshot_node.evaluation.baselines.cascade import most_trusted, refine_by_box
from fewshot_node.evaluation.baselines.rival import Example
from fewshot_node.evaluation.baselines.target import Likeness, Reference, Target, cover, likeness, show, target_of
from fewshot_node.vision.sam import EmbeddedImage, Guidance, SamEngine


@dataclass(frozen=True, slots=True, eq=False)
class PerSam:
    """The method on any engine, one mask a label.

    Where the image resembles the label's mean feature most and least lie a positive and a negative point. The
    similarity leads the decoder's attention, the feature itself is added to its tokens; the answer is refined
    twice. It has no way to say that a label is absent. Where labels meet, the higher logit has the pixel.
    Several templates: see `Target`.
    """

    engine: SamEngine
    name: str = "persam"

    def learn(self, examples: Sequence[Example], label_values: tuple[int, ...]) -> "PersonalSam":
        """Take each label's look from the examples."""
        return PersonalSam(self.engine, targets(self.engine, examples, label_values))


def targets(engine: SamEngine, examples: Sequence[Example], label_values: tuple[int, ...]) -> tuple[Target, ...]:
    """Return what each label looks like."""
    return tuple(target_of(found) for found in references(engine, examples, label_values))


def references(
    engine: SamEngine, examples: Sequence[Example], label_values: tuple[int, ...]
) -> list[tuple[Reference, ...]]:
    """Return the examples that show each label; an example is encoded once."""
    seen = [show(engine, example.image) for example in examples]
    pairs = list(zip(seen, (example.labels for example in examples), strict=True))
    return [
        tuple(Reference(image, labels == value) for image, labels in pairs if (labels == value).any())
        for value in label_values
    ]


@dataclass(frozen=True, slots=True, eq=False)
class PersonalSam:
    """An engine and what its labels look like."""

    engine: SamEngine
    targets: tuple[Target, ...]

    def label_logits(self, image: NDArray[np.float32]) -> Tensor:
        """Return (labels, rows, columns) logits of a slice (rows, columns) on 0..1."""
        embedded = show(self.engine, image)
        return torch.stack([self._one_label(embedded, target) for target in self.targets])

    def _one_label(self, image: EmbeddedImage, target: Target) -> Tensor:
        found = likeness(image, target)
        led = self.engine.segment(image, found.prompts, multimask=False, guidance=_guidance(image, target, found))
        again = replace(found.prompts, mask_inputs=led.low_res[:, 0])
        answer = self.engine.segment(image, again)
        best = most_trusted(answer)
        logits = torch.from_numpy(answer.logits[0, best])
        return refine_by_box(self.engine, image, found.prompts, logits, answer.low_res[:, best])


def _guidance(image: EmbeddedImage, target: Target, found: Likeness) -> Guidance:
    """Return the similarity, in standard deviations and squashed to 0..1, and the feature that is added to tokens.

    The paper writes a softmax, whose values over thousands of places are next to nothing; its authors' program
    squashes, and their figures were made so.
    """
    every = np.ones(image.image_shape, dtype=bool)
    on_slice = found.cells[cover(every, image, (found.cells.shape[0], found.cells.shape[1])) >= 0.5]
    similarity = ((found.cells - on_slice.mean()) / on_slice.std().clamp(min=1e-6)).sigmoid()
    return Guidance(similarity.reshape(1, 1, 1, -1), target.embedding.reshape(1, 1, 1, -1))
