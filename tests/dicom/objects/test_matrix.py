"""Every kind of source times every kind of object: whole studies under dicom3tools, dcmtk, highdicom and dcmqi.

pydicom-seg, another independent reader, wants numpy below 2 and jsonschema below 4: it cannot be installed here.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import highdicom as hd
import nrrd
import numpy as np
import pydicom
import pytest
from pydicom.uid import EnhancedCTImageStorage, JPEG2000Lossless

from fewshot_node.dicom.objects.outbox import ResultFiles, write_result_files
from fewshot_node.dicom.objects.sr import read_report
from fewshot_node.output import OutputSettings
from fewshot_node.records import TaskKind, Volume
from tests.dicom.objects.conftest import OBLIQUE, PATIENT, Case, SeriesSpec, case_of, write_files
from tests.dicom.objects.test_seg_kinds import VALUES, expected_mm, of_kind, placed_mm

MULTI: dict[str, Any] = {"multi_frame": True, "modality": "MR"}
SOURCES: dict[str, dict[str, Any]] = {
    "CT": {},
    "MR": {"modality": "MR"},
    "enhanced CT": {"multi_frame": True, "changes": {"SOPClassUID": EnhancedCTImageStorage}},
    "enhanced MR": MULTI,
    "oblique": {"cosines": OBLIQUE},
    "reversed": {"reverse": True},
    "no frame of reference": {"frame_of_reference": False},
    "one slice": {"slices": 1},
    "compressed": {"rows": 64, "columns": 64},
    "enhanced, oblique and reversed": {**MULTI, "cosines": OBLIQUE, "reverse": True},
}
SEGMENTATIONS = ("binary", "fractional", "labelmap")
TASKS = (*SEGMENTATIONS, "landmarks")


@dataclass(frozen=True)
class Study:
    """One source and what each of four tasks made of it."""

    case: Case
    results: dict[str, ResultFiles]

    @property
    def files(self) -> list[Path]:
        return [*self.case.files, *(path for result in self.results.values() for path in result.paths)]


@pytest.fixture(scope="module", params=SOURCES)
def study(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Written through the gate: what it lets out is then held against what it does not know."""
    folder = tmp_path_factory.mktemp("study")
    files = write_files(SeriesSpec(**SOURCES[request.param]), folder / "source")
    if request.param == "compressed":
        for path in files:
            dataset = pydicom.dcmread(path)
            dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
            dataset.save_as(path)
    results = {}
    for task in TASKS:
        made = case_of(files, TaskKind.LANDMARKS) if task == "landmarks" else of_kind(case_of(files), task)
        uids, result = replace(made.uids, task_name=task), replace(made.result, task_name=task)
        if task in {"binary", "landmarks"}:
            result = replace(
                result,
                output=replace(result.output, rtstruct=True, overlay="secondary-capture", presentation_state=True),
            )
        results[task] = write_result_files(result, made.volume, files, uids, folder / task)
    return Study(case_of(files), results)


def objects(study: Study, kind: str) -> Path:
    """Give the file of one kind of object: a segmentation by its type, else ``KIND TASK``."""
    if kind in SEGMENTATIONS:
        segmentation = study.results[kind].segmentation
        assert segmentation is not None
        return segmentation
    kind, _, task = kind.partition(" ")
    if kind == "report":
        return study.results[task].report
    return next(path for path in study.results[task].others if path.name.startswith(kind))


@pytest.mark.dicom3tools
@pytest.mark.parametrize(
    "kind",
    [
        *SEGMENTATIONS,
        *(
            f"{kind} {task}"
            for kind in ("report", "structure", "overlay", "presentation")
            for task in ("binary", "landmarks")
        ),
    ],
)
def test_dciodvfy_finds_no_error(study: Study, kind: str, dciodvfy_errors: Callable[[Path], list[str]]) -> None:
    errors = dciodvfy_errors(objects(study, kind))
    if kind == "labelmap" and "Error - Information Object Not found" in errors:
        pytest.skip("this dciodvfy does not know Label Map Segmentation Storage; dcmqi and highdicom do, below")
    assert errors == []


