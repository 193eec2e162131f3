"""Which label of a task a thing in a file stands for."""

from pathlib import Path

import numpy as np
import pytest

from fewshot_node.errors import TemplateError
from fewshot_node.records import Code, SourceFrame, TaskKind, Volume
from fewshot_node.tasks.annotations import Annotation, AnnotationFormat, Region, Target
from fewshot_node.tasks.codes import parse_label
from fewshot_node.tasks.label_files import label_map_of
from fewshot_node.tasks.selection import TemplateSelection
from fewshot_node.tasks.task import TaskDefinition

KIDNEY = Code("64033007", "SCT", "Kidney")


@pytest.fixture
def target() -> Target:
    frames = (SourceFrame("1.2.840.10008.5.1.4.1.1.2", "1.2.1"),)
    volume = Volume(np.zeros((1, 2, 4), np.float32), np.eye(4), frames, "CT", "1.2", "1.2.3", "1.2.4")
    return Target(Path("file"), volume)


def task(*labels: str) -> TaskDefinition:
    return TaskDefinition("organs", TaskKind.SEGMENTATION, tuple(parse_label(text) for text in labels))


def region(number: int, *names: str, type_: Code | None = None, side: str = "", column: int = 0) -> Region:
    mask = np.zeros((1, 2, 4), bool)
    mask[0, 0, column] = True
    return Region(number, names, mask.copy, type_, side)


def values(target: Target, definition: TaskDefinition, *regions: Region, **selection: object) -> list[int]:
    found = label_map_of(
        Annotation(AnnotationFormat.RTSTRUCT, regions),
        target,
        definition,
        TemplateSelection(**selection),  # type: ignore[arg-type]
    )
    return found[0, 0].tolist()


@pytest.mark.parametrize(
    "name", ["Left kidney", "LEFT_KIDNEY", "kidney-left", "Kidney_L", "kidney lt", "organs Left kidney"]
)
def test_names_as_people_write_them(target: Target, name: str) -> None:
    definition = task("3=Left kidney", "4=Right kidney", "1=Liver")
    assert values(target, definition, region(300, name))[0] == 3


def test_own_words_find_their_code(target: Target) -> None:
    assert values(target, task("1=Leber:SCT:10200004:Liver"), region(9, "liver"))[0] == 1


@pytest.mark.parametrize(
    ("name", "type_", "side"), [("Right kidney", None, ""), ("R", KIDNEY, "right"), ("kidney_r", KIDNEY, "")]
)
def test_a_task_of_one_side_does_not_take_the_other(target: Target, name: str, type_: Code | None, side: str) -> None:
    with pytest.raises(TemplateError, match=r"holds the values 2 \(.*\), which task organs does not know"):
        values(target, task("3=Left kidney"), region(2, name, type_=type_, side=side))


def test_a_side_within_the_code_needs_no_word(target: Target) -> None:
    left_ventricle = Code("87878005", "SCT", "Left ventricle")
    assert values(target, task("1=Left ventricle"), region(5, "LV", type_=left_ventricle))[0] == 1


def test_an_unclear_concept_is_not_guessed(target: Target) -> None:
    with pytest.raises(TemplateError, match="map each"):
        values(target, task("3=Left kidney", "4=Right kidney"), region(2, "Kidney", type_=KIDNEY))


def test_maps_by_number_and_by_name_come_first(target: Target) -> None:
    definition = task("1=Liver", "2=Spleen")
    regions = (region(1, "Liver"), region(2, "Milz", column=1), region(3, "Rest", column=2))
    given = {"name_map": {"liver": 2, "Milz": 1}, "value_map": {3: 0}}
    assert values(target, definition, *regions, **given) == [2, 1, 0, 0]


def test_the_region_with_the_higher_number_wins_and_unwanted_ones_are_not_drawn(target: Target) -> None:
    def fail() -> np.ndarray:
        raise AssertionError("drawn")

    definition = task("1=Liver", "2=Spleen")
    regions = (region(9, "Spleen"), region(4, "Liver"), Region(2, ("Body",), fail))
    assert values(target, definition, *regions, ignore_others=True)[0] == 2


def test_a_long_list_of_unknown_things_is_cut(target: Target) -> None:
    with pytest.raises(TemplateError) as caught:
        values(target, task("1=Liver"), *(region(number, f"thing {number}") for number in range(1, 60)))
    assert "and 47 more" in str(caught.value)
    assert "--map 1=1" in str(caught.value)
