"""Real series: taught from five of their slices, pushed with dcmtk, scored over all slices.

The figures are printed (`pytest -s`, or the report's summary): five slices of the same patient teach here, so
they say that geometry and chain are right, and not how well another patient goes.
"""

import subprocess
from collections.abc import Callable
from pathlib import Path

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from fewshot_node.cli.folder import series_from_folder
from fewshot_node.dicom.ledger import SeriesState
from fewshot_node.models import Models
from fewshot_node.records import TaskKind
from fewshot_node.tasks.codes import parse_label
from fewshot_node.tasks.registry import Registry
from fewshot_node.tasks.rule_text import parse_rule
from fewshot_node.tasks.selection import TemplateSelection
from fewshot_node.tasks.task import TaskDefinition
from fewshot_node.tasks.templates import read_template
from tests.chain.running_node import RunningNode
from tests.chain.test_serve import fetch, iou_in_mm

pytestmark = [
    pytest.mark.orthanc,
    pytest.mark.dcmtk,
    pytest.mark.prefect,
    pytest.mark.shared_data,
    pytest.mark.timeout(600),
]


def teach(
    node: RunningNode, models: Models, name: str, labels: list[str], rules: list[str], template: tuple[Path, Path]
) -> None:
    """What `task add`, `template add --ignore-others`, `task fit` and `task publish` do."""
    definition = TaskDefinition(
        name, TaskKind.SEGMENTATION, tuple(map(parse_label, labels)), tuple(map(parse_rule, rules))
    )
    registry = Registry(node.settings.tasks)
    registry.add(definition)
    selection = TemplateSelection(ignore_others=True)
    files = series_from_folder(template[0]).files
    registry.add_template(name, read_template(files, template[1], definition, selection))
    registry.fit(name, models.encoder)
    registry.publish(name)


def require_valid(path: Path, require_tool: Callable[[str], str]) -> None:
    checked = subprocess.run([require_tool("dciodvfy"), str(path)], capture_output=True, text=True)
    errors = [line for line in (checked.stdout + checked.stderr).splitlines() if line.startswith("Error")]
    assert errors == []


def push_and_fetch(
    node: RunningNode, files: list[Path], series_uid: str, folder: Path, require_tool: Callable[[str], str]
) -> tuple[Path, Path]:
    """Push a series; return its SEG and SR out of Orthanc, both valid and readable."""
    assert node.push(files).returncode == 0
    entry = node.ended(series_uid)
    assert (entry.state, entry.reason, entry.instances) == (SeriesState.DELIVERED, "", len(files))
    seg, report = folder / "seg.dcm", folder / "sr.dcm"
    seg.write_bytes(fetch(node, entry.outcomes[0].segmentation_instance_uid or ""))
    report.write_bytes(fetch(node, entry.outcomes[0].report_instance_uid or ""))
    for path in (seg, report):
        require_valid(path, require_tool)
    printed = subprocess.run([require_tool("dsrdump"), str(report)], capture_output=True, text=True)
    assert printed.returncode == 0
    assert "Imaging Measurement Report" in printed.stdout
    assert highdicom.sr.srread(report).content.get_volumetric_roi_measurement_groups()
    print({name: round(seconds, 1) for name, seconds in entry.outcomes[0].seconds.items()})
    return seg, report


def test_a_liver_ct_of_129_slices_without_a_frame_of_reference(
    node: RunningNode, models: Models, shared_data: Path, tmp_path: Path, require_tool: Callable[[str], str]
) -> None:
    folder = shared_data / "series" / "ct-liver-3d"
    truth = shared_data / "series" / "ct-liver-3d.labels.nii.gz"
    labels = ["1=Liver", "3=Left kidney", "4=Right kidney", "5=Spleen"]
    teach(node, models, "real-liver", labels, ["Modality=CT", "number_of_slices>=100"], (folder, truth))
    received = series_from_folder(folder)
    uid = received.key.series_instance_uid
    seg, _ = push_and_fetch(node, list(received.files), uid, tmp_path, require_tool)
    scores = {
        label: iou_in_mm(seg.read_bytes(), truth, value=int(label.partition("=")[0]), number=number)
        for number, label in enumerate(labels, start=1)
    }
    print("ct-liver-3d, IoU over all 129 slices:", {label: round(score, 3) for label, score in scores.items()})
    assert scores["1=Liver"] > 0.7


def named_copies(folder: Path, target: Path) -> list[Path]:
    """Copy a series whose datasets lack the UIDs that a network needs, with UIDs; pixels stay as they are."""
    target.mkdir()
    study, series = generate_uid(entropy_srcs=[str(folder.name), "study"]), generate_uid(entropy_srcs=[folder.name])
    for path in sorted(folder.iterdir()):
        dataset = pydicom.dcmread(path)
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
        dataset.save_as(target / f"{path.name}.dcm")
    return sorted(target.iterdir())


def test_an_abdomen_ct_in_jpeg_2000(
    node: RunningNode, models: Models, shared_data: Path, tmp_path: Path, require_tool: Callable[[str], str]
) -> None:
    truth = shared_data / "series" / "ct-abdomen-j2k.labels.nii.gz"
    files = named_copies(shared_data / "series" / "ct-abdomen-j2k", tmp_path / "series")
    value = largest_label(truth)
    rules = ["Modality=CT", "number_of_slices=20"]
    label = f"{value}=structure {value}:SCT:91723000:Anatomical structure"
    teach(node, models, "real-abdomen", [label], rules, (tmp_path / "series", truth))
    uid = str(pydicom.dcmread(files[0], stop_before_pixels=True).SeriesInstanceUID)
    seg, _ = push_and_fetch(node, files, uid, tmp_path, require_tool)
    score = iou_in_mm(seg.read_bytes(), truth, value=value, number=1)
    print(f"ct-abdomen-j2k, IoU of structure {value} over all 20 slices: {score:.3f}")
    assert score > 0.7


def largest_label(truth: Path) -> int:
    counts = np.bincount(np.asarray(nibabel.load(truth).dataobj).astype(int).ravel())
    counts[0] = 0
    return int(counts.argmax())
