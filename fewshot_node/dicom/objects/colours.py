"""Recommended display colours: the same one for the same structure, whatever task finds it.

No package that this one stands on lists colours for property types, so a colour follows from the type's code.
"""

import colorsys
from collections.abc import Sequence

from highdicom.color import CIELabColor

from fewshot_node.records import Label
from fewshot_node.uids import digest_parts

_HUES = 12
_TONES = ((0.8, 0.95), (0.45, 0.95), (0.8, 0.6))
"""(saturation, value) of a strong, a pale and a dark one: any two of the 36 colours lie 14 or more apart in CIELab."""
_COLOURS = _HUES * len(_TONES)
_STEP = 17  # has no divisor in common with the number of colours, so that every colour is reached


def display_colours(labels: Sequence[Label]) -> list[CIELabColor]:
    """Return a Recommended Display CIELab Value (PS3.3 C.8.20.2) for each label, no two alike up to 36 labels.

    A label has the colour that its type and side lead to; where an earlier label of the task has that one
    already, the next free one.
    """
    taken: list[int] = []
    for label in labels:
        slot = _preferred(label)
        while slot in taken and len(taken) < _COLOURS:
            slot = (slot + _STEP) % _COLOURS
        taken.append(slot)
    return [_colour(slot) for slot in taken]


def _preferred(label: Label) -> int:
    side = "" if label.laterality is None else label.laterality.value
    parts = (label.type.scheme, label.type.value, side)
    return int(digest_parts(part.encode() for part in parts), 16) % _COLOURS


def _colour(slot: int) -> CIELabColor:
    tone, hue = divmod(slot, _HUES)
    saturation, value = _TONES[tone]
    # The tones' hues lie between each other's.
    red, green, blue = colorsys.hsv_to_rgb((hue + tone / len(_TONES)) / _HUES, saturation, value)
    return CIELabColor.from_rgb(round(255 * red), round(255 * green), round(255 * blue))
