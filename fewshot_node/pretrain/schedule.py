"""The learning rate of a training run."""

import math
from typing import Protocol


class Scheduled(Protocol):
    """Settings that a schedule follows."""

    @property
    def steps(self) -> int:
        """Optimiser steps in all."""
        ...

    @property
    def warmup_steps(self) -> int:
        """Steps over which the rate rises."""
        ...

    @property
    def learning_rate(self) -> float:
        """Peak rate."""
        ...


def learning_rate(step: int, settings: Scheduled) -> float:
    """Return the rate at ``step``: linear warm-up, then half a cosine down to zero."""
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    left = (settings.steps - step) / max(1, settings.steps - settings.warmup_steps)
    return settings.learning_rate * 0.5 * (1 - math.cos(math.pi * left))
