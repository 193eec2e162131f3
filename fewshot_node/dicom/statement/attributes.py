"""Tables of the attributes that an object always has."""

from collections.abc import Iterable

from pydicom.datadict import dictionary_description, tag_for_keyword
from pydicom.tag import Tag

from fewshot_node.dicom.objects.conformance import REQUIRED
from fewshot_node.dicom.statement.markdown import table


def always_present(sop_class: str, iod: str) -> tuple[str, str]:
    """Return the two paragraphs that open an object's section: class and IOD, then what is always there."""
    return f"{sop_class}, {iod} Always present besides:", attribute_table(REQUIRED[sop_class])


def attribute_table(keywords: Iterable[str]) -> str:
    """Return tags and names (PS3.6) of attributes."""
    return table(("Tag", "Attribute"), [_row(keyword) for keyword in keywords])


def _row(keyword: str) -> tuple[str, str]:
    tag = Tag(tag_for_keyword(keyword) or 0)
    return f"({tag.group:04X},{tag.element:04X})", dictionary_description(tag)
