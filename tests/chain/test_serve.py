"""The main job: a series is pushed, and its SEG and SR are in the PACS."""

import json
from io import BytesIO
from pathlib import Path

import highdicom
import httpx
import nibabel
import numpy as np
import pydicom
import pytest

from fewshot_node.demo.cases import Lesson
from fewshot_node.dicom.ledger import SeriesState
from tests.chain.running_node import RunningNode, wait_for

pytestmark = [pytest.mark.orthanc, pytest.mark.dcmtk, pytest.mark.prefect, pytest.mark.timeout(400)]


def fetch(node: RunningNode, sop_instance_uid: str) -> bytes:
    (orthanc_id,) = node.orthanc.lookup(sop_instance_uid)
    return bytes(node.orthanc.instances.get_file(orthanc_id))


def iou_in_mm(segmentation: bytes, truth: Path, value: int, number: int) -> float:
    """IoU of a segment with NIfTI labels, found by nibabel and highdicom alone: each voxel by its place in mm."""
    seg = highdicom.seg.segread(BytesIO(segmentation))
    volume = seg.get_volume(segment_numbers=[number], combine_segments=True, relabel=True)
    labels = nibabel.load(truth)
    grid = np.stack(np.meshgrid(*map(np.arange, labels.shape), indexing="ij"), axis=-1)
    ras = grid @ labels.affine[:3, :3].T + labels.affine[:3, 3]
    lps = ras * [-1, -1, 1]
    inverse = np.linalg.inv(volume.affine)
    index = np.rint(lps @ inverse[:3, :3].T + inverse[:3, 3]).astype(int)
    inside = np.all((index >= 0) & (index < volume.array.shape[:3]), axis=-1)
    predicted = np.zeros(labels.shape, dtype=bool)
    predicted[inside] = volume.array[tuple(index[inside].T)] > 0
    true = np.asarray(labels.dataobj) == value
    return float((predicted & true).sum() / (predicted | true).sum())


def test_a_pushed_ct_comes_back_as_segmentation_and_report(node: RunningNode, lessons: tuple[Lesson, Lesson]) -> None:
    case = lessons[0].pushed[0]
    assert node.push(case.files).returncode == 0
    entry = node.ended(case.series_instance_uid)
    assert (entry.state, entry.reason) == (SeriesState.DELIVERED, "")
    outcome = entry.outcomes[0]
    assert node.instances(case.study_instance_uid, "SEG") == [outcome.segmentation_instance_uid]
    assert node.instances(case.study_instance_uid, "SR") == [outcome.report_instance_uid]
    liver = iou_in_mm(fetch(node, outcome.segmentation_instance_uid), case.truth, value=1, number=1)
    assert liver > 0.6
    assert set(outcome.seconds) == {"route", "volume", "encode", "localize", "refine", "write", "deliver"}


def test_a_pushed_mr_comes_back_as_landmarks(node: RunningNode, lessons: tuple[Lesson, Lesson]) -> None:
    case = lessons[1].pushed[0]
    assert node.push(case.files).returncode == 0
    entry = node.ended(case.series_instance_uid)
    assert (entry.state, entry.reason) == (SeriesState.DELIVERED, "")
    report = pydicom.dcmread(BytesIO(fetch(node, entry.outcomes[0].report_instance_uid)))
    truth = [point["position_mm"] for point in json.loads(case.truth.read_text())["landmarks"].values()]
    points = [item.GraphicData for item in walk(report) if item.get("ValueType") == "SCOORD3D"]
    assert len(points) == len(truth)
    distances = np.linalg.norm(np.array(points)[:, None] - np.array(truth)[None], axis=2).min(axis=0)
    assert distances.max() < 12


def walk(dataset: pydicom.Dataset) -> list[pydicom.Dataset]:
    items = list(dataset.get("ContentSequence", []))
    return items + [deeper for item in items for deeper in walk(item)]


def test_a_series_that_no_task_wants_ends_as_no_task(
    node: RunningNode, lessons: tuple[Lesson, Lesson], tmp_path: Path
) -> None:
    paths = []
    for number, source in enumerate(lessons[0].pushed[1].files[:3]):
        dataset = pydicom.dcmread(source)
        dataset.SeriesInstanceUID = "1.2.826.0.1.3680043.8.498.77"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.826.0.1.3680043.8.498.77.{number}"
        dataset.save_as(tmp_path / f"{number}.dcm")
        paths.append(tmp_path / f"{number}.dcm")
    assert node.push(paths).returncode == 0
    entry = node.ended("1.2.826.0.1.3680043.8.498.77")
    assert (entry.state, entry.outcomes) == (SeriesState.NO_TASK, ())


