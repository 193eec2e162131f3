import dataclasses
import json
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from fewshot_node.dicom.objects.headers import SeriesHeader
from fewshot_node.errors import RuleError
from fewshot_node.tasks.attributes import SeriesFacts
from fewshot_node.tasks.rule_data import rule_from_data, rule_to_data
from fewshot_node.tasks.rule_groups import evaluate
from fewshot_node.tasks.rule_text import parse_rule
from fewshot_node.tasks.rules import Operator, Rule

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"


@pytest.fixture
def header() -> SeriesHeader:
    dataset = Dataset()
    dataset.Modality = "CT"
    dataset.SeriesDescription = "T2 Abdomen portal"
    dataset.BodyPartExamined = "ABDOMEN"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.SliceThickness = "1.60"
    dataset.PixelSpacing = [0.57, 0.8]
    dataset.ContrastBolusAgent = ""
    dataset.PatientName = "Doe^Jane"
    dataset.RequestAttributesSequence = [Dataset()]
    return SeriesHeader(dataset=dataset, number_of_slices=129, orientation="axial", sop_class_uid=CT_IMAGE_STORAGE)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("Modality=CT", True),
        ("Modality = CT", True),
        ("Modality=ct", False),
        ("Modality=MR", False),
        ("ImageType=PRIMARY", True),
        ("ImageType in DERIVED,AXIAL", True),
        ("ImageType in DERIVED,SECONDARY", False),
        ("SliceThickness=1.6", True),
        ("SliceThickness in 1,1.600", True),
        ("BodyPartExamined~abdomen", True),
        ("BodyPartExamined~knee", False),
        ("SeriesDescription=~/^T2.*/", True),
        ("SeriesDescription=~/portal$/", True),
        ("SeriesDescription=~/^portal/", False),
        ("SeriesDescription=~/(?i)ABDOMEN/", True),
        ("number_of_slices>=129", True),
        ("number_of_slices>=130", False),
        ("number_of_slices<=129", True),
        ("PixelSpacing<=0.8", True),
        ("PixelSpacing<=0.6", False),
        ("orientation in axial,coronal", True),
        ("orientation=sagittal", False),
        ("sop_class=CT Image Storage", True),
        ("sop_class=CTImageStorage", True),
        (f"sop_class={CT_IMAGE_STORAGE}", True),
        ("calling_ae_title=CT1", True),
        ("ContrastBolusAgent absent", True),
        ("ContrastBolusAgent present", False),
        ("ContrastBolusAgent=X", False),
        ("ProtocolName absent", True),
        ("ProtocolName~abd", False),
        ("Modality present", True),
        ("RequestAttributesSequence present", True),
        ("EchoTime>=1", False),
    ],
)
def test_verdict_of_one_rule(header: SeriesHeader, text: str, holds: bool) -> None:
    verdict = evaluate([parse_rule(text)], SeriesFacts(header, "CT1"))
    assert verdict.matches is holds
    assert [one.holds for one in verdict.rules] == [holds]


def test_all_rules_must_hold_and_each_shows_what_it_saw(header: SeriesHeader) -> None:
    rules = [parse_rule("Modality=CT"), parse_rule("number_of_slices<=20"), parse_rule("ProtocolName=X")]
    verdict = evaluate(rules, SeriesFacts(header, None))
    assert not verdict.matches
    assert [(one.seen, one.holds) for one in verdict.rules] == [("CT", True), ("129", False), (None, False)]


def test_no_rules_take_no_series(header: SeriesHeader) -> None:
    assert not evaluate([], SeriesFacts(header, "CT1")).matches


def test_sender_is_unknown_for_a_folder(header: SeriesHeader) -> None:
    assert not evaluate([parse_rule("calling_ae_title=CT1")], SeriesFacts(header, None)).matches
    assert evaluate([parse_rule("calling_ae_title absent")], SeriesFacts(header, None)).matches


def test_unknown_orientation_is_absent(header: SeriesHeader) -> None:
    unknown = dataclasses.replace(header, orientation=None)
    assert evaluate([parse_rule("orientation absent")], SeriesFacts(unknown, None)).matches


def test_long_value_is_cut_in_the_verdict(header: SeriesHeader) -> None:
    header.dataset.SeriesDescription = "x" * 500
    (verdict,) = evaluate([parse_rule("SeriesDescription~x")], SeriesFacts(header, None)).rules
    assert verdict.seen is not None
    assert len(verdict.seen) <= 80


