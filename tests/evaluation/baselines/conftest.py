"""Slices with a bright disc, whose place is known."""

import numpy as np
import pytest

from fewshot_node.evaluation.baselines.rival import Example
from fewshot_node.tasks.templates import Template


def disc_slice(row: float, column: float, shape: tuple[int, int] = (64, 64), radius: float = 10, seed: int = 0):
    """Return an image on 0..1 and bool truth."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    disc = (rows - row) ** 2 + (columns - column) ** 2 <= radius**2
    noise = np.random.default_rng(seed).normal(0, 0.03, shape)
    return np.clip(np.where(disc, 0.8, 0.2) + noise, 0, 1).astype(np.float32), disc


@pytest.fixture
def make_disc():
    return disc_slice


@pytest.fixture
def disc_examples():
    """Three slices with a disc, label 3."""
    found = [disc_slice(*place, seed=seed) for seed, place in enumerate([(30, 30), (25, 40), (40, 22)])]
    return [Example(image, np.where(disc, 3, 0).astype(np.uint8)) for image, disc in found]


@pytest.fixture
def make_template():
    """Build templates of (slices, rows, columns) arrays."""

    def build(array, label_map, points=(), modality="MR"):
        return Template(
            name="t",
            series_instance_uid="1.2",
            modality=modality,
            array=array.astype(np.float32),
            label_map=label_map.astype(np.uint8),
            intensity_sample=array.reshape(-1).astype(np.float32),
            points=tuple(points),
            spacing_mm=(1.0, 1.0, 1.0),
            orientation=None,
            slice_indices=tuple(range(len(array))),
            instance_uids=tuple(str(index) for index in range(len(array))),
        )

    return build
