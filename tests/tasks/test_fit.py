from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fewshot_node.errors import TaskError, TemplateError
from fewshot_node.records import TaskKind
from fewshot_node.tasks.augment import AugmentSettings
from fewshot_node.tasks.codes import parse_label
from fewshot_node.tasks.fit import build_support, fit_key, fit_task
from fewshot_node.tasks.registry import Registry
from fewshot_node.tasks.selection import TemplateSelection
from fewshot_node.tasks.storage import folder_digests
from fewshot_node.tasks.task import TaskDefinition
from fewshot_node.tasks.templates import Template, read_template
from fewshot_node.vision.adapters import AdapterSettings, adapter_digest
from fewshot_node.vision.backbone import DenseEncoder
from fewshot_node.vision.encode import encode
from fewshot_node.vision.feature_cache import FolderCache


@pytest.fixture(scope="module")
def template(example, nifti: Path, definition: TaskDefinition) -> Template:
    return read_template(example.files, nifti, definition)


def test_support_has_labels_where_the_template_has_them(
    template: Template, definition: TaskDefinition, encoder: DenseEncoder
) -> None:
    support = build_support(definition, [template], encoder)
    count, height, width = support.labels.shape
    assert count == len(template.array)
    for row in range(height):
        for column in range(width):
            r = int((row + 0.5) * template.array.shape[1] / height)
            c = int((column + 0.5) * template.array.shape[2] / width)
            area = template.label_map[:, max(r - 4, 0) : r + 5, max(c - 4, 0) : c + 5].reshape(count, -1)
            sure = (area == area[:, :1]).all(axis=1)
            np.testing.assert_array_equal(support.labels[sure, row, column], area[sure, 0])


def test_variants_multiply_the_slices_and_are_repeatable(
    template: Template, definition: TaskDefinition, encoder: DenseEncoder
) -> None:
    more = replace(definition, settings=replace(definition.settings, augment=AugmentSettings(count=2)))
    first, second = (build_support(more, [template], encoder) for _ in range(2))
    assert len(first.labels) == 3 * len(template.array)
    np.testing.assert_array_equal(first.features, second.features)
    np.testing.assert_array_equal(first.labels, second.labels)
    assert not np.array_equal(
        first.features[: len(template.array)], first.features[len(template.array) :][: len(template.array)]
    )


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_template_slices_look_as_they_do_within_their_series(
    make_example: Callable[..., object],
    save_nifti: Callable[..., Path],
    tmp_path: Path,
    definition: TaskDefinition,
    encoder: DenseEncoder,
    modality: str,
) -> None:
    """Bright slices elsewhere in the series set the scale, though the template does not hold them."""
    series = make_example(seed=8, modality=modality, bright_end=True)
    path = save_nifti(tmp_path / "l.nii", series.labels, series.affine)
    template = read_template(series.files, path, definition, TemplateSelection(indices=(8, 11)))
    support = build_support(definition, [template], encoder)
    whole = encode(series.array, modality, encoder, definition.settings.encode).array
    alone = encode(template.array, modality, encoder, definition.settings.encode).array
    wanted = whole[[8, 11]].astype(np.float32)
    assert np.abs(support.features - wanted).max() < 0.05
    assert modality == "CT" or np.abs(alone - wanted).max() > 0.2


def test_small_label_does_not_vanish(template: Template, definition: TaskDefinition, encoder: DenseEncoder) -> None:
    tiny = np.zeros_like(template.label_map)
    tiny[0, 20, 20], tiny[1, 5, 5] = 1, 3
    support = build_support(definition, [replace(template, label_map=tiny)], encoder)
    assert (support.labels[0] == 1).sum() == 1
    assert (support.labels[1] == 3).sum() == 1
    assert not support.labels[2:].any()


def test_templates_of_other_shapes_share_one_grid(
    template: Template, definition: TaskDefinition, encoder: DenseEncoder
) -> None:
    wide = replace(template, array=template.array[:, :30], label_map=template.label_map[:, :30])
    support = build_support(definition, [template, wide], encoder)
    assert support.features.shape[0] == 2 * len(template.array)
    np.testing.assert_allclose(np.linalg.norm(support.features, axis=-1), 1, atol=2e-3)
    assert set(support.template_ids.tolist()) == {0, 1}
    for owner in (0, 1):
        assert set(np.unique(support.labels[support.template_ids == owner])) == {0, 1, 3}