@pytest.mark.parametrize(
    "text",
    [
        "Modality=CT",
        "BodyPartExamined~abdomen",
        "number_of_slices>=20",
        "SliceThickness<=5",
        "SeriesDescription=~/^T2.*/",
        "SeriesDescription=~/ a/b /",
        "orientation in axial,coronal",
        'SeriesDescription in "a, b",c',
        'SeriesDescription in "say ""hi""",c',
        "ContrastBolusAgent absent",
        "ContrastBolusAgent present",
        "sop_class=CT Image Storage",
    ],
)
def test_text_round_trip(text: str) -> None:
    assert str(parse_rule(text)) == text
    assert parse_rule(str(parse_rule(text))) == parse_rule(text)


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("Modality=CT", {"attribute": "Modality", "equals": "CT"}),
        ("orientation in axial,coronal", {"attribute": "orientation", "any_of": ["axial", "coronal"]}),
        ("number_of_slices>=20", {"attribute": "number_of_slices", "minimum": "20"}),
        ("ProtocolName absent", {"attribute": "ProtocolName", "absent": True}),
    ],
)
def test_data_round_trip(text: str, data: dict[str, object]) -> None:
    assert rule_to_data(parse_rule(text)) == data
    assert rule_from_data(json.loads(json.dumps(data))) == parse_rule(text)


def test_rule_from_toml_takes_numbers() -> None:
    document = tomllib.loads('[[rules]]\nattribute = "number_of_slices"\nminimum = 20\n')
    assert rule_from_data(document["rules"][0]) == parse_rule("number_of_slices>=20")


_TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=20)


@given(
    operator=st.sampled_from([Operator.EQUALS, Operator.CONTAINS, Operator.ANY_OF]),
    values=st.lists(_TEXTS, min_size=1),
)
def test_every_acceptable_rule_survives_its_text(operator: Operator, values: list[str]) -> None:
    chosen = tuple(values) if operator is Operator.ANY_OF else tuple(values[:1])
    try:
        rule = Rule("SeriesDescription", operator, chosen)
    except RuleError:
        return
    assert parse_rule(str(rule)) == rule


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Modallity=CT", "did you mean Modality"),
        ("modality=CT", "did you mean Modality"),
        ("SeriesDescripton~x", "did you mean SeriesDescription"),
        ("number_of_slice>=2", "did you mean number_of_slices"),
        ("Zzqqxx=1", "use a keyword of PS3.6"),
        ("SeriesDescription=~/a(b/", "wrong at character 2"),
        ("SeriesDescription=~//", "empty"),
        ("SeriesDescription~/abc/", "SeriesDescription=~/abc/"),
        ("Modality==CT", "begins with one of"),
        ("number_of_slices=>20", "begins with one of"),
        ("number_of_slices>=many", "'many' is none"),
        ("number_of_slices>=nan", "'nan' is none"),
        ("SliceThickness=thin", "'thin' is none"),
        ("Modality>=3", "Modality holds text"),
        ("Modality=", "empty"),
        ("orientation in ", "one or more values"),
        ("orientation in a,,b", "empty"),
        ('orientation in "a', "cannot be read"),
        ("Modality", "is no rule"),
        ("Modality != CT", "is no rule"),
        ("Modality presentabsent", "is no rule"),
        ("", "is no rule"),
        ("RequestAttributesSequence=1", "is a sequence"),
        ("PixelData present", "bulk data"),
        ("TransferSyntaxUID=1.2.840.10008.1.2", "calling_ae_title"),
        ("PatientName~doe", "identifies a person"),
        ("PatientID=1", "identifies a person"),
        ("PatientBirthDate absent", "identifies a person"),
        ("OtherPatientIDs present", "identifies a person"),
        ("ReferringPhysicianName=x", "identifies a person"),
        ("OperatorsName=x", "identifies a person"),
        ("AccessionNumber=1", "identifies a person"),
        ("PatientAddress~x", "identifies a person"),
        ("Modality=C\nT", "not printable"),
    ],
)
def test_refused_rule_says_why(text: str, says: str) -> None:
    with pytest.raises(RuleError) as caught:
        parse_rule(text)
    assert says in str(caught.value)


def test_bad_regex_shows_the_place() -> None:
    with pytest.raises(RuleError) as caught:
        parse_rule("SeriesDescription=~/^T2[/")
    pattern, caret = str(caught.value).splitlines()[-2:]
    assert pattern[caret.index("^")] == "["


@pytest.mark.parametrize("attribute", ["PatientSex", "PatientAge", "PatientPosition"])
def test_what_does_not_identify_may_route(attribute: str) -> None:
    assert parse_rule(f"{attribute} present").attribute == attribute


@pytest.mark.parametrize(
    "data",
    [
        {"equals": "CT"},
        {"attribute": "Modality"},
        {"attribute": "Modality", "equals": "CT", "contains": "C"},
        {"attribute": "Modality", "is": "CT"},
        {"attribute": "Modality", "present": False},
        {"attribute": "Modality", "equals": None},
        {"attribute": "Modality", "equals": ["CT", "MR"]},
        {"attribute": "Modality", "any_of": []},
        {"attribute": "number_of_slices", "minimum": True},
        {"attribute": 3, "equals": "CT"},
    ],
)
def test_malformed_data_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(RuleError):
        rule_from_data(data)