@pytest.fixture
def complaints(require_tool: Callable[[str], str]) -> Callable[[list[Path]], list[str]]:
    """Give what dcentvfy says of files, but for what it says of its own tables, whatever the values.

    It sorts the Accession Number otherwise for an SR than for an image, and does not know label maps.
    """
    tool, of_tables = (
        require_tool("dcentvfy"),
        ("Different information entities for attribute", "Unrecognized SOP Class"),
    )

    def ask(files: list[Path]) -> list[str]:
        done = subprocess.run([tool, *files], check=False, capture_output=True, text=True, timeout=60)
        lines = (done.stdout + done.stderr).splitlines()
        return [line for line in lines if not any(words in line for words in of_tables)]

    return ask


@pytest.mark.dicom3tools
def test_dcentvfy_has_no_complaint_over_the_whole_study(
    study: Study, complaints: Callable[[list[Path]], list[str]], tmp_path: Path
) -> None:
    assert complaints(study.files) == []
    report = study.results["binary"].report
    foreign = pydicom.dcmread(report)
    foreign.PatientName = "OTHER^PATIENT"
    foreign.save_as(tmp_path / "foreign.dcm")
    assert "PatientName" in str(
        complaints([path for path in study.files if path != report] + [tmp_path / "foreign.dcm"])
    ), "it can complain"


