"""Label pictures in PNG files, one a slice, and the JSON that says which slices they are.

::

    {"slices": [{"png": "012.png", "slice_index": 12}, {"png": "013.png", "sop_instance_uid": "1.2.3.4"}],
     "labels": {"1": "Liver", "#ff0000": "Spleen"}}

`labels` is optional for pictures of label values (grey or palette); colours need it. A PNG alone labels a series of
one slice; a JSON of the same name beside it may hold its `labels`.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from fewshot_node.errors import TemplateError
from fewshot_node.tasks.annotations.json_values import read_json_file
from fewshot_node.tasks.annotations.records import Annotation, AnnotationFormat, BoolArray, Region, Target

_REMEDY = 'write {"slices": [{"png": "012.png", "slice_index": 12}], "labels": {"1": "Liver"}}'
_GREY = {"1", "L", "P", "I", "I;16"}


def read_picture(target: Target) -> Annotation:
    """Read one picture onto a series of one slice.

    Raises
    ------
    TemplateError
        The series has more slices, or the picture cannot be read or has another size.
    """
    beside = target.path.with_suffix(".json")
    data = read_json_file(beside) if beside.is_file() else {}
    if isinstance(data, dict) and "slices" in data:
        return read_list(data, Target(beside, target.volume, target.resample))
    count = len(target.volume.array)
    if count > 1:
        raise TemplateError(
            f"label file {target.path} is one picture and {target.series} has {count} slices: "
            f"say in a JSON file which slice it is, and give that file: {_REMEDY}"
        )
    pictures = {0: _pixels(target.path, target)}
    return Annotation(AnnotationFormat.PNG, tuple(_regions(pictures, _names(data, target), target)))


def read_list(data: Mapping[str, Any], target: Target) -> Annotation:
    """Read the pictures that a JSON file lists.

    Raises
    ------
    TemplateError
        It lists none, or a slice that the series does not have or one twice; or a picture cannot be used.
    """
    entries = data.get("slices")
    if not isinstance(entries, list) or not entries or not all(isinstance(one, dict) for one in entries):
        raise TemplateError(f"label file {target.path} lists no slices: {_REMEDY}")
    pictures: dict[int, NDArray[np.integer]] = {}
    for entry in entries:
        index = _slice_index(entry, target)
        if index in pictures:
            raise TemplateError(f"label file {target.path} gives slice {index} twice: keep one")
        pictures[index] = _pixels(_beside(entry, target), target)
    return Annotation(AnnotationFormat.PNG_LIST, tuple(_regions(pictures, _names(data, target), target)))


def _slice_index(entry: Mapping[str, Any], target: Target) -> int:
    uid, index = entry.get("sop_instance_uid"), entry.get("slice_index")
    if uid is not None:
        found = [i for i, frame in enumerate(target.volume.frames) if frame.sop_instance_uid == uid]
        index = found[0] if len(found) == 1 else None
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(target.volume.array):
        raise TemplateError(
            f"label file {target.path}: {entry.get('png')!r} is on no slice of {target.series}, "
            f"which has the slices 0 to {len(target.volume.array) - 1}: {_REMEDY}"
        )
    return index


def _beside(entry: Mapping[str, Any], target: Target) -> Path:
    """Return a picture's path, below the folder of the file that lists it."""
    name = entry.get("png")
    path = (target.path.parent / name).resolve() if isinstance(name, str) and name else None
    if path is None or not path.is_relative_to(target.path.parent.resolve()):
        raise TemplateError(f"label file {target.path}: {name!r} is no PNG beside it: {_REMEDY}")
    return path


def _pixels(path: Path, target: Target) -> NDArray[np.integer]:
    """Return a picture's values; a colour is 0xRRGGBB above 2**24, so that it is no label value."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            if image.size != (target.volume.array.shape[2], target.volume.array.shape[1]):
                rows, columns = target.volume.array.shape[1:]
                raise TemplateError(
                    f"label file {path} has {image.size[1]} x {image.size[0]} pixels, the slices of {target.series} "
                    f"{rows} x {columns}: give the picture in the size of the slices, not turned"
                )
            grey = image.mode in _GREY
            return np.asarray(image).astype(np.int64) if grey else _colours(np.asarray(image.convert("RGB")))
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise TemplateError(f"label file {path} cannot be read as PNG: save it again") from error


def _colours(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    red, green, blue = (pixels[..., channel].astype(np.int64) for channel in range(3))
    packed = (red << 16) | (green << 8) | blue
    return np.where(packed > 0, packed | (1 << 24), 0)


def _names(data: Any, target: Target) -> dict[int, str]:
    labels = data.get("labels", {}) if isinstance(data, dict) else None
    if not isinstance(labels, dict) or not all(isinstance(name, str) for name in labels.values()):
        raise TemplateError(f"label file {target.path}: labels is no object of names: {_REMEDY}")
    names: dict[int, str] = {}
    for key, name in labels.items():
        try:
            names[(1 << 24) | int(key[1:], 16) if key.startswith("#") else int(key)] = name
        except ValueError as error:
            message = f"label file {target.path}: {key!r} is neither a label value nor a colour such as #ff0000"
            raise TemplateError(f"{message}: {_REMEDY}") from error
    return names


def _regions(pictures: Mapping[int, NDArray[np.integer]], names: Mapping[int, str], target: Target) -> Iterator[Region]:
    values = sorted({int(value) for picture in pictures.values() for value in np.unique(picture) if value})
    for value in values:
        colour = f"#{value & 0xFFFFFF:06x}" if value >> 24 else ""
        if colour and value not in names:
            raise TemplateError(
                f"label file {target.path} holds the colour {colour}, which its labels do not name: "
                'name it, as in "labels": {"#ff0000": "Liver"}, or save label values in grey'
            )
        yield Region(value, (names[value],) if value in names else (), _drawer(pictures, value, target))


def _drawer(pictures: Mapping[int, NDArray[np.integer]], value: int, target: Target) -> Callable[[], BoolArray]:
    def draw() -> BoolArray:
        mask = np.zeros(target.volume.array.shape, dtype=np.bool_)
        for index, picture in pictures.items():
            mask[index] = picture == value
        return mask

    return draw
