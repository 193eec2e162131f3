"""What an annotation file marks, in the labels of a task."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from fewshot_node.errors import TemplateError
from fewshot_node.records import Code, Label, LabelArray, TaskKind, Volume
from fewshot_node.tasks.annotations import Annotation, NamedPoint, Region, Target, read_annotation
from fewshot_node.tasks.codes import concepts_named, folded, side_of
from fewshot_node.tasks.points import LandmarkPoint, place_point
from fewshot_node.tasks.selection import TemplateSelection
from fewshot_node.tasks.task import TaskDefinition

_SHOWN = 12
_MASK_VALUE = 255
"""What a picture of a single structure holds where it is, often."""

Named = TypeVar("Named", Region, NamedPoint)


def read_label_map(path: Path, volume: Volume, definition: TaskDefinition, selection: TemplateSelection) -> LabelArray:
    """Read the structures of an annotation file of any format onto the grid of `volume`.

    Returns
    -------
    LabelArray
        uint8 (slices, rows, columns), values of the task; at least one is present.

    Raises
    ------
    TemplateError
        The file cannot be read, lies on another grid, is empty, or marks something that the task does not know.
    """
    target = Target(path, volume, selection.resample)
    return label_map_of(read_annotation(target), target, definition, selection)


def read_positions_mm(
    path: Path, volume: Volume, definition: TaskDefinition, selection: TemplateSelection
) -> dict[int, tuple[float, float, float]]:
    """Read the landmarks of an annotation file as label value -> LPS mm, exact between slices and outside too.

    Raises
    ------
    TemplateError
        The file cannot be read, or marks something that the task does not know.
    """
    annotation = read_annotation(Target(path, volume))
    targets = _match(annotation.points, path, definition, selection)
    positions = {}
    for point in annotation.points:
        if targets.get(point):
            x_mm, y_mm, z_mm = volume.to_mm(np.asarray(point.index))
            positions[targets[point]] = (float(x_mm), float(y_mm), float(z_mm))
    return positions


def label_map_of(
    annotation: Annotation, target: Target, definition: TaskDefinition, selection: TemplateSelection
) -> LabelArray:
    """Draw the regions that the task knows; where two overlap, the one that the file numbers higher wins.

    A region belongs to the label of its name, else to the only label of its coded concept and side; a file that
    gives values only has the task's own. `selection.value_map` and `.name_map` override that.

    Raises
    ------
    TemplateError
        A region is unknown, lies outside the series, or nothing is left.
    """
    if annotation.points and not annotation.regions:
        kind = f"holds {len(annotation.points)} points and no structure"
        raise TemplateError(f"label file {target.path} ({annotation.format}) {kind}: {_suits(definition)}")
    targets = _match(annotation.regions, target.path, definition, selection)
    label_map = np.zeros(target.volume.array.shape, dtype=np.uint8)
    for region in sorted(annotation.regions, key=lambda one: one.number):
        value = targets.get(region)
        if value:
            label_map[region.draw()] = value
    if not label_map.any():
        raise TemplateError(
            f"label file {target.path} marks nothing of {_known(definition.labels)}: check the file and its label "
            "values; slices that surely hold none of it are added with --negative"
        )
    return label_map


def points_of(
    annotation: Annotation, target: Target, definition: TaskDefinition, selection: TemplateSelection
) -> tuple[LandmarkPoint, ...]:
    """Return the points that the task knows, in the order of its labels.

    Raises
    ------
    TemplateError
        A point is unknown, given twice or outside the series, or there is none.
    """
    if annotation.regions and not annotation.points:
        kind = f"holds {len(annotation.regions)} structures and no point"
        raise TemplateError(f"label file {target.path} ({annotation.format}) {kind}: {_suits(definition)}")
    targets = _match(annotation.points, target.path, definition, selection)
    found: dict[int, LandmarkPoint] = {}
    labels = {label.value: label for label in definition.labels}
    for point in annotation.points:
        value = targets.get(point)
        if not value:
            continue
        if value in found:
            raise TemplateError(f"{target.path} gives landmark {labels[value].name!r} twice: keep one")
        found[value] = place_point(labels[value], point.index, target)
    if not found:
        raise TemplateError(f"{target.path} holds no landmark of {_known(definition.labels)}: place one and save it")
    return tuple(found[value] for value in labels if value in found)


def _suits(definition: TaskDefinition) -> str:
    landmarks = definition.kind is TaskKind.LANDMARKS
    wanted = "landmarks: give points" if landmarks else "structures: give labelled regions"
    return f"it does not suit task {definition.name}, which learns {wanted}"


def _match(
    found: Sequence[Named], path: Path, definition: TaskDefinition, selection: TemplateSelection
) -> dict[Named, int]:
    """Return the task's value for each thing found; 0 drops it."""
    for number, value in selection.value_map.items():
        _require_known(number, value, definition)
    for name, value in selection.name_map.items():
        _require_known(name, value, definition)
    names = {folded(name): value for name, value in selection.name_map.items()}
    _require_used(selection, found, path)
    targets: dict[Named, int] = {}
    unknown: list[Named] = []
    for one in found:
        given = _given(one, names, selection)
        meant = _meant(one, found, definition) if given is None else given
        if meant is None:
            unknown.append(one)
        else:
            targets[one] = meant
    if unknown and not selection.ignore_others:
        raise TemplateError(_unknown(path, unknown, definition))
    return targets


