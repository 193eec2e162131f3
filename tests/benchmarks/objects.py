"""``make bench-objects``: a Segmentation of 600 slices and 10 segments, made by this node and by plain highdicom.

Each object is made and saved in a process of its own, from the same label map and the same headers, in turns. Seconds
are those of the processor, so that other work on the machine counts little; memory is the highest of the process.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import highdicom as hd
import numpy as np
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage

from fewshot_node.dicom.objects.encoding import write_object
from fewshot_node.dicom.objects.seg import write_segmentation
from fewshot_node.output import OutputSettings
from fewshot_node.probabilities import LabelProbabilities
from fewshot_node.records import (
    AlgorithmIdentity,
    Code,
    Label,
    Result,
    SourceFrame,
    StructureFinding,
    TaskKind,
    Volume,
)
from fewshot_node.uids import ResultUids
from tests.benchmarks.bars import Board

SLICES, ROWS, COLUMNS, SEGMENTS = 600, 512, 512, 10
PIXEL_MM, SLICE_MM = 0.75, 1.0
TURNS = 3
SECONDS = {"binary": 1.0, "labelmap": 1.25}
"""The most seconds, over those of plain highdicom. A label map is so little work that our UIDs show, which are digests
of all that an object holds; plain highdicom draws one at random.
"""


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="bench-objects-") as scratch:
        board = Board(Path(scratch))
        board.detail(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.2f}, median of {TURNS} turns")
        np.save(board.scratch / "labels.npy", ellipsoids())
        for kind in SECONDS:
            _compare(board, kind)
        _report_fractional(board)
        return board.conclude()


def _compare(board: Board, kind: str) -> None:
    turns = [(_run(board, "plain", kind), _run(board, "ours", kind)) for _ in range(TURNS)]
    plain, ours = (
        {key: median(one[key] for one in side) for key in ("seconds", "wall_s", "peak_mib", "frames")}
        for side in zip(*turns, strict=True)
    )
    for name, one in (("plain highdicom", plain), ("ours", ours)):
        took = f"{one['seconds']:.2f} s ({one['wall_s']:.2f} s passed)"
        board.detail(f"{kind}, {name}: {took}, {one['peak_mib']:.0f} MiB")
    board.bar(f"{kind}: frames", int(ours["frames"]), "=", int(plain["frames"]))
    board.bar(f"{kind}: seconds over plain highdicom's", ours["seconds"] / plain["seconds"], "<=", SECONDS[kind])
    board.bar(f"{kind}: peak memory over plain highdicom's", ours["peak_mib"] / plain["peak_mib"], "<=", 1.05)


def _report_fractional(board: Board) -> None:
    """Plain highdicom wants the probabilities of all voxels at once, 6 GB of them: there is nothing to compare with."""
    one = _run(board, "ours", "fractional")
    board.info("fractional: seconds", one["seconds"], f"{one['wall_s']:.2f} s passed, {one['frames']} frames")
    board.info("fractional: peak MiB", one["peak_mib"])


def _run(board: Board, side: str, kind: str) -> dict[str, Any]:
    command = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.objects", side, kind, str(board.scratch)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=600)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def ellipsoids() -> np.ndarray:
    """Give uint8 (slices, rows, columns): ten bodies of 270 slices each, about half of the series' planes."""
    label_map = np.zeros((SLICES, ROWS, COLUMNS), dtype=np.uint8)
    grid = [axis.astype(np.float32) for axis in np.ogrid[:SLICES, :ROWS, :COLUMNS]]
    for segment in range(SEGMENTS):
        centre = (60 + 53 * segment, 130 + 120 * (segment % 3), 130 + 85 * (segment % 4))
        radii = (150, 70, 70)
        inside = sum(((axis - at) / radius) ** 2 for axis, at, radius in zip(grid, centre, radii, strict=True)) < 1
        label_map[inside] = segment + 1
    return label_map


