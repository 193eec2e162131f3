import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from fewshot_node.dicom.objects.headers import SeriesHeader
from fewshot_node.errors import RuleError
from fewshot_node.tasks.attributes import SeriesFacts
from fewshot_node.tasks.rule_data import rule_from_data, rule_to_data
from fewshot_node.tasks.rule_groups import AnyRule, GroupKind, RuleGroup, evaluate, plain_rules, takes
from fewshot_node.tasks.rule_text import parse_rule
from fewshot_node.tasks.rules import Operator, Rule


@pytest.fixture
def facts() -> SeriesFacts:
    dataset = Dataset()
    dataset.Modality = "CT"
    dataset.SeriesDescription = "portal, (thin) abdomen"
    dataset.SliceThickness = "1.60"
    dataset.PixelSpacing = [0.57, 0.8]
    return SeriesFacts(SeriesHeader(dataset, 129, "axial", "1.2.840.10008.5.1.4.1.1.2"), "CT1")


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("any(Modality=CT, Modality=PT)", True),
        ("any(Modality=MR, Modality=PT)", False),
        ("all(Modality=CT, SliceThickness<=2)", True),
        ("all(Modality=CT, SliceThickness<=1)", False),
        ("not(SeriesDescription~scout)", True),
        ("not(SeriesDescription~portal)", False),
        ("not(ProtocolName~scout)", True),
        ("not(any(Modality=MR, orientation=axial))", False),
        ("any(all(Modality=MR, orientation=axial), not(Modality=MR))", True),
        ("not(orientation in coronal,sagittal)", True),
        ("not(orientation in axial,coronal)", False),
        ('any("orientation in axial,coronal", Modality=MR)', True),
        ('any("SeriesDescription=portal, (thin) abdomen", Modality=MR)', True),
        ("any(SeriesDescription=~/(thin|thick)/, Modality=MR)", True),
        ("any(SeriesDescription=~/[,)]/, Modality=MR)", True),
        ("not(SeriesDescription=~/a{1,3}bd/)", False),
        ("  any ( Modality = MR ,Modality=CT )  ", True),
        ("SliceThickness in 0.5..3", True),
        ("SliceThickness in 1.6..1.6", True),
        ("SliceThickness in 2..3", False),
        ("SliceThickness in 0.5 .. 3", True),
        ("PixelSpacing in 0.6..1", False),
        ("number_of_slices in -1..1e3", True),
        ("EchoTime in 1..100", False),
    ],
)
def test_verdict_of_groups_and_ranges(facts: SeriesFacts, text: str, holds: bool) -> None:
    rule = parse_rule(text)
    assert evaluate([rule], facts).matches is holds
    assert takes([rule], facts) is holds
    assert parse_rule(str(rule)) == rule
    assert rule_from_data(json.loads(json.dumps(rule_to_data(rule)))) == rule


def test_a_group_shows_the_verdict_of_each_of_its_rules(facts: SeriesFacts) -> None:
    (verdict,) = evaluate([parse_rule("any(Modality=MR, not(SliceThickness>=1))")], facts).rules
    assert (verdict.holds, verdict.seen) == (False, None)
    modality, negated = verdict.parts
    assert (modality.holds, modality.seen) == (False, "CT")
    assert (negated.holds, negated.parts[0].holds, negated.parts[0].seen) == (False, True, "1.60")


def test_no_rules_take_no_series(facts: SeriesFacts) -> None:
    assert not takes([], facts)


@pytest.mark.parametrize(
    ("text", "data"),
    [
        (
            "any(Modality=CT, Modality=PT)",
            {"any": [{"attribute": "Modality", "equals": "CT"}, {"attribute": "Modality", "equals": "PT"}]},
        ),
        ("not(SeriesDescription~scout)", {"not": {"attribute": "SeriesDescription", "contains": "scout"}}),
        ("SliceThickness in 0.5..3", {"attribute": "SliceThickness", "range": ["0.5", "3"]}),
    ],
)
def test_text_and_data_of_a_group(text: str, data: dict[str, object]) -> None:
    rule = parse_rule(text)
    assert (str(rule), rule_to_data(rule)) == (text, data)


