import pytest
from pydicom.sr.codedict import codes

from fewshot_node.errors import AmbiguousLabelError, TaskError
from fewshot_node.records import Code, TaskKind
from fewshot_node.tasks.codes import parse_label, resolve_label, resolve_landmark, side_of


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Liver", "10200004"),
        ("liver", "10200004"),
        ("SPLEEN", "78961009"),
        ("Kidney", "64033007"),
        ("left ventricle", "87878005"),
        ("optic_nerve", "18234004"),
        ("Optic chiasm", "244453006"),
        ("Fat", "55603005"),
        ("Tibia", "12611008"),
    ],
)
def test_name_finds_its_snomed_code(name: str, value: str) -> None:
    label = resolve_label(1, name)
    assert (label.type.value, label.type.scheme, label.name) == (value, "SCT", name)
    assert label.category == Code("91723000", "SCT", "Anatomical Structure")


def test_side_stays_in_the_name() -> None:
    assert resolve_label(3, "Left kidney").type == resolve_label(4, "kidney_right").type
    assert resolve_label(3, "Left kidney").name == "Left kidney"
    assert resolve_label(3, "Left kidney").laterality == Code("7771000", "SCT", "Left")
    assert resolve_label(4, "kidney_right").laterality == Code("24028007", "SCT", "Right")


@pytest.mark.parametrize("name", ["Liver", "left ventricle", "cleft palate:SCT:1:Cleft palate"])
def test_a_side_is_stated_once_or_not_at_all(name: str) -> None:
    assert parse_label(f"1={name}").laterality is None


def test_lesion_has_the_category_of_lesions() -> None:
    assert resolve_label(2, "Neoplasm").category.value == "49755003"


def test_unknown_name_lists_near_ones_and_the_explicit_form() -> None:
    with pytest.raises(TaskError) as caught:
        resolve_label(1, "Livver")
    assert "10200004 Liver" in str(caught.value)
    assert "1=Livver:SCT:" in str(caught.value)


def test_nonsense_name_is_refused() -> None:
    with pytest.raises(TaskError, match="nothing similar"):
        resolve_label(1, "qqqqzzzz")


def test_ambiguous_name_lists_its_concepts() -> None:
    with pytest.raises(TaskError) as caught:
        resolve_label(1, "Radius bone thing")
    assert "Radius" in str(caught.value)
    with pytest.raises(TaskError) as caught:
        resolve_label(1, "Backrest")
    assert {"468115008", "20406008"} <= set(str(caught.value).replace(":", " ").split())


def test_explicit_code_wins() -> None:
    label = parse_label("7=My Liver:SCT:10200004:Liver")
    assert (label.value, label.name, label.type) == (7, "My Liver", Code("10200004", "SCT", "Liver"))


@pytest.mark.parametrize(
    "text",
    [
        "Liver",
        "x=Liver",
        "0=Liver",
        "255=Liver",
        "-1=Liver",
        "²=Liver",
        "1=",
        "1=Liver:SCT",
        "1=Liver:SCT:10200004",
        "1=Liver:SCT::Liver",
        "1=Liver:SCT:12345678901234567:Liver",
        "1=Li\\ver:SCT:10200004:Liver",
        "1=" + "L" * 65 + ":SCT:10200004:Liver",
        "1=Liver:SCT:10200004:" + "L" * 65,
    ],
)
def test_malformed_label_is_refused(text: str) -> None:
    with pytest.raises(TaskError):
        parse_label(text)


def test_landmark_without_code_gets_a_private_one() -> None:
    label = parse_label("1=KPB", TaskKind.LANDMARKS)
    assert label.type == Code("KPB", "99FEWSHOT", "KPB")


def test_private_codes_fit_an_sh_and_differ() -> None:
    names = ["medial tibial plateau point", "medial tibial plateau Point 2", "ä", "KPB", "kpb 2", "膝"]
    values = [resolve_landmark(1, name).type.value for name in names]
    assert len(set(values)) == len(names)
    assert all(0 < len(value) <= 16 and value.isascii() for value in values)


def test_private_code_depends_on_the_name_alone() -> None:
    assert resolve_landmark(1, "WICA left").type == resolve_landmark(9, "WICA left").type


def test_known_landmark_keeps_its_snomed_code() -> None:
    assert resolve_landmark(1, "Left eye").type.value == "81745001"
    assert resolve_landmark(1, "x", "SCT:18234004:optic nerve").type.scheme == "SCT"


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("Left kidney", "left"),
        ("kidney_R", "right"),
        ("Kidney-left", "left"),
        ("L spine", ""),
        ("Liver", ""),
        ("rt lung", "right"),
    ],
)
def test_sides_are_read_off_names(name: str, side: str) -> None:
    assert side_of(name) == side


def test_words_may_stand_in_any_order() -> None:
    assert resolve_label(1, "Vertebra L3").type == resolve_label(1, "L3 vertebra").type


def test_an_unknown_name_carries_its_candidates() -> None:
    with pytest.raises(AmbiguousLabelError) as caught:
        resolve_label(7, "Urinary bladder")
    assert (caught.value.value, caught.value.name) == (7, "Urinary bladder")
    assert "89837001" in {code.value for code in caught.value.candidates}


@pytest.mark.parametrize("region", ["Left kidney", "left_kidney", "SCT:64033007:Kidney"])
def test_a_lesion_lies_where_its_label_says(region: str) -> None:
    label = parse_label(f"3=Cyst@{region}")
    assert (label.name, label.category.value) == ("Cyst", "49755003")
    assert label.anatomic_region == Code("64033007", "SCT", "Kidney")
    assert (label.laterality is None) == (":" in region)


def test_the_side_of_the_name_counts_before_that_of_the_region() -> None:
    label = parse_label("3=Right cyst:SCT:12494005:Cyst@Kidney")
    assert label.laterality is not None
    assert label.laterality.meaning == "Right"


@pytest.mark.parametrize("region", ["", "Kindey", "Nowhere at all"])
def test_an_unknown_region_is_named_with_the_way_out(region: str) -> None:
    with pytest.raises(TaskError, match=r"where label 3=Cyst lies, is not one structure.*3=Cyst@SCT:64033007:Kidney"):
        parse_label(f"3=Cyst@{region}")


def test_categories_are_those_of_the_standard() -> None:
    """PS3.16 CID 7150, as pydicom carries it."""
    given = {label.category for label in (parse_label("1=Liver"), parse_label("2=Cyst"))}
    given.add(resolve_landmark(3, "Tip of the needle").category)
    concepts = (getattr(codes.cid7150, name) for name in dir(codes.cid7150) if name[0].isupper())
    listed = {Code(one.value, one.scheme_designator, one.meaning) for one in concepts}
    assert len(given) == 3
    assert given <= listed