def _given(one: Region | NamedPoint, names: Mapping[str, int], selection: TemplateSelection) -> int | None:
    """Return what the user said about it."""
    for name in one.names:
        if folded(name) in names:
            return names[folded(name)]
    return selection.value_map.get(one.number) if isinstance(one, Region) else None


def _meant(one: Region | NamedPoint, found: Sequence[Region | NamedPoint], definition: TaskDefinition) -> int | None:
    """Return the label that its name, value or concept stands for; None where that is unclear."""
    labels = definition.labels
    if isinstance(one, Region) and not one.names:
        if len(found) == len(labels) == 1 and one.number == _MASK_VALUE:
            return labels[0].value
        return one.number if one.number in definition.label_values else None
    wanted = _names_of(one, definition)
    for fits in _criteria(one, wanted):
        fitting = [label for label in labels if fits(label)]
        if len(fitting) == 1:
            return fitting[0].value
    return None


def _names_of(one: Region | NamedPoint, definition: TaskDefinition) -> set[str]:
    """Return its names; this node's own results put the task's name in front."""
    names = {folded(name) for name in one.names}
    task = folded(definition.name) + " "
    return names | {name.removeprefix(task) for name in names}


def _criteria(one: Region | NamedPoint, wanted: Iterable[str]) -> tuple[Callable[[Label], bool], ...]:
    """Return the tests of which label is meant, the surest first; sides must agree, since codes do not hold them."""
    wanted = frozenset(wanted)
    stated = one.side
    concepts = [(code, stated or side_of(name, code)) for name in one.names for code in concepts_named(name)]
    typed = [(one.type, stated or next((side for name in one.names if (side := side_of(name, one.type))), ""))]

    def by_name(label: Label) -> bool:
        return folded(label.name) in wanted

    def by_value(label: Label) -> bool:
        return isinstance(one, NamedPoint) and str(label.value) in wanted

    def by_type(label: Label) -> bool:
        return any(code is not None and _is(label, code, side) for code, side in typed)

    def by_meaning(label: Label) -> bool:
        return any(_is(label, code, side) for code, side in concepts)

    return by_name, by_value, by_type, by_meaning


def _is(label: Label, code: Code, side: str) -> bool:
    same = (label.type.scheme, label.type.value) == (code.scheme, code.value)
    return same and side == side_of(label.name, label.type)


def _require_known(what: int | str, value: int, definition: TaskDefinition) -> None:
    if value not in {0, *definition.label_values} or what == 0:
        raise TemplateError(
            f"label value {what} cannot be mapped to {value}: task {definition.name} knows "
            f"{_known(definition.labels)}, and 0 drops a value"
        )


def _require_used(selection: TemplateSelection, found: Sequence[Region | NamedPoint], path: Path) -> None:
    """Refuse a name that the file does not hold: most likely it is misspelt."""
    held = {folded(name) for one in found for name in one.names}
    strange = [name for name in selection.name_map if folded(name) not in held]
    if strange:
        listed = ", ".join(sorted({name for one in found for name in one.names})[:_SHOWN]) or "no names, only values"
        raise TemplateError(f"label file {path} has nothing called {strange[0]!r}: it has {listed}")


def _unknown(path: Path, unknown: Sequence[Region | NamedPoint], definition: TaskDefinition) -> str:
    first, value = unknown[0], definition.label_values[0]
    listed = ", ".join(_described(one) for one in unknown[:_SHOWN])
    more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
    kind = "values" if isinstance(first, Region) else "landmarks"
    by = str(first.number) if isinstance(first, Region) else first.names[0]
    quoted = f'"{by}={value}"' if " " in by else f"{by}={value}"
    dropped = f'"{by}=0"' if " " in by else f"{by}=0"
    return (
        f"label file {path} holds the {kind} {listed}{more}, which task {definition.name} does not know "
        f"(it knows {_known(definition.labels)}): map each, for example --map {quoted} or --map {dropped} (drops it), "
        "or give --ignore-others"
    )


def _described(one: Region | NamedPoint) -> str:
    name = one.names[0] if one.names else ""
    if isinstance(one, NamedPoint):
        return repr(name)
    return f"{one.number} ({name})" if name else str(one.number)


def _known(labels: tuple[Label, ...]) -> str:
    return ", ".join(f"{label.value}={label.name}" for label in labels)
