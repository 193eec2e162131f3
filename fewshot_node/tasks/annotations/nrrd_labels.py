"""Label volumes in NRRD files, those of 3D Slicer's segmentations (.seg.nrrd) with the names of their segments."""

import re
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

import nrrd
import numpy as np
from numpy.typing import NDArray

from fewshot_node.errors import TemplateError
from fewshot_node.records import Code, LabelArray
from fewshot_node.tasks.annotations.nifti import as_labels
from fewshot_node.tasks.annotations.placing import LabelVolume, place
from fewshot_node.tasks.annotations.records import Annotation, AnnotationFormat, Region, Target, value_regions

_TO_LPS = {
    "left-posterior-superior": (1, 1, 1),
    "lps": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1),
    "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1),
    "las": (1, -1, 1),
}
_MOST_VOXELS = 2**31
_REMEDY = "save it as one .nrrd or .seg.nrrd file with attached data"
_UNNAMED = re.compile(r"segment[ _]?\d*", re.IGNORECASE)


def read(target: Target) -> Annotation:
    """Read a label volume, or 3D Slicer's layers of one.

    Raises
    ------
    TemplateError
        The file cannot be read, states no place in the patient, holds no labels, or lies on another grid.
    """
    header, values = _load(target)
    affine = _affine(header, target)
    layers = values[None] if values.ndim == 3 else values
    placed = [place(LabelVolume(as_labels(layer, target.path), affine), target) for layer in layers]
    notes = tuple(dict.fromkeys(note for one in placed for note in one.notes))
    maps = [one.label_map for one in placed]
    segments = tuple(_segments(header, maps))
    if len(maps) > 1 and not segments:
        raise TemplateError(f"label file {target.path} holds {len(maps)} volumes: give one label volume")
    return Annotation(AnnotationFormat.NRRD, segments or value_regions(maps[0], {}), notes=notes)


def _load(target: Target) -> tuple[Mapping[str, Any], NDArray[np.generic]]:
    try:
        with target.path.open("rb") as file:
            header: OrderedDict[str, Any] = nrrd.read_header(file)
            if "data file" in header or "datafile" in header:
                raise TemplateError(f"label file {target.path} keeps its data in another file: {_REMEDY}")
            sizes = np.asarray(header["sizes"], dtype=np.float64)
            if not 2 <= len(sizes) <= 4 or not 0 < sizes.prod() <= _MOST_VOXELS:
                raise TemplateError(f"label file {target.path} is no volume of labels: {_REMEDY}")
            values = nrrd.read_data(header, file, str(target.path))
    except (OSError, EOFError, ValueError, KeyError, TypeError, MemoryError, zlib.error, nrrd.NRRDError) as error:
        raise TemplateError(f"label file {target.path} cannot be read as NRRD: {_REMEDY}") from error
    return header, values[..., None] if values.ndim == 2 else values


def _affine(header: Mapping[str, Any], target: Target) -> NDArray[np.float64]:
    signs = _TO_LPS.get(str(header.get("space", "")).lower())
    try:
        directions = np.asarray(header["space directions"], dtype=np.float64)[-3:]
        origin = np.asarray(header["space origin"], dtype=np.float64)
        affine = np.eye(4)
        affine[:3, :3], affine[:3, 3] = directions.T, origin
    except (KeyError, TypeError, ValueError) as error:
        raise TemplateError(f"label file {target.path} states no place in space: {_REMEDY}") from error
    if signs is None or not np.isfinite(affine).all() or not np.linalg.det(affine):
        raise TemplateError(f"label file {target.path} states no place in the patient (space): {_REMEDY}")
    lps: NDArray[np.float64] = np.diag([*signs, 1]) @ affine
    return lps


def _segments(header: Mapping[str, Any], layers: list[LabelArray]) -> Iterator[Region]:
    """Give the segments that 3D Slicer describes, those without a voxel left out."""
    for key in [key for key in header if re.fullmatch(r"Segment\d+_ID", key)]:
        prefix = key.removesuffix("ID")
        value, layer = (str(header.get(f"{prefix}{name}", 0)) for name in ("LabelValue", "Layer"))
        if not (value.isdigit() and layer.isdigit()) or int(layer) >= len(layers):
            continue
        name = str(header.get(f"{prefix}Name", "")).strip()
        names = () if _UNNAMED.fullmatch(name) else (name,)
        mask = layers[int(layer)] == int(value)
        if mask.any():
            number = int(prefix[len("Segment") : -1]) + 1 if len(layers) > 1 else int(value)
            yield Region(number, names, mask.copy, _code(str(header.get(f"{prefix}TerminologyEntry", ""))))


def _code(entry: str) -> Code | None:
    """Read the type out of ``context~category~type~modifier~...``, a concept being ``scheme^value^meaning``."""
    parts = entry.split("~")
    concept = parts[2].split("^") if len(parts) > 2 else []
    return Code(concept[1], concept[0], concept[2]) if len(concept) == 3 and all(concept) else None
