"""Coded concepts for the labels that people name.

Names are looked up among the SNOMED CT concepts that PS3.16 lists, as pydicom carries them.
"""

import difflib
import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache

from pydicom.sr.codedict import codes

from fewshot_node.errors import AmbiguousLabelError, TaskError
from fewshot_node.records import Code, Label, TaskKind

SNOMED_CT = "SCT"
PRIVATE_SCHEME = "99FEWSHOT"
"""Coding scheme designator of concepts that this node makes up; "99" marks a private one (PS3.3 8.2)."""

ANATOMICAL_STRUCTURE = Code("91723000", SNOMED_CT, "Anatomical Structure")
"""This category and the two below are those of PS3.16 CID 7150."""
_BODY_STRUCTURE = Code("123037004", SNOMED_CT, "Anatomical Structure")
"""What earlier versions gave tasks in its place; PS3.16 has that code as "Body structure"."""
ABNORMAL_STRUCTURE = Code("49755003", SNOMED_CT, "Morphologically Abnormal Structure")
SPATIAL_CONCEPT = Code("309825002", SNOMED_CT, "Spatial and Relational Concept")
SIDES = {"left": Code("7771000", SNOMED_CT, "Left"), "right": Code("24028007", SNOMED_CT, "Right")}
"""Laterality (PS3.16 CID 244)."""

_CONTEXT_GROUPS = (("cid7151",), ("cid4", "cid7304", "cid8134"))
"""Of PS3.16, the first that knows a name wins: segmentation types, then regions and structures, then anything."""
_LESION_GROUP = "cid7159"
_SIDE = re.compile(r"\b(left|right)\s+|\s+(left|right)$|^(lt|rt)\s+|\s+(lt|rt|l|r)$")
"""In a folded name; one letter in front is left alone: an "L spine" is no left one."""
_SIDE_WORDS = {"left": "left", "l": "left", "lt": "left", "right": "right", "r": "right", "rt": "right"}
_LONGEST_VALUE = 16
_LONGEST_TEXT = 64
_SHOWN = 5


def resolve_label(value: int, name: str, code: str | None = None) -> Label:
    """Return the label for a structure that is segmented.

    Parameters
    ----------
    value
        Value in label maps, 1..254.
    name
        What people call it. Without a code it is looked up, whatever the case. A side is not part of the
        code: "Left kidney" gets the code of the kidney, Left as its laterality, and keeps its name.
    code
        ``SCHEME:VALUE:MEANING``, for example ``SCT:10200004:Liver``, instead of the look-up.

    Raises
    ------
    TaskError
        The name is unknown or stands for several concepts (they are listed), or the code is malformed.
    """
    type_ = _parse_code(code) if code is not None else _look_up(value, name)
    category = ABNORMAL_STRUCTURE if _is_lesion(type_) else ANATOMICAL_STRUCTURE
    return _label(value, name, category, type_)


def with_standard_category(label: Label) -> Label:
    """Return a label with the category of anatomy that CID 7150 has, where it has that of earlier versions."""
    return replace(label, category=ANATOMICAL_STRUCTURE) if label.category == _BODY_STRUCTURE else label


def resolve_landmark(value: int, name: str, code: str | None = None) -> Label:
    """Return the label for a point.

    Few landmarks have a code in PS3.16. Without `code`, and when the name is no known structure, the
    landmark gets a code of the private scheme ``99FEWSHOT`` that depends on its name alone.

    Raises
    ------
    TaskError
        The name stands for several concepts, or the code is malformed.
    """
    if code is not None:
        return _label(value, name, ANATOMICAL_STRUCTURE, _parse_code(code))
    if _find(name) or _find(_without_side(name)):
        return _label(value, name, ANATOMICAL_STRUCTURE, _look_up(value, name))
    return _label(value, name, SPATIAL_CONCEPT, Code(_private_value(name), PRIVATE_SCHEME, name.strip()))


