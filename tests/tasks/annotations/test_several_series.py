"""Templates of several series and orientations, and negative ones, make one task."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fewshot_node.errors import TemplateError
from fewshot_node.evaluation.phantom_series import write_labels_nifti
from fewshot_node.tasks.augment import AugmentSettings
from fewshot_node.tasks.registry import Registry
from fewshot_node.tasks.selection import TemplateSelection
from fewshot_node.tasks.task import TaskSettings
from fewshot_node.tasks.templates import read_template
from fewshot_node.vision.adapters import AdapterSettings
from fewshot_node.vision.backbone import load_encoder
from fewshot_node.vision.encode import EncodeSettings
from tests.tasks.annotations.conftest import Case


def test_orientations_and_negatives_are_learnt_together(cases: dict[str, Case], tmp_path: Path) -> None:
    settings = TaskSettings(
        adapter=AdapterSettings(name="basic"),
        encode=EncodeSettings(input_px=64, precision="float32"),
        augment=AugmentSettings(count=0),
    )
    definition = replace(cases["axial"].definition, settings=settings)
    registry = Registry(tmp_path / "tasks")
    registry.add(definition)
    choice = TemplateSelection(ignore_others=True)
    for kind in ("axial", "oblique"):
        labels = tmp_path / f"{kind}.nii.gz"
        write_labels_nifti(cases[kind].phantom, labels)
        indices = (2, 3, 4) if kind == "axial" else (3, 4, 5)
        template = read_template(
            cases[kind].series.files, labels, definition, replace(choice, name=kind, indices=indices)
        )
        registry.add_template("organs", template)
    negative = read_template(
        cases["axial"].series.files, None, definition, TemplateSelection(name="absent", indices=(0, 7))
    )
    assert negative.label_values == ()
    assert negative.annotated_slices == 0
    registry.add_template("organs", negative)
    assert [one.orientation for one in registry.templates("organs")] == ["axial", "axial", "oblique"]
    report = registry.fit("organs", load_encoder("embedded"))
    assert (report.templates, report.slices, report.labels) == (3, 8, 4)
    assert report.negative_slices >= 2
    registry.publish("organs")
    assert registry.published("organs").definition.label_values == (1, 2, 3, 4)


def test_the_same_scan_as_one_multi_frame_instance_is_a_duplicate(cases: dict[str, Case], tmp_path: Path) -> None:
    write_labels_nifti(cases["axial"].phantom, tmp_path / "l.nii")
    definition = cases["axial"].definition
    registry = Registry(tmp_path / "tasks")
    registry.add(definition)
    choice = TemplateSelection(ignore_others=True, indices=(3, 4))
    for kind in ("axial", "multi-frame"):
        template = read_template(cases[kind].series.files, tmp_path / "l.nii", definition, replace(choice, name=kind))
        if kind == "axial":
            registry.add_template("organs", template)
    with pytest.raises(TemplateError, match="template multi-frame repeats axial of task organs"):
        registry.add_template("organs", template)
    np.testing.assert_array_equal(template.label_map, cases["axial"].truth[3:5])
