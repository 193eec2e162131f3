from itertools import combinations

import numpy as np

from fewshot_node.dicom.objects.colours import display_colours
from fewshot_node.records import Code, Label

ANATOMY = Code("91723000", "SCT", "Anatomical Structure")
LEFT, RIGHT = Code("7771000", "SCT", "Left"), Code("24028007", "SCT", "Right")


def label(value: int, code: str, side: Code | None = None) -> Label:
    return Label(value, f"label {value}", ANATOMY, Code(code, "SCT", code), laterality=side)


def test_a_structure_has_one_colour_whatever_its_number_and_task() -> None:
    liver, spleen = "10200004", "78961009"
    (first, second) = display_colours([label(1, liver), label(2, spleen)])
    (again, other) = display_colours([label(7, spleen), label(9, liver)])
    assert (first.value, second.value) == (other.value, again.value)


def test_sides_and_equal_types_differ() -> None:
    kidney = "64033007"
    colours = display_colours([label(1, kidney, LEFT), label(2, kidney, RIGHT), label(3, kidney), label(4, kidney)])
    assert len({colour.value for colour in colours}) == 4


def test_thirty_six_labels_can_be_told_apart() -> None:
    colours = display_colours([label(value, "10200004") for value in range(1, 37)])
    apart = [np.linalg.norm(np.subtract(first.lab, second.lab)) for first, second in combinations(colours, 2)]
    assert min(apart) > 14  # a difference in CIELab of about 2.3 is just seen


def test_more_labels_than_colours_begin_again() -> None:
    colours = display_colours([label(value, str(value)) for value in range(1, 101)])
    assert len(colours) == 100
    assert len({colour.value for colour in colours}) == 36
