"""What changed rules would have done to series that came in, and what is odd about rules."""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset

from fewshot_node.config import NodeSettings
from fewshot_node.dicom.ledger import SeriesNote
from fewshot_node.dicom.objects.headers import SeriesHeader
from fewshot_node.node import Node, open_node
from fewshot_node.tasks.attributes import SeriesFacts
from fewshot_node.tasks.candidates import Candidate
from fewshot_node.tasks.contradictions import contradiction
from fewshot_node.tasks.replay import Arrival, Arrivals, Overlap, Replayed, check_routing, recent_arrivals, replay
from fewshot_node.tasks.rule_groups import AnyRule
from fewshot_node.tasks.rule_text import parse_rule
from tests.tasks.conftest import Example


def rules(*texts: str) -> tuple[AnyRule, ...]:
    return tuple(parse_rule(text) for text in texts)


def arrival(uid: str, **attributes: object) -> Arrival:
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return Arrival(uid, SeriesFacts(SeriesHeader(dataset, 30, "axial", "1.2"), "SCANNER"))


@pytest.fixture
def arrivals() -> Arrivals:
    return Arrivals(
        (
            arrival("1.1", Modality="CT", BodyPartExamined="ABDOMEN"),
            arrival("1.2", Modality="CT", BodyPartExamined="HEAD"),
            arrival("1.3", Modality="MR", BodyPartExamined="KNEE"),
        ),
        removed=0,
        others=0,
    )


def candidate(name: str, own: tuple[AnyRule, ...] | None, *, shadow: bool = False) -> Candidate:
    return Candidate(name, 1, shadow, own, name, "" if own is not None else "damaged")


def test_a_replay_tells_what_would_change(arrivals: Arrivals) -> None:
    found = replay(arrivals, rules("Modality=CT"), rules("Modality in CT,MR", "not(BodyPartExamined=HEAD)"))
    assert found == (Replayed("1.1", True, True), Replayed("1.2", True, False), Replayed("1.3", False, True))


def test_without_rules_nothing_was_taken(arrivals: Arrivals) -> None:
    assert [one.before for one in replay(arrivals, None, rules("Modality=CT"))] == [False] * 3


def test_overlaps_and_rules_that_take_nothing_are_told(arrivals: Arrivals) -> None:
    found = check_routing(
        arrivals,
        [
            candidate("abdomen", rules("Modality=CT", "BodyPartExamined=ABDOMEN")),
            candidate("any-ct", rules("Modality=CT")),
            candidate("any-ct", rules("Modality=CT"), shadow=True),
            candidate("breast", rules("Modality=MG")),
            candidate("broken", None),
        ],
    )
    assert found.taken == {
        "abdomen revision 1": 1,
        "any-ct revision 1": 2,
        "any-ct revision 1 (shadow)": 2,
        "breast revision 1": 0,
        "broken revision 1": None,
    }
    assert found.overlaps == (
        Overlap("abdomen revision 1", "any-ct revision 1", 1, "1.1"),
        Overlap("abdomen revision 1", "any-ct revision 1 (shadow)", 1, "1.1"),
    )
    assert found.contradictions == {}


@pytest.mark.parametrize(
    "texts",
    [
        ("Modality=CT", "Modality=MR"),
        ("Modality in CT,PT", 'all("Modality in MR,US")'),
        ("SliceThickness>=5", "SliceThickness<=2"),
        ("SliceThickness in 3..5", "SliceThickness<=2"),
        ("number_of_slices=10", "number_of_slices>=20"),
        ("orientation=axial", "orientation=coronal"),
        ("ContrastBolusAgent absent", "ContrastBolusAgent~gado"),
        ("Modality=CT", "Modality~mr"),
    ],
)
def test_rules_that_can_never_hold_are_told(texts: tuple[str, ...]) -> None:
    assert contradiction(rules(*texts)).endswith("can never hold together")


@pytest.mark.parametrize(
    "texts",
    [
        ("Modality=CT", "BodyPartExamined=HEAD"),
        ("Modality in CT,PT", "Modality in PT,MR"),
        ("ImageType=ORIGINAL", "ImageType=PRIMARY"),  # of several values
        ("sop_class=CTImageStorage", "sop_class=1.2.840.10008.5.1.4.1.1.2"),
        ("SliceThickness>=2", "SliceThickness<=5"),
        ("any(Modality=CT, Modality=MR)", "Modality=CT"),
        ("not(Modality=CT)", "Modality=MR"),
        ("SeriesDescription~knee", "SeriesDescription~left"),
    ],
)
def test_rules_that_can_hold_are_let_be(texts: tuple[str, ...]) -> None:
    assert contradiction(rules(*texts)) == ""


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return open_node(NodeSettings(home=tmp_path / "home"))


def receive(node: Node, files: tuple[Path, ...], uid: str) -> None:
    """Put files into the spool as the receiver would."""
    folder = node.spool.root / "series" / uid
    folder.mkdir(parents=True)
    for number, path in enumerate(files):
        shutil.copy(path, folder / f"1.2.{number}.dcm")
    now = datetime.now(UTC)
    node.ledger.note_instances([SeriesNote.of_one(uid, "1.9", "SCANNER", 1, now) for _ in files])
    node.ledger.close(uid)


def test_what_came_in_is_read_from_the_spool(node: Node, make_example: Callable[..., Example], tmp_path: Path) -> None:
    example = make_example(seed=1)
    receive(node, example.files[:3], example.series_instance_uid)
    report = pydicom.dcmread(example.files[0])
    del report.Rows, report.Columns, report.PixelData
    report.save_as(tmp_path / "report.dcm")
    receive(node, (tmp_path / "report.dcm",), "1.5")
    receive(node, example.files[:1], "1.6")
    shutil.rmtree(node.spool.root / "series" / "1.6")
    (tmp_path / "broken.dcm").write_bytes(b"no DICOM")
    receive(node, (tmp_path / "broken.dcm",), "1.7")
    found = recent_arrivals(node, 10)
    assert [one.series_instance_uid for one in found.images] == [example.series_instance_uid]
    assert found.images[0].facts.seen("Modality") == ("CT",)
    assert found.images[0].facts.seen("number_of_slices") == ("3",)
    assert (found.removed, found.others) == (1, 2)
    assert (
        len(recent_arrivals(node, 1).images) + recent_arrivals(node, 1).others + recent_arrivals(node, 1).removed == 1
    )