@pytest.mark.dcmtk
@pytest.mark.parametrize("task", ["binary", "landmarks"])
def test_dsrdump_prints_the_report(study: Study, task: str, require_tool: Callable[[str], str]) -> None:
    done = subprocess.run(
        [require_tool("dsrdump"), study.results[task].report], check=False, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    for text in (f'="{task} liver"', f'="{task} spleen"', '"Present"', '"Absent"', "Comprehensive 3D SR"):
        assert text in done.stdout
    if task == "landmarks" and study.case.volume.frame_of_reference_stated:
        (place,) = re.findall(r"SCOORD3D:\S* ?\S*=\(POINT,,([^)]+)\)", done.stdout)
        assert np.allclose([float(value) for value in place.split("/")], expected_point(study.case.volume), atol=0.01)


def expected_point(volume: Volume) -> np.ndarray:
    return volume.to_mm(np.array([(len(volume.array) - 1) * 0.5, 4.25, 7.75]))


def placed_by(volume: hd.Volume) -> dict[int, dict[tuple[float, ...], int]]:
    found = {}
    for segment in VALUES:
        channel = volume.array[..., segment - 1]
        voxels = np.argwhere(channel)
        places = volume.map_indices_to_reference(voxels) if len(voxels) else voxels
        found[segment] = {
            tuple(np.round(place, 2) + 0.0): int(channel[tuple(voxel)])
            for place, voxel in zip(places, voxels, strict=True)
        }
    return found


def read_nrrd(paths: list[Path], kind: str) -> dict[int, dict[tuple[float, ...], int]]:
    """Place the voxels by the headers' own axes, LPS mm: a file for all segments of a label map, else one each."""
    found: dict[int, dict[tuple[float, ...], int]] = {1: {}, 2: {}, 3: {}}
    for path in paths:
        array, header = nrrd.read(str(path))
        assert header["space"] == "left-posterior-superior"
        voxels = np.argwhere(array)
        places = voxels @ header["space directions"] + header["space origin"]
        for voxel, place in zip(voxels, places, strict=True):
            value = int(array[tuple(voxel)])
            segment = value if kind == "labelmap" else int(path.stem)
            found[segment][tuple(np.round(place, 2) + 0.0)] = 1 if kind == "binary" else value
    return found


@pytest.mark.parametrize("kind", SEGMENTATIONS)
def test_highdicom_gives_the_masks_back_in_mm(study: Study, kind: str) -> None:
    case = of_kind(study.case, kind)
    segmentation = hd.seg.segread(objects(study, kind))
    if len(case.volume.array) == 1:
        assert placed_mm(segmentation) == expected_mm(case, kind)
        return
    grid = hd.VolumeGeometry(case.volume.affine, case.volume.array.shape, "PATIENT")
    found = segmentation.get_volume(allow_missing_positions=True, rescale_fractional=False).match_geometry(grid)
    assert placed_by(found) == expected_mm(case, "fractional" if kind == "fractional" else "binary")


@pytest.mark.parametrize("kind", SEGMENTATIONS)
def test_dcmqi_gives_the_masks_back_in_mm(study: Study, kind: str, tmp_path: Path) -> None:
    tool = shutil.which("segimage2itkimage", path=str(Path(sys.executable).parent))
    if tool is None:
        pytest.skip("segimage2itkimage is not installed: pip install dcmqi")
    command = [tool, "--inputDICOM", objects(study, kind), "--outputDirectory", tmp_path, "--outputType", "nrrd"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert read_nrrd(sorted(tmp_path.glob("*.nrrd")), kind) == expected_mm(of_kind(study.case, kind), kind)


def test_highdicom_gives_the_point_back_in_mm(study: Study) -> None:
    report = hd.sr.srread(study.results["landmarks"].report)
    (group,) = report.content.get_planar_roi_measurement_groups()
    volume, region = study.case.volume, group.roi
    if isinstance(region, hd.sr.ImageRegion3D):
        found = np.ravel(region.value)
    else:  # on an image: its own plane places it
        assert not volume.frame_of_reference_stated
        (point,) = (one for one in read_report(study.results["landmarks"].report, volume) if one.found)
        found = np.array(point.point_mm)
    off_mm = np.abs(found - expected_point(volume)).max()
    assert off_mm < (0.01 if volume.frame_of_reference_stated else volume.spacing_mm[0] / 2 + 0.01)


@pytest.mark.shared_data
@pytest.mark.parametrize(
    "names",
    [
        ("dcmqi-seg/01.dcm", "dcmqi-seg/02.dcm", "dcmqi-seg/03.dcm"),
        ("fodicom/CT1_J2KI",),
        ("fodicom/GH1261.dcm",),  # codes without a meaning in the study
        ("fodicom/GH610.dcm",),
        ("fodicom/mr_brucker.dcm",),  # an animal, without what is asked of animals
        ("pydicom-data/bad_sequence.dcm",),  # de-identified, and does not say how
        ("pydicom-data/eCT_Supplemental.dcm",),
        ("highdicom/ct_image.dcm",),
    ],
    ids=lambda names: names[0],
)
def test_results_on_real_images_pass_the_gate(shared_data: Path, names: tuple[str, ...], tmp_path: Path) -> None:
    """What senders get wrong about patient and study is theirs, and holds no result back."""
    files = [shared_data / "dicom" / name for name in names]
    case = case_of(files)
    output = OutputSettings(rtstruct=True, overlay="secondary-capture", presentation_state=True)
    written = write_result_files(replace(case.result, output=output), case.volume, files, case.uids, tmp_path / "task")
    assert [pydicom.dcmread(path).Modality for path in written.paths if "overlay" not in path.name] == [
        "SEG",
        "RTSTRUCT",
        "PR",
        "SR",
    ]


NOBODY = dict.fromkeys(
    (
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "PatientSex",
        "StudyDate",
        "StudyTime",
        "AccessionNumber",
        "StudyID",
    )
)


@pytest.mark.filterwarnings("ignore:.*:UserWarning")  # pydicom names the odd values
@pytest.mark.parametrize(
    "changes",
    [
        {"SpecificCharacterSet": "ISO_IR 100", "PatientName": "Müller^Jörg"},
        {"SpecificCharacterSet": ["", "ISO 2022 IR 87"], "PatientName": "Yamada^Tarou=山田^太郎"},
        {**NOBODY, "ReferringPhysicianName": None},
        {"StudyInstanceUID": "1.02.3.4", "FrameOfReferenceUID": "1.2.03"},
        {"PatientID": "x" * 70, "AccessionNumber": "y" * 20, "PatientAge": "12", "PatientWeight": "0"},
        {"PatientBirthDate": "about 1950", "StudyTime": "10:11:12", "OtherPatientIDs": ["A", "B"]},
    ],
    ids=["latin", "japanese", "nobody", "uids", "too long", "no dates"],
)
def test_results_for_careless_senders_pass_the_gate(tmp_path: Path, changes: dict[str, Any]) -> None:
    files = write_files(SeriesSpec(slices=2, changes=changes), tmp_path / "series")
    case = case_of(files)
    result = replace(case.result, output=OutputSettings(rtstruct=True, overlay="secondary-capture"))
    written = write_result_files(result, case.volume, files, case.uids, tmp_path / "task")
    name = changes.get("PatientName", PATIENT["PatientName"])
    assert {str(pydicom.dcmread(path).PatientName) for path in written.paths} == {name or ""}