def parse_label(text: str, kind: TaskKind = TaskKind.SEGMENTATION) -> Label:
    """Read ``VALUE=NAME`` or ``VALUE=NAME:SCHEME:CODE:MEANING``, and where it lies behind an ``@``.

    The place is a name or a code as well: ``3=Cyst@Left kidney``, ``3=Cyst@SCT:64033007:Kidney``. A structure that is
    anatomy itself needs none.

    Raises
    ------
    TaskError
        The text has another form, or a name or code cannot be resolved.
    """
    text, at, region = text.partition("@")
    label = _parse_structure(text, kind)
    return _placed(label, region.strip()) if at else label


def _parse_structure(text: str, kind: TaskKind) -> Label:
    value, equals, rest = text.partition("=")
    name, colon, code = rest.partition(":")
    if not equals or not value.strip().isascii() or not value.strip().isdigit():
        raise TaskError(f"label {text!r} is not VALUE=NAME: write for example 1=Liver or 1=Liver:SCT:10200004:Liver")
    resolve = resolve_landmark if kind is TaskKind.LANDMARKS else resolve_label
    return resolve(int(value), name.strip(), code if colon else None)


def _placed(label: Label, region: str) -> Label:
    found = (_parse_code(region),) if ":" in region else concepts_named(region)
    if len(found) != 1:
        near = found or _near(region)
        choice = f": {_listed(near)}" if near else ""
        raise TaskError(
            f"{region!r}, where label {label.value}={label.name} lies, is not one structure of PS3.16{choice}; give "
            f"one of its names or its code, for example {label.value}={label.name}@SCT:64033007:Kidney"
        )
    side = _side(region, found[0])
    return replace(label, anatomic_region=found[0], laterality=label.laterality or side)


def _label(value: int, name: str, category: Code, type_: Code) -> Label:
    if not 0 < value < 255:
        raise TaskError(f"label {name!r} has the value {value}: give one within 1..254 (0 is background)")
    # Segment Label (0062,0005) is an LO: 64 characters, no backslash (PS3.5 6.2).
    if not name.strip() or len(name) > _LONGEST_TEXT or "\\" in name or not name.isprintable():
        raise TaskError(f"label {value} is named {name!r}: give 1 to 64 printable characters without a backslash")
    return Label(value, name.strip(), category, type_, laterality=_side(name, type_))


def _side(name: str, type_: Code) -> Code | None:
    """Return the side that a name states and its code does not."""
    side = side_of(name, type_)
    return SIDES[side] if side else None


def _parse_code(text: str) -> Code:
    scheme, value, meaning = (*(part.strip() for part in text.split(":", 2)), "", "")[:3]
    short = all(0 < len(part) <= _LONGEST_VALUE for part in (scheme, value))
    if not short or not 0 < len(meaning) <= _LONGEST_TEXT or "\\" in text or not text.isprintable():
        raise TaskError(
            f"code {text!r} is not SCHEME:VALUE:MEANING (16, 16 and 64 characters at most): "
            "write for example SCT:10200004:Liver"
        )
    return Code(value, scheme, meaning)


def _look_up(value: int, name: str) -> Code:
    found = _find(name) or _find(_without_side(name))
    if len(found) == 1:
        return found[0]
    near = found or _near(name) or (Code("10200004", SNOMED_CT, "Liver"),)
    example = f"{value}={name}:{near[0].scheme}:{near[0].value}:{near[0].meaning}"
    if found:
        message = f"{name!r} stands for several concepts ({_listed(found)}): choose one, as in {example}"
        raise AmbiguousLabelError(message, value, name, found)
    candidates = _near(name)
    known = f"the nearest are {_listed(candidates)}" if candidates else "nothing similar is known"
    message = f"{name!r} is no structure of PS3.16; {known}: name one of them, or its code as in {example}"
    raise AmbiguousLabelError(message, value, name, candidates)


def concepts_named(name: str) -> tuple[Code, ...]:
    """Return the concepts that a name of somebody else's may stand for, its side aside; none is no error."""
    return _find(name) or _find(_without_side(name))


