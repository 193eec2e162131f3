"""Templates to annotated slices on the feature grid, their variants included."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from fewshot_node.records import LabelArray
from fewshot_node.tasks.augment import at_working_size, vary
from fewshot_node.tasks.progress import Watch, unwatched
from fewshot_node.tasks.task import TaskDefinition, TaskSettings
from fewshot_node.tasks.templates import Template
from fewshot_node.uids import digest_parts
from fewshot_node.vision.adapters import Support, cover_of_cells, labels_to_grid, square_canvas
from fewshot_node.vision.backbone import DenseEncoder
from fewshot_node.vision.encode import encode
from fewshot_node.vision.feature_cache import FeatureCache
from fewshot_node.vision.intensity import intensity_ranges
from fewshot_node.vision.landmarks import disc_labels


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Slices of one template, as they are or varied, on the feature grid.

    `owners` says which template, `origins` which annotated slice each is (a variant of).
    """

    features: NDArray[np.float16]
    labels: LabelArray
    cover: NDArray[np.float16]
    owners: NDArray[np.int64]
    origins: NDArray[np.int64]

    def squared(self) -> "_Part":
        """Put the slices into squares: templates of any aspect ratio share that grid."""
        features, cover = square_canvas(self.features), square_canvas(self.cover)
        return replace(self, features=features, labels=square_canvas(self.labels), cover=cover)


def build_support(
    definition: TaskDefinition,
    templates: Sequence[Template],
    encoder: DenseEncoder,
    cache: FeatureCache | None = None,
    watch: Watch = unwatched,
) -> Support:
    """Encode the slices of all templates and their variants, labels on the feature grid.

    Parameters
    ----------
    cache
        Where features are kept by content, so that the same slices are encoded once.
    """
    settings, values = definition.settings, definition.label_values
    count = settings.augment.count_for(sum(len(one.array) for one in templates), settings.adapter.name)
    parts: list[_Part] = []
    first = 0
    for owner, template in enumerate(templates):
        origins = np.arange(first, first + len(template.array))
        for images, label_map in _variants(template, settings, count):
            features = _encode(images, template, encoder, settings, cache)
            cells = (features.shape[1], features.shape[2])
            cover = cover_of_cells(label_map, values, cells)
            owners = np.full(len(origins), owner)
            parts.append(_Part(features, labels_to_grid(label_map, cells), cover, owners, origins))
            watch("encoding the templates", len(parts), len(templates) * (1 + count))
        first += len(template.array)
    return _join([part.squared() for part in parts] if settings.adapter.sees_neighbours else _bend(parts), values)


def _join(parts: Sequence[_Part], label_values: tuple[int, ...]) -> Support:
    return Support(
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.owners for part in parts]),
        label_values,
        slice_ids=np.concatenate([part.origins for part in parts]),
        cover=np.concatenate([part.cover for part in parts]),
    )


def _variants(
    template: Template, settings: TaskSettings, count: int
) -> Iterator[tuple[NDArray[np.float32], LabelArray]]:
    """Yield the slices as they are, then their variants at the encoder's size."""
    label_map = _drawn(template)
    yield template.array, label_map
    if not count:
        return
    # Seeded by the pixels: the same images under other UIDs make the same adapter.
    content = digest_parts((np.ascontiguousarray(template.array).tobytes(), label_map.tobytes()))
    seeds = np.random.default_rng([settings.augment.seed, int(content[:8], 16)]).integers(2**31, size=count)
    levels = intensity_ranges(template.intensity_sample, template.modality, settings.encode.intensity, 1)[0]
    images, label_map = at_working_size(template.array, label_map, settings.encode.finest_px, levels[0])
    for seed in seeds:
        yield vary(images, label_map, levels, int(seed), keep_contrast=template.modality == "CT")


def _encode(
    images: NDArray[np.float32],
    template: Template,
    encoder: DenseEncoder,
    settings: TaskSettings,
    cache: FeatureCache | None,
) -> NDArray[np.float16]:
    """Encode slices of a template, scaled as the whole series that they come from would be."""
    ranges = intensity_ranges(
        template.intensity_sample, template.modality, settings.encode.intensity, encoder.in_channels
    )
    return encode(images, template.modality, encoder, settings.encode, cache, ranges).array


def _drawn(template: Template) -> LabelArray:
    """Return the label map, with a disc for each landmark."""
    label_map = template.label_map.copy()
    for index in {point.slice_index for point in template.points}:
        places = {p.label_value: (p.row, p.column) for p in template.points if p.slice_index == index}
        label_map[index] = disc_labels(places, (label_map.shape[1], label_map.shape[2]))
    return label_map


def _bend(parts: Sequence[_Part]) -> list[_Part]:
    """Bring all slices to the first template's grid, in float32."""
    cells = (parts[0].features.shape[1], parts[0].features.shape[2])
    bent = []
    for part in parts:
        if part.features.shape[1:3] == cells:
            bent.append(replace(part, features=part.features.astype(np.float32)))
            continue
        features = functional.normalize(_resized(part.features, cells), dim=1).permute(0, 2, 3, 1).contiguous().numpy()
        cover = _resized(part.cover, cells).permute(0, 2, 3, 1).contiguous().numpy()
        bent.append(replace(part, features=features, labels=labels_to_grid(part.labels, cells), cover=cover))
    return bent


def _resized(array: NDArray[np.floating], cells: tuple[int, int]) -> torch.Tensor:
    stack = torch.from_numpy(np.asarray(array, dtype=np.float32)).permute(0, 3, 1, 2)
    return functional.interpolate(stack, cells, mode="bilinear", align_corners=False)
