"""What is left out together, and what then remains to learn from."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from fewshot_node.errors import TemplateError
from fewshot_node.tasks.crossval.records import Unit
from fewshot_node.tasks.templates import Template

_FEWEST = 2


def find_units(templates: Sequence[Template]) -> tuple[tuple[Unit, ...], bool]:
    """Return what can be left out in turn, and whether it is slices of the only series.

    Templates of one series are left out together: what they share would be told, not foretold.

    Raises
    ------
    TemplateError
        One series with one slice: nothing would remain to learn from.
    """
    by_series: dict[str, list[str]] = {}
    for template in templates:
        by_series.setdefault(template.series_instance_uid, []).append(template.name)
    units = tuple(Unit(" and ".join(names), tuple(names)) for names in by_series.values())
    by_slice = len(units) < _FEWEST
    if by_slice:
        units = tuple(
            Unit(f"{template.name} slice {index}", (template.name,), (place,))
            for template in templates
            for place, index in enumerate(template.slice_indices)
        )
    if len(units) < _FEWEST:
        raise TemplateError(
            "nothing can be left out of a single slice: add a second template (template add), best of another patient"
        )
    return units, by_slice


def group_units(units: Sequence[Unit], most: int) -> tuple[tuple[Unit, ...], ...]:
    """Put units into at most `most` groups, each of which is left out as a whole."""
    count = min(len(units), most)
    return tuple(tuple(units[start::count]) for start in range(count))


def held_out(templates: Sequence[Template], unit: Unit) -> list[Template]:
    """Return the examples that a unit is."""
    own = [one for one in templates if one.name in unit.templates]
    return [take_slices(one, unit.slices) for one in own] if unit.slices else own


def remaining(templates: Sequence[Template], units: Collection[Unit]) -> list[Template]:
    """Return the examples, or parts of them, that are in none of the units."""
    kept = []
    for template in templates:
        own = [unit for unit in units if template.name in unit.templates]
        if not own:
            kept.append(template)
            continue
        gone = {place for unit in own for place in unit.slices}
        places = [place for place in range(len(template.array)) if place not in gone]
        if places and all(unit.slices for unit in own):
            kept.append(take_slices(template, places))
    return kept


def take_slices(template: Template, places: Sequence[int]) -> Template:
    """Return a template of some of a template's slices, counted within it."""
    chosen = list(places)
    return replace(
        template,
        array=template.array[chosen],
        label_map=template.label_map[chosen],
        points=tuple(
            replace(point, slice_index=chosen.index(point.slice_index))
            for point in template.points
            if point.slice_index in chosen
        ),
        slice_indices=tuple(template.slice_indices[place] for place in chosen),
        instance_uids=tuple(template.instance_uids[place] for place in chosen),
    )