def side_of(name: str, type_: Code | None = None) -> str:
    """Return ``left`` or ``right`` where a name states a side that its code does not; else an empty text."""
    stated = _SIDE.search(folded(name))
    if stated is None:
        return ""
    side = _SIDE_WORDS[next(filter(None, stated.groups()))]
    return "" if type_ is not None and side in folded(type_.meaning).split() else side


def _find(name: str) -> tuple[Code, ...]:
    """Look a name up as it stands, then with its words in any order."""
    for key in (folded, _in_any_order):
        for meanings in _dictionaries(key):
            found = meanings.get(key(name))
            if found:
                return found
    return ()


def _near(name: str) -> tuple[Code, ...]:
    known: dict[str, tuple[Code, ...]] = {}
    for meanings in reversed(_dictionaries(folded)[:-1]):
        known.update(meanings)
    wanted = folded(name)
    close = difflib.get_close_matches(wanted, known, n=_SHOWN, cutoff=0.7)
    holding = sorted((meaning for meaning in known if wanted and wanted in meaning), key=len)
    held = sorted((meaning for meaning in known if set(meaning.split()) <= set(wanted.split())), key=len, reverse=True)
    keys = tuple(dict.fromkeys((*close, *holding, *held)))[:_SHOWN]
    return tuple(code for key in keys for code in known[key])[:_SHOWN]


def _listed(found: tuple[Code, ...]) -> str:
    return ", ".join(f"{code.value} {code.meaning}" for code in found)


@cache
def _dictionaries(key: Callable[[str], str]) -> tuple[dict[str, tuple[Code, ...]], ...]:
    """One dictionary a tier: meaning, written as `key` does -> concepts; the last tier is all of SNOMED CT here."""
    tiers = [_by_meaning([code for group in groups for code in _group(group)], key) for groups in _CONTEXT_GROUPS]
    return (*tiers, _by_meaning(_snomed().values(), key))


def _by_meaning(concepts: Iterable[Code], key: Callable[[str], str]) -> dict[str, tuple[Code, ...]]:
    meanings: dict[str, dict[str, Code]] = {}
    for code in concepts:
        meanings.setdefault(key(code.meaning), {})[code.value] = code
    return {meaning: tuple(found.values()) for meaning, found in meanings.items()}


@cache
def _group(name: str) -> tuple[Code, ...]:
    """SNOMED CT concepts of a context group; groups that several schemes share cannot be read directly."""
    known = _snomed()
    return tuple(known[keyword] for keyword in getattr(codes, name).dir() if keyword in known)


@cache
def _snomed() -> dict[str, Code]:
    concepts = codes.SCT.concepts.items()
    return {keyword: Code(code.value, SNOMED_CT, code.meaning) for keyword, code in concepts}


def _is_lesion(code: Code) -> bool:
    if code.scheme != SNOMED_CT:
        return False
    return any(lesion.value == code.value for lesion in _group(_LESION_GROUP) if lesion.meaning != "Normal")


def folded(name: str) -> str:
    """Return a name without the differences that people do not mean: case, hyphens, underscores, spaces."""
    return " ".join(name.casefold().replace("-", " ").replace("_", " ").split())


def _in_any_order(name: str) -> str:
    return " ".join(sorted(folded(name).replace(",", " ").split()))


def _without_side(name: str) -> str:
    return _SIDE.sub("", folded(name), count=1)


def _private_value(name: str) -> str:
    slug = re.sub(r"[^A-Z0-9]+", "-", name.strip().upper()).strip("-")
    if slug and len(slug) <= _LONGEST_VALUE and slug == name.strip().upper():
        return slug
    # Other names must not fall onto one code, so what the slug lost comes back as a digest.
    digest = hashlib.sha256(name.strip().casefold().encode()).hexdigest()[:6].upper()
    return f"{slug[: _LONGEST_VALUE - 7]}-{digest}".lstrip("-")