def test_a_range_in_toml_may_be_numbers() -> None:
    data = {"attribute": "SliceThickness", "range": [0.5, 3]}
    assert rule_from_data(data) == Rule("SliceThickness", Operator.RANGE, ("0.5", "3"))


def test_two_dots_in_a_text_attribute_are_text() -> None:
    assert parse_rule("SeriesDescription in a..b") == Rule("SeriesDescription", Operator.ANY_OF, ("a..b",))


_TEXTS = st.text(st.characters(codec="ascii", exclude_categories=("C",)), min_size=1, max_size=12)
_PLAIN = st.builds(
    lambda operator, texts: (operator, tuple(texts) if operator is Operator.ANY_OF else tuple(texts[:1])),
    st.sampled_from([Operator.EQUALS, Operator.CONTAINS, Operator.ANY_OF]),
    st.lists(_TEXTS, min_size=1, max_size=3),
)


@given(st.lists(_PLAIN, min_size=1, max_size=3), st.sampled_from(["any", "all"]))
def test_every_group_survives_its_text(parts: list[tuple[Operator, tuple[str, ...]]], kind: str) -> None:
    try:
        rules: list[AnyRule] = [Rule("SeriesDescription", *part) for part in parts]
    except RuleError:
        return
    inner = RuleGroup(GroupKind(kind), tuple(rules))
    group = RuleGroup(GroupKind.ANY, (RuleGroup(GroupKind.NOT, (inner,)), *rules))
    assert parse_rule(str(group)) == group
    assert list(plain_rules([group])) == [*rules, *rules]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("any(Modallity=CT, Modality=PT)", "did you mean Modality"),
        ("not(all(BodyPartExamind=X))", "did you mean BodyPartExamined"),
        ("any(PatientName~x)", "identifies a person"),
        ("any()", "is no rule"),
        ("any(Modality=CT,)", "is no rule"),
        ("not(Modality=CT, Modality=MR)", "takes one rule"),
        ("any(orientation in axial,coronal, Modality=CT)", "stands in quotes"),
        ("any(Modality=CT", "is no rule"),
        ("any(Modality=CT))", "brackets do not match"),
        ("any(Modality=CT) any(Modality=MR)", "brackets do not match"),
        ('any("Modality=CT, Modality=MR)', "is no rule"),
        ("either(Modality=CT)", "is no rule"),
        ("not(" * 9 + "Modality=CT" + ")" * 9, "more than 8 deep"),
        ("not(" * 5000 + "Modality=CT" + ")" * 5000, "more than 8 deep"),
        ("SliceThickness in 3..0.5", "nothing lies in"),
        ("SliceThickness in 0.5..thick", "is none"),
        ("SliceThicknes in 0.5..3", "did you mean SliceThickness"),
        ("RequestAttributesSequence in 1..2", "is a sequence"),
    ],
)
def test_refused_group_says_why(text: str, says: str) -> None:
    with pytest.raises(RuleError) as caught:
        parse_rule(text)
    assert says in str(caught.value)


def nested(depth: int) -> dict[str, object]:
    data: dict[str, object] = {"attribute": "Modality", "equals": "CT"}
    for _ in range(depth):
        data = {"not": data}
    return data


@pytest.mark.parametrize(
    "data",
    [
        {"any": []},
        {"any": "Modality=CT"},
        {"any": [3]},
        {"any": [{"attribute": "Modality", "equals": "CT"}], "attribute": "Modality"},
        {"any": [{"attribute": "Modality", "equals": "CT"}], "all": []},
        {"not": [{"attribute": "Modality", "equals": "CT"}, {"attribute": "Modality", "equals": "MR"}]},
        {"attribute": "SliceThickness", "range": [1]},
        {"attribute": "SliceThickness", "range": [1, 2, 3]},
        {"attribute": "Modality", "range": ["a", "b"]},
        {"any": [{"attribute": "Modality", "equals": "CT"}] * 1001},
        {3: 4, "x": 5},
        nested(9),
        nested(50_000),
    ],
)
def test_malformed_group_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(RuleError):
        rule_from_data(data)


def test_groups_of_the_greatest_depth_are_read() -> None:
    assert isinstance(rule_from_data(nested(8)), RuleGroup)