def test_fitted_adapter_finds_the_organs_in_another_patient(
    make_example: Callable[..., object], template: Template, definition: TaskDefinition, encoder: DenseEncoder
) -> None:
    settings = replace(definition.settings, adapter=AdapterSettings(steps=120))
    adapter, report = fit_task(replace(definition, settings=settings), [template], encoder)
    assert (report.templates, report.slices, report.labels) == (1, len(template.array), 2)
    assert report.negative_slices == len(template.array) - 5
    other = make_example(seed=5)
    features = encode(other.array, "CT", encoder, settings.encode)
    found = np.array((0, *adapter.label_values))[adapter.scores(features).argmax(axis=1)]
    rows = (np.arange(found.shape[1]) + 0.5) * other.array.shape[1] / found.shape[1]
    columns = (np.arange(found.shape[2]) + 0.5) * other.array.shape[2] / found.shape[2]
    truth = other.labels[:, rows.astype(int)][:, :, columns.astype(int)]
    for value in (1, 3):
        overlap = ((found == value) & (truth == value)).sum() / ((found == value) | (truth == value)).sum()
        assert overlap > 0.6


def test_landmarks_become_discs(tmp_path: Path, example, definition: TaskDefinition, encoder: DenseEncoder) -> None:
    labels = (parse_label("1=KPB", TaskKind.LANDMARKS), parse_label("2=KAL", TaskKind.LANDMARKS))
    task = TaskDefinition("points", TaskKind.LANDMARKS, labels, settings=definition.settings)
    (tmp_path / "p.json").write_text(
        '{"landmarks": {"KPB": {"slice_index": 4, "row": 20, "column": 10},'
        ' "KAL": {"slice_index": 4, "row": 36, "column": 30}}}'
    )
    template = read_template(example.files, tmp_path / "p.json", task, TemplateSelection(indices=(4, 12)))
    support = build_support(task, [template], encoder)
    assert set(np.unique(support.labels[0])) == {0, 1, 2}
    assert not support.labels[1].any()
    height, width = support.labels.shape[1:]
    for value, (row, column) in {1: (20, 10), 2: (36, 30)}.items():
        middle = np.argwhere(support.labels[0] == value).mean(axis=0) + 0.5
        expected = ((row + 0.5) / 48 * height, (column + 0.5) / 40 * width)
        np.testing.assert_allclose(middle, expected, atol=1.0)


def test_an_interrupted_fit_starts_from_what_was_encoded_and_ends_the_same(
    tmp_path: Path, template: Template, definition: TaskDefinition, encoder: DenseEncoder
) -> None:
    settings = replace(
        definition.settings, adapter=AdapterSettings(name="classification", steps=3), augment=AugmentSettings(count=2)
    )
    task = replace(definition, settings=settings)
    undisturbed, _ = fit_task(task, [template], encoder)
    cache, stages = FolderCache(tmp_path, 10**9), []

    def interrupt(stage: str, done: int, total: int) -> None:
        stages.append((stage, done, total))
        if stage == "training the head":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_task(task, [template], encoder, cache, interrupt)
    assert stages[:3] == [("encoding the templates", done, 3) for done in (1, 2, 3)]
    kept = sorted(tmp_path.glob("*.npy"))
    assert len(kept) == 3
    steps = []
    again, _ = fit_task(task, [template], encoder, cache, lambda *told: steps.append(told))
    assert adapter_digest(again) == adapter_digest(undisturbed)
    assert sorted(tmp_path.glob("*.npy")) == kept
    assert ("training the head", 3, 3) in steps
    assert all(done <= total for _, done, total in steps)


def test_no_template_is_refused(definition: TaskDefinition, encoder: DenseEncoder) -> None:
    with pytest.raises(TaskError, match="has no template"):
        fit_task(definition, [], encoder)


def test_label_without_example_is_named(template: Template, definition: TaskDefinition, encoder: DenseEncoder) -> None:
    only_liver = replace(template, label_map=np.where(template.label_map == 1, 1, 0).astype(np.uint8))
    with pytest.raises(TemplateError, match="no template shows 3=Spleen"):
        fit_task(definition, [only_liver], encoder)


def test_fit_key_follows_what_is_learnt_and_nothing_else(template: Template, definition: TaskDefinition) -> None:
    key = fit_key(definition, [template], "e")
    cleaned = replace(definition.settings, cleaning=replace(definition.settings.cleaning, smoothing_mm=9.0))
    assert fit_key(replace(definition, settings=cleaned, description="x"), [template], "e") == key
    seeded = replace(definition.settings, adapter=AdapterSettings(name="basic", seed=4))
    assert fit_key(replace(definition, settings=seeded), [template], "e") != key
    assert fit_key(definition, [template], "f") != key
    assert fit_key(definition, [replace(template, modality="MR")], "e") != key


def test_an_interrupted_fit_leaves_the_draft_as_it_was(
    tmp_path: Path, template: Template, definition: TaskDefinition, encoder: DenseEncoder
) -> None:
    registry = Registry(tmp_path / "tasks")
    registry.add(definition)
    registry.add_template(definition.name, template)
    registry.fit(definition.name, encoder)
    draft = registry.draft_folder(definition.name)
    before = folder_digests(draft)

    def interrupt(stage: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        registry.fit(definition.name, encoder, watch=interrupt)
    assert folder_digests(draft) == before
    assert registry.is_fitted(definition.name)