def test_pushing_a_series_again_makes_nothing_new(node: RunningNode, lessons: tuple[Lesson, Lesson]) -> None:
    case = lessons[0].pushed[0]
    before = node.ended(case.series_instance_uid)
    assert node.push(case.files).returncode == 0
    assert node.ended(case.series_instance_uid).key == before.key
    assert len(node.instances(case.study_instance_uid, "SEG")) == 1


def test_the_steps_stand_in_prefect_by_name(node: RunningNode, lessons: tuple[Lesson, Lesson]) -> None:
    node.ended(lessons[0].pushed[0].series_instance_uid)
    runs = httpx.post(f"{node.settings.prefect.api_url}/task_runs/filter", json={"limit": 200}).json()
    names = {run["name"].rsplit("-", 1)[0] for run in runs}
    assert {"route", "volume", "encode", "localize", "write", "deliver"} <= names


def test_an_operator_reruns_a_series_from_prefect(node: RunningNode, lessons: tuple[Lesson, Lesson]) -> None:
    case = lessons[1].pushed[0]
    before = node.ended(case.series_instance_uid)
    api = node.settings.prefect.api_url
    deployment = wait_for(
        lambda: httpx.post(f"{api}/deployments/filter", json={}).json(), "the deployment rerun-series"
    )[0]
    assert deployment["name"] == "rerun-series"
    run = httpx.post(
        f"{api}/deployments/{deployment['id']}/create_flow_run",
        json={"parameters": {"series_instance_uid": case.series_instance_uid}},
    )
    assert run.status_code == 201
    wait_for(
        lambda: (
            (entry := node.entry(case.series_instance_uid))
            and entry.attempt > before.attempt
            and entry.state == "delivered"
        ),
        "the series to be delivered again",
    )
    after = node.ended(case.series_instance_uid)
    assert after.outcomes[0].report_instance_uid == before.outcomes[0].report_instance_uid
    assert node.instances(case.study_instance_uid, "SR") == [after.outcomes[0].report_instance_uid]


def test_a_failed_series_is_a_failed_run_in_prefect(node: RunningNode, lessons: tuple[Lesson, Lesson]) -> None:
    case = lessons[1].templates[0]
    with_gap = [path for number, path in enumerate(by_position(case.files)) if number not in (9, 10)]
    assert node.push(with_gap).returncode == 0
    entry = node.ended(case.series_instance_uid)
    assert entry.state is SeriesState.FAILED
    assert "mm" in entry.reason
    api = node.settings.prefect.api_url
    question = {"flow_runs": {"tags": {"all_": [f"series:{entry.key}"]}}}

    def ended_runs() -> list[dict[str, object]]:
        runs = httpx.post(f"{api}/flow_runs/filter", json=question).json()
        return runs if runs and all(run["state_type"] not in {"RUNNING", "PENDING"} for run in runs) else []

    runs = wait_for(ended_runs, "the run to end in Prefect")
    assert {run["state_type"] for run in runs} == {"FAILED"}


def by_position(files: tuple[Path, ...]) -> list[Path]:
    def place(path: Path) -> float:
        return float(pydicom.dcmread(path, stop_before_pixels=True).ImagePositionPatient[0])

    return sorted(files, key=place)


def test_no_identifier_is_written_anywhere(node: RunningNode, lessons: tuple[Lesson, Lesson]) -> None:
    """Identifiers stay in DICOM objects: not in logs, not in Prefect's database, after failures neither."""
    case = lessons[0].pushed[0]
    node.ended(case.series_instance_uid)
    header = pydicom.dcmread(case.files[0], stop_before_pixels=True)
    secrets = [str(header[name].value).encode() for name in ("PatientName", "PatientID", "PatientBirthDate")]
    assert all(len(secret) > 5 for secret in secrets)
    home = node.settings.home
    places = [node.folder / "node.log", *home.glob("*.log"), *home.glob("ledger.sqlite*")]
    places += [path for path in (home / "prefect").rglob("*") if path.is_file()]
    assert len(places) > 3
    for path in places:
        content = path.read_bytes()
        assert not [secret for secret in secrets if secret in content], path
