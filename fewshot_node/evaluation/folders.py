"""Data sets as they are published, read as suites: TotalSegmentator and HaN-Seg.

Both come as one image with one mask a structure. Whoever has them can repeat the paper's tables on them.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fewshot_node.errors import EvaluationError
from fewshot_node.evaluation.suites import ANATOMICAL_STRUCTURE, Case, Suite, read_suite
from fewshot_node.records import Label, TaskKind

_MOST_LABELS = 254


@dataclass(frozen=True, slots=True)
class _Published:
    """One patient's image and its masks by structure."""

    patient: str
    image: Path
    masks: dict[str, Path]


def read_source(folder: Path, labels: Sequence[str] = ()) -> Suite:
    """Read a suite, TotalSegmentator's folder or HaN-Seg's, whichever it is.

    Parameters
    ----------
    labels
        Names of the structures that count; none means all. Naming a few of TotalSegmentator's hundred saves
        most of the reading.

    Raises
    ------
    EvaluationError
        The folder is none of them, or a name is none of its structures.
    """
    if (folder / "suite.toml").is_file():
        return _only(read_suite(folder), labels)
    for modality, found in (("CT", _total_segmentator(folder, "ct")), ("MR", _total_segmentator(folder, "mri"))):
        if patients := list(found):
            return _suite(folder.name, modality, patients, labels)
    if patients := list(_han_seg(folder)):
        return _suite(folder.name, "CT", patients, labels)
    raise EvaluationError(
        f"{folder}: neither a suite (suite.toml), nor TotalSegmentator (s0000/ct.nii.gz and segmentations/), "
        "nor HaN-Seg (set_1/case_01/case_01_IMG_CT.nrrd); give one of those folders"
    )


def _total_segmentator(folder: Path, image: str) -> Iterator[_Published]:
    for path in sorted(folder.glob(f"*/{image}.nii.gz")):
        masks = {mask.name.removesuffix(".nii.gz"): mask for mask in path.parent.glob("segmentations/*.nii.gz")}
        yield _Published(path.parent.name, path, masks)


def _han_seg(folder: Path) -> Iterator[_Published]:
    for path in sorted({*folder.glob("case_*/*_IMG_CT.nrrd"), *folder.glob("set_1/case_*/*_IMG_CT.nrrd")}):
        patient = path.parent.name
        start, end = f"{patient}_OAR_", ".seg.nrrd"
        masks = path.parent.glob(f"{start}*{end}")
        yield _Published(patient, path, {mask.name.removeprefix(start).removesuffix(end): mask for mask in masks})


def _suite(name: str, modality: str, patients: Sequence[_Published], wanted: Sequence[str]) -> Suite:
    known = sorted({structure for patient in patients for structure in patient.masks})
    chosen = _chosen(name, known, wanted)
    if len(chosen) > _MOST_LABELS:
        raise EvaluationError(f"{name}: {len(chosen)} structures, at most {_MOST_LABELS} can be labels; name some")
    labels = tuple(
        Label(value, structure, ANATOMICAL_STRUCTURE, ANATOMICAL_STRUCTURE) for value, structure in enumerate(chosen, 1)
    )
    cases = tuple(_case(patient, labels) for patient in patients)
    return Suite(name, modality, TaskKind.SEGMENTATION, is_volume=True, labels=labels, cases=cases)


def _case(published: _Published, labels: Iterable[Label]) -> Case:
    masks = tuple((label.value, published.masks[label.name]) for label in labels if label.name in published.masks)
    return Case(published.patient, published.image.name.split(".")[0], published.image, published.image.parent, masks)


def _only(suite: Suite, wanted: Sequence[str]) -> Suite:
    chosen = _chosen(suite.name, [label.name for label in suite.labels], wanted)
    return replace(suite, labels=tuple(label for label in suite.labels if label.name in chosen))


def _chosen(suite: str, known: Sequence[str], wanted: Sequence[str]) -> list[str]:
    unknown = sorted(set(wanted) - set(known))
    if unknown:
        raise EvaluationError(f"{suite}: no label {', '.join(unknown)}; it has {', '.join(known)}")
    return [name for name in known if name in wanted] if wanted else list(known)
