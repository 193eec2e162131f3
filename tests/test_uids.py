"""UIDs: valid, repeatable, and never shared by different content."""

import re
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from fewshot_node.uids import ResultUids, derive_uid, digest_parts, fallback_frame_of_reference

UIDS = ResultUids(
    source_instance_uids=("1.2.3.2", "1.2.3.1"),
    source_digest="pixels",
    task_name="liver",
    task_digest="task",
    weights_digest="weights",
    code_version="1",
)


def all_roles(uids: ResultUids) -> list[str]:
    return [
        uids.segmentation_series(),
        uids.segmentation_instance("content"),
        uids.report_series(),
        uids.report_instance("content"),
        uids.tracking("Liver"),
        uids.dimension_organization(),
    ]


@given(st.text(), st.lists(st.text(), max_size=4))
def test_every_uid_is_a_uid(role: str, parts: list[str]) -> None:
    uid = derive_uid(role, *parts)
    assert re.fullmatch(r"2\.25\.(0|[1-9][0-9]*)", uid)
    assert len(uid) <= 64
    assert int(uid.removeprefix("2.25.")) < 2**128


def test_a_known_uid_never_changes() -> None:
    """Computed by hand from RFC 9562: a change here would give every result of every site a new UID."""
    import uuid

    namespace = uuid.uuid5(uuid.NAMESPACE_URL, "https://fewshot-node.invalid/uids/1")
    assert derive_uid("role", "ab", "c") == f"2.25.{uuid.uuid5(namespace, '4:role2:ab1:c').int}"


def test_roles_differ() -> None:
    assert len(set(all_roles(UIDS))) == len(all_roles(UIDS))


def test_the_order_of_the_sources_does_not_matter() -> None:
    assert all_roles(replace(UIDS, source_instance_uids=("1.2.3.1", "1.2.3.2"))) == all_roles(UIDS)


def test_every_input_matters() -> None:
    for change in (
        {"source_instance_uids": ("1.2.3.1",)},
        {"source_digest": "other"},
        {"task_name": "other"},
        {"task_digest": "other"},
        {"weights_digest": "other"},
        {"code_version": "2"},
    ):
        assert not set(all_roles(replace(UIDS, **change))) & set(all_roles(UIDS)), change


def test_other_content_has_another_instance_uid_in_the_same_series() -> None:
    assert UIDS.segmentation_instance("a") != UIDS.segmentation_instance("b")
    assert UIDS.report_instance("a") != UIDS.report_instance("b")


def test_parts_are_not_run_together() -> None:
    assert derive_uid("r", "ab", "c") != derive_uid("r", "a", "bc")
    assert digest_parts([b"ab", b"c"]) != digest_parts([b"a", b"bc"])


def test_two_series_without_a_frame_of_reference_do_not_share_one() -> None:
    assert fallback_frame_of_reference("1.2.3") != fallback_frame_of_reference("1.2.4")
