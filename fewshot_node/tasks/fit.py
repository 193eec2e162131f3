"""Templates -> features -> support -> adapter."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from fewshot_node.errors import TaskError, TemplateError
from fewshot_node.records import FloatArray, LabelArray
from fewshot_node.tasks.augment import AugmentSettings, draw_poses, vary_images, vary_labels
from fewshot_node.tasks.task import TaskDefinition, definition_to_data
from fewshot_node.tasks.templates import Template
from fewshot_node.uids import digest_parts
from fewshot_node.vision.adapters import Adapter, Support, fit_adapter, labels_to_grid
from fewshot_node.vision.backbone import DenseEncoder
from fewshot_node.vision.encode import EncodeSettings, encode
from fewshot_node.vision.intensity import intensity_ranges
from fewshot_node.vision.landmarks import disc_labels


@dataclass(frozen=True, slots=True)
class FitReport:
    """What a task was learnt from, and how long it took.

    Attributes
    ----------
    slices, negative_slices
        Template slices, and those of them that show no label.
    labels
        How many labels were learnt.
    """

    seconds: float
    templates: int
    slices: int
    negative_slices: int
    labels: int


def fit_task(
    definition: TaskDefinition, templates: Sequence[Template], encoder: DenseEncoder
) -> tuple[Adapter, FitReport]:
    """Fit a task's adapter to its templates; the same input gives the same adapter.

    Raises
    ------
    TaskError
        There is no template.
    TemplateError
        A label is shown by no template; the message names it.
    """
    started = time.perf_counter()
    _require_examples(definition, templates)
    support = build_support(definition, templates, encoder)
    adapter = fit_adapter(support, definition.settings.adapter)
    slices = sum(len(template.array) for template in templates)
    annotated = sum(template.annotated_slices for template in templates)
    seconds = time.perf_counter() - started
    return adapter, FitReport(seconds, len(templates), slices, slices - annotated, len(definition.labels))


def build_support(definition: TaskDefinition, templates: Sequence[Template], encoder: DenseEncoder) -> Support:
    """Encode the slices of all templates and their variants, labels on the feature grid."""
    features: list[NDArray[np.float32]] = []
    labels: list[LabelArray] = []
    owners: list[NDArray[np.int64]] = []
    origins: list[NDArray[np.int64]] = []
    first = 0
    cells: tuple[int, int] | None = None
    for owner, template in enumerate(templates):
        for array, label_map in _with_variants(template, definition.settings.augment):
            encoded = _encode(array, template, encoder, definition.settings.encode)
            cells = cells or (encoded.shape[1], encoded.shape[2])
            features.append(_to_cells(encoded, cells))
            labels.append(labels_to_grid(label_map, cells))
            owners.append(np.full(len(array), owner))
            # A slice and its variants are one slice to whoever holds slices out.
            origins.append(np.arange(first, first + len(array)))
        first += len(template.array)
    return Support(
        np.concatenate(features),
        np.concatenate(labels),
        np.concatenate(owners),
        definition.label_values,
        slice_ids=np.concatenate(origins),
    )


def fit_key(definition: TaskDefinition, templates: Sequence[Template], encoder_digest: str) -> str:
    """Digest of all that an adapter depends on; rules and what comes after the adapter do not count."""
    data = definition_to_data(definition)
    learnt = {key: data["settings"][key] for key in ("adapter", "encode", "augment")}
    values = [label.value for label in definition.labels]
    facts = json.dumps([definition.kind, values, learnt, encoder_digest], sort_keys=True)
    return digest_parts((facts.encode(), *(f"{one.name}:{one.digest()}".encode() for one in templates)))


def _require_examples(definition: TaskDefinition, templates: Sequence[Template]) -> None:
    if not templates:
        raise TaskError(f"task {definition.name} has no template: add one (template add), then fit")
    shown = {value for template in templates for value in template.label_values}
    missing = [f"{label.value}={label.name}" for label in definition.labels if label.value not in shown]
    if missing:
        raise TemplateError(
            f"task {definition.name}: no template shows {', '.join(missing)}: add a template that does "
            "(template add), or give the task only the other labels (task change)"
        )


def _with_variants(template: Template, settings: AugmentSettings) -> list[tuple[NDArray[np.float32], LabelArray]]:
    label_map = _drawn(template)
    # Seeded by the pixels: the same images under other UIDs make the same adapter.
    content = digest_parts((np.ascontiguousarray(template.array).tobytes(), label_map.tobytes()))
    rng = np.random.default_rng([settings.seed, int(content[:8], 16)])
    variants = [(template.array, label_map)]
    for _ in range(settings.count):
        poses = draw_poses(len(label_map), (label_map.shape[1], label_map.shape[2]), rng)
        varied = vary_images(template.array, template.modality, poses, rng)
        variants.append((varied, vary_labels(label_map, poses)))
    return variants


def _encode(
    array: NDArray[np.float32], template: Template, encoder: DenseEncoder, settings: EncodeSettings
) -> FloatArray:
    """Encode slices of a template, scaled as the whole series that they come from would be."""
    ranges = intensity_ranges(template.intensity_sample, template.modality, settings.intensity, encoder.in_channels)
    return encode(array, template.modality, encoder, settings, ranges=ranges).array


def _drawn(template: Template) -> LabelArray:
    """Return the label map, with a disc for each landmark."""
    label_map = template.label_map.copy()
    for index in {point.slice_index for point in template.points}:
        places = {p.label_value: (p.row, p.column) for p in template.points if p.slice_index == index}
        label_map[index] = disc_labels(places, (label_map.shape[1], label_map.shape[2]))
    return label_map


def _to_cells(features: NDArray[np.floating], cells: tuple[int, int]) -> NDArray[np.float32]:
    """Bring features of images of another shape to the first template's grid: a support has one grid."""
    array = np.asarray(features, dtype=np.float32)
    if array.shape[1:3] == cells:
        return array
    stack = torch.from_numpy(array).permute(0, 3, 1, 2)
    resized = functional.interpolate(stack, cells, mode="bilinear", align_corners=False)
    unit: NDArray[np.float32] = functional.normalize(resized, dim=1).permute(0, 2, 3, 1).contiguous().numpy()
    return unit