def headers() -> list[Dataset]:
    """Give the headers of the CT, with what every writer of a Segmentation looks at."""
    found = []
    for index in range(SLICES):
        header = Dataset()
        header.SOPClassUID, header.SOPInstanceUID = CTImageStorage, f"1.2.3.4.{index + 1}"
        header.StudyInstanceUID, header.SeriesInstanceUID = "1.2.3.1", "1.2.3.2"
        header.FrameOfReferenceUID, header.PositionReferenceIndicator = "1.2.3.3", ""
        header.Modality, header.Manufacturer, header.SeriesNumber = "CT", "maker", 4
        header.PatientID, header.PatientName = "1", "Doe^Jane"
        header.PatientBirthDate = header.PatientSex = header.AccessionNumber = header.StudyID = ""
        header.StudyDate = header.AcquisitionDate = "20240102"
        header.StudyTime = header.AcquisitionTime = "101112"
        header.ReferringPhysicianName = ""
        header.Rows, header.Columns = ROWS, COLUMNS
        header.ImagePositionPatient = [-192.0, -192.0, index * SLICE_MM]
        header.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        header.PixelSpacing, header.SliceThickness = [PIXEL_MM, PIXEL_MM], SLICE_MM
        found.append(header)
    return found


def make_plain(kind: str, label_map: np.ndarray, sources: list[Dataset], path: Path) -> Dataset:
    """Make it as highdicom's own guide does."""
    algorithm = hd.AlgorithmIdentificationSequence("a model", codes.cid7162.ArtificialIntelligence, "1")
    descriptions = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=f"organ {number}",
            segmented_property_category=codes.cid7150.AnatomicalStructure,
            segmented_property_type=codes.SCT.Liver,
            algorithm_type="AUTOMATIC",
            algorithm_identification=algorithm,
            tracking_uid=hd.UID(),
            tracking_id=f"organ {number}",
        )
        for number in range(1, SEGMENTS + 1)
    ]
    made = hd.seg.Segmentation(
        sources, label_map, kind.upper(), descriptions, hd.UID(), 100, hd.UID(), 1, "maker", "model", "1", "serial"
    )
    made.save_as(path)
    return made


def make_ours(result: Result, sources: list[Dataset], path: Path) -> Dataset:
    """Make it as the outbox does."""
    affine = np.array([[0, 0, PIXEL_MM, -192], [0, PIXEL_MM, 0, -192], [SLICE_MM, 0, 0, 0], [0, 0, 0, 1]])
    volume = Volume(
        array=np.broadcast_to(np.float32(0), (SLICES, ROWS, COLUMNS)),  # only its shape is looked at
        affine=affine,
        frames=tuple(SourceFrame(str(one.SOPClassUID), str(one.SOPInstanceUID)) for one in sources),
        modality="CT",
        study_instance_uid="1.2.3.1",
        series_instance_uid="1.2.3.2",
        frame_of_reference_uid="1.2.3.3",
    )
    uids = ResultUids(tuple(one.sop_instance_uid for one in volume.frames), "digest", "organs", "task", "weights", "1")
    made = write_segmentation(result, volume, sources, uids)
    write_object(path, made)
    return made


def result_of(kind: str, label_map: np.ndarray) -> Result:
    """Give what a task would say; only a fractional one needs scores."""
    anatomy = Code("91723000", "SCT", "Anatomical Structure")
    labels = [
        Label(number, f"organ {number}", anatomy, Code("10200004", "SCT", "Liver")) for number in range(1, SEGMENTS + 1)
    ]
    probabilities = None
    if kind == "fractional":
        scores = np.random.default_rng(1).normal(size=(SLICES, SEGMENTS + 1, 64, 64)).astype(np.float32)
        probabilities = LabelProbabilities(scores, tuple(label.value for label in labels), (ROWS, COLUMNS))
    return Result(
        task_name="organs",
        task_revision=1,
        kind=TaskKind.SEGMENTATION,
        findings=tuple(StructureFinding(label, found=True, confidence=0.9, volume_mm3=1.0) for label in labels),
        label_map=label_map,
        algorithm=AlgorithmIdentity("a model", "1", ("revision=1",)),
        output=OutputSettings(segmentation=kind),  # type: ignore[arg-type]
        probabilities=probabilities,
    )


def peak_mib() -> float:
    """Give the most memory that this process had; `getrusage` would begin with what its parent had."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def measure(side: str, kind: str, scratch: Path) -> None:
    """Make one object in this process and print what it took."""
    label_map, sources, path = np.load(scratch / "labels.npy"), headers(), scratch / f"{side}.dcm"
    make = partial(make_plain, kind, label_map) if side == "plain" else partial(make_ours, result_of(kind, label_map))
    started, passed = time.process_time(), time.monotonic()
    made = make(sources, path)
    found = {
        "seconds": time.process_time() - started,
        "wall_s": time.monotonic() - passed,
        "peak_mib": peak_mib(),
        "frames": int(made.NumberOfFrames),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    if len(sys.argv) == 4:
        measure(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
    else:
        sys.exit(main())
