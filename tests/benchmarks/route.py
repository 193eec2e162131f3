"""``make bench-route``: what routing costs one series where a site has a thousand tasks.

Each of 200 series of 20 images is routed as the worker does it: headers read from disk, the standing and rules of 1,000
tasks looked up, every rule asked. Reading the weights of what matches is no part of it.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from fewshot_node.dicom.objects.headers import holds_images, read_header
from fewshot_node.records import TaskKind
from fewshot_node.tasks.attributes import SeriesFacts
from fewshot_node.tasks.candidates import candidates
from fewshot_node.tasks.codes import parse_label
from fewshot_node.tasks.rule_groups import takes
from fewshot_node.tasks.rule_text import parse_rule
from fewshot_node.tasks.standing import Standing, write_standing
from fewshot_node.tasks.storage import write_json
from fewshot_node.tasks.task import TaskDefinition, definition_to_data
from tests.benchmarks.bars import Board

TASKS, SERIES, IMAGES = 1000, 200, 20
LIMIT_MS = 20
MODALITIES, REGIONS = ("CT", "MR", "PT"), ("ABDOMEN", "HEAD", "KNEE", "SPINE", "CHEST")


def write_tasks(root: Path) -> None:
    """Write tasks of five rules each, as publishing leaves them; every series matches some of them."""
    label = parse_label("1=Liver", TaskKind.SEGMENTATION)
    for number in range(TASKS):
        modality, region = MODALITIES[number % 3], REGIONS[number % 5]
        texts = (
            f"Modality={modality}",
            f"any(BodyPartExamined={region}, SeriesDescription~{region.lower()})",
            f"SeriesDescription=~/protocol {number % 50}$/",
            "not(ImageType=LOCALIZER)",
            "number_of_slices>=10",
        )
        task = TaskDefinition(f"task-{number}", TaskKind.SEGMENTATION, (label,), tuple(map(parse_rule, texts)))
        folder = root / task.name
        (folder / "revisions" / "0001").mkdir(parents=True)
        write_json(folder / "revisions" / "0001" / "definition.json", definition_to_data(task))
        write_standing(folder, Standing(live=1))


def write_images(folder: Path, number: int) -> tuple[Path, ...]:
    """Write one series of small images."""
    folder.mkdir(parents=True)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    dataset.Modality, dataset.BodyPartExamined = MODALITIES[number % 3], REGIONS[number % 5]
    dataset.SeriesDescription = f"{REGIONS[number % 5].lower()} protocol {number % 50}"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.ImageOrientationPatient, dataset.PixelSpacing = [1, 0, 0, 0, 1, 0], [1, 1]
    dataset.Rows = dataset.Columns = 64
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation, dataset.SamplesPerPixel = 15, 0, 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.PixelData = bytes(64 * 64 * 2)
    paths = tuple(folder / f"{index}.dcm" for index in range(IMAGES))
    for index, path in enumerate(paths):
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.InstanceNumber, dataset.ImagePositionPatient = index + 1, [0, 0, index]
        pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    return paths


def routed(files: tuple[Path, ...], root: Path) -> int:
    """Route one series; return how many tasks take it."""
    assert holds_images(files)
    facts = SeriesFacts(read_header(files), "SCANNER")
    return sum(takes(one.rules or (), facts) for one in candidates(root))


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="bench-route-") as scratch:
        board, root = Board(Path(scratch)), Path(scratch) / "tasks"
        write_tasks(root)
        series = [write_images(Path(scratch) / "series" / str(number), number) for number in range(SERIES)]
        started = time.perf_counter()
        routed(series[0], root)
        board.info("route-first-series-ms", (time.perf_counter() - started) * 1000, "rules are read from disk once")
        spent, matched = [], 0
        for files in series:
            started = time.perf_counter()
            matched += routed(files, root)
            spent.append((time.perf_counter() - started) * 1000)
        board.detail(f"{TASKS} tasks, {SERIES} series of {IMAGES} images, {matched / SERIES:.1f} tasks take a series")
        board.info("route-worst-series-ms", max(spent))
        board.bar("route-ms-per-series", statistics.mean(spent), "<=", LIMIT_MS)
        return board.conclude()


if __name__ == "__main__":
    sys.exit(main())
