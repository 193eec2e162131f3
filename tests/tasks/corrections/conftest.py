"""A node without a network that has made results, and the objects that people send back to it."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from fewshot_node.config import DeliverySettings, FolderDestination, NodeSettings
from fewshot_node.dicom.ledger import SeriesEntry, SeriesNote, SeriesState
from fewshot_node.models import Models
from fewshot_node.node import Node, open_node
from fewshot_node.records import SeriesKey, TaskKind
from fewshot_node.tasks.codes import parse_label
from fewshot_node.tasks.registry import Registry
from fewshot_node.tasks.rule_text import parse_rule
from fewshot_node.tasks.task import TaskDefinition
from fewshot_node.tasks.templates import read_template
from fewshot_node.vision.backbone import DenseEncoder
from fewshot_node.work import work_on
from tests.tasks.conftest import Example

SEGMENT_TYPES = {"Liver": codes.SCT.Liver, "Spleen": codes.SCT.Spleen}


@dataclass(frozen=True)
class Bench:
    """A node, its models, and what has been sent to it."""

    node: Node
    models: Models
    share: Path

    @property
    def registry(self) -> Registry:
        return Registry(self.node.settings.tasks)

    def receive(self, *files: Path) -> SeriesKey:
        """Put files into the spool as the receiver would, and close their series."""
        first = pydicom.dcmread(files[0], stop_before_pixels=True)
        uid, study = str(first.SeriesInstanceUID), str(first.StudyInstanceUID)
        folder = self.node.spool.root / "series" / uid
        folder.mkdir(exist_ok=True)
        for path in files:
            shutil.copy(path, folder / f"{pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID}.dcm")
        now = datetime.now(UTC)
        self.node.ledger.note_instances([SeriesNote.of_one(uid, study, "SCANNER", 1, now) for _ in files])
        key = self.node.ledger.close(uid)
        assert key is not None
        return key

    def process(self, *files: Path) -> SeriesEntry:
        """Receive a series and work on it; return how it ended."""
        key = self.receive(*files)
        work_on(self.node, self.models, key, 1, "worker")
        entry = self.node.ledger.entry(key)
        assert entry is not None
        return entry

    def result(self, modality: str) -> Path:
        """The newest result of a modality that was delivered."""
        paths = sorted(self.share.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        return next(
            path for path in reversed(paths) if pydicom.dcmread(path, stop_before_pixels=True).Modality == modality
        )


@pytest.fixture(scope="session")
def worked(tmp_path_factory: pytest.TempPathFactory, organs: Path, encoder: DenseEncoder, pushed: Example) -> Path:
    """The folder of a node that has worked on one series."""
    folder = tmp_path_factory.mktemp("worked")
    (folder / "share").mkdir()
    shutil.copytree(organs, folder / "home" / "tasks")
    assert _open(folder, encoder).process(*pushed.files).state is SeriesState.DELIVERED
    return folder


@pytest.fixture
def bench(tmp_path: Path, worked: Path, encoder: DenseEncoder) -> Bench:
    """A node of this test's own that has worked on `pushed`."""
    shutil.copytree(worked, tmp_path / "node")
    return _open(tmp_path / "node", encoder)


def _open(folder: Path, encoder: DenseEncoder) -> Bench:
    destinations = {"share": FolderDestination(kind="folder", path=folder / "share")}
    delivery = DeliverySettings(to=("share",), destinations=destinations)
    node = open_node(NodeSettings(home=folder / "home", delivery=delivery))
    return Bench(node, Models(encoder), folder / "share")


@pytest.fixture(scope="session")
def organs(
    tmp_path_factory: pytest.TempPathFactory,
    definition: TaskDefinition,
    example: Example,
    nifti: Path,
    encoder: DenseEncoder,
) -> Path:
    """A registry's folder with two published tasks: organs, and one landmark, that take the same series."""
    root = tmp_path_factory.mktemp("organs") / "tasks"
    registry = Registry(root)
    rules = (parse_rule("Modality=CT"),)
    registry.add(replace(definition, rules=rules))
    registry.add_template("organs", read_template(example.files, nifti, definition))
    points = root.parent / "points.json"
    points.write_text('{"landmarks": {"Top": {"slice_index": 9, "row": 20, "column": 12}}}')
    labels = (parse_label("1=Top", TaskKind.LANDMARKS),)
    places = TaskDefinition("places", TaskKind.LANDMARKS, labels, rules, settings=definition.settings)
    registry.add(places)
    registry.add_template("places", read_template(example.files, points, places))
    for name in ("organs", "places"):
        registry.fit(name, encoder)
        registry.publish(name)
    return root


@pytest.fixture(scope="session")
def pushed(make_example: Callable[..., Example]) -> Example:
    return make_example(seed=1)


def edited_segmentation(
    ours: Path, source: Example, path: Path, change: Callable[[NDArray[np.uint8]], None], keep: tuple[str, ...] = ()
) -> Path:
    """Write what a viewer stores after a person edited a result of ours: new UIDs, the old tracking UIDs.

    `change` gets the masks (slices in the order of the source's files, rows, columns, segments); `keep` names
    the segments that the viewer stores, all if it is empty.
    """
    old = hd.seg.segread(ours)
    images = [pydicom.dcmread(file) for file in source.files]
    uids = [image.SOPInstanceUID for image in images]
    masks = old.get_pixels_by_source_instance(uids, assert_missing_frames_are_empty=True).astype(np.uint8)
    change(masks)
    kept = [item for item in old.SegmentSequence if not keep or item.SegmentLabel in keep]
    described = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=item.SegmentLabel,
            segmented_property_category=codes.SCT.AnatomicalStructure,
            segmented_property_type=SEGMENT_TYPES[item.SegmentLabel],
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
            tracking_uid=item.TrackingUID,
            tracking_id=item.TrackingID,
        )
        for number, item in enumerate(kept, 1)
    ]
    edited = hd.seg.Segmentation(
        source_images=images,
        pixel_array=masks[..., [item.SegmentNumber - 1 for item in kept]],
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=described,
        series_instance_uid=generate_uid(),
        series_number=7,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="viewer",
        manufacturer_model_name="viewer",
        software_versions="1",
        device_serial_number="1",
    )
    edited.save_as(path)
    return path


def moved_report(ours: Path, path: Path, by_mm: tuple[float, float, float]) -> Path:
    """Write a report of ours with every point moved, under new UIDs."""
    report = pydicom.dcmread(ours)
    report.SOPInstanceUID = report.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    report.SeriesInstanceUID = generate_uid()
    for point in _points(report):
        point.GraphicData = [float(value) + move for value, move in zip(point.GraphicData, by_mm, strict=True)]
    report.save_as(path)
    return path


def _points(item: pydicom.Dataset) -> list[pydicom.Dataset]:
    children = list(item.get("ContentSequence") or ())
    inside = [found for child in children for found in _points(child)]
    return [child for child in children if child.ValueType == "SCOORD3D"] + inside
