"""Routing rules as people type them; `parse_rule(str(rule)) == rule`."""

import csv
import re

from fewshot_node.errors import RuleError
from fewshot_node.tasks.attributes import check_attribute, is_numeric
from fewshot_node.tasks.rule_groups import DEEPEST, AnyRule, GroupKind, RuleGroup
from fewshot_node.tasks.rules import Operator, Rule

_FORM = re.compile(
    r"\s*(?P<attribute>\w+)\s*"
    r"(?:=~\s*/(?P<regex>.*)/"
    r"|>=(?P<minimum>.*)"
    r"|<=(?P<maximum>.*)"
    r"|=(?!~)(?P<equals>.*)"
    r"|~(?P<contains>.*)"
    r"|(?<=\s)in\s+(?P<any_of>.*)"
    r"|(?<=\s)(?P<presence>present|absent))\s*",
    re.DOTALL,
)
_RANGE = re.compile(r"\s*(\S+?)\s*\.\.\s*(\S+)\s*")
_GROUP = re.compile(r"\s*(?P<kind>all|any|not)\s*\((?P<inside>.*)\)\s*", re.DOTALL)
_QUOTED = re.compile(r'"(?P<text>(?:[^"]|"")*)"')
# A quoted rule, a regular expression up to the slash that ends its rule, a sign that divides, or anything else.
_PIECE = re.compile(r'"(?:[^"]|"")*"|=~\s*/.*?/(?=\s*(?:[,)]|$))|[(),]|[^"(),=]+|.', re.DOTALL)


def parse_rule(text: str, depth: int = 0) -> AnyRule:
    """Read a rule such as ``Modality=CT`` or a group such as ``any(Modality=CT, Modality=PT)``.

    `fewshot_node.tasks.rules` lists all forms. A value of ``in`` that holds a comma or a quote stands in double
    quotes; so does, in a group, a whole rule that holds a comma, a bracket or a quote.

    Raises
    ------
    RuleError
        The text is no rule, or the rule cannot be evaluated.
    """
    group = _GROUP.fullmatch(text)
    if group is None:
        return _plain(text)
    if depth >= DEEPEST:
        raise RuleError(f"groups stand in groups more than {DEEPEST} deep: write the rules more simply")
    kind = GroupKind(group["kind"])
    parts = _divided(group["inside"], text)
    if kind is GroupKind.NOT and _continues_list(parts):
        parts = [group["inside"]]
    return RuleGroup(kind, tuple(_part(part, text, depth) for part in parts))


def _part(text: str, group: str, depth: int) -> AnyRule:
    quoted = _QUOTED.fullmatch(text.strip())
    if quoted is not None:
        return parse_rule(quoted["text"].replace('""', '"'), depth + 1)
    try:
        return parse_rule(text, depth + 1)
    except RuleError as error:
        if _GROUP.fullmatch(text) or _FORM.fullmatch(text):
            raise
        message = f"{text.strip()!r} in {group!r} is no rule: a rule that holds a comma or a bracket stands in quotes"
        raise RuleError(f'{message}, for example any("orientation in axial,coronal", Modality=CT)') from error


def _plain(text: str) -> Rule:
    match = _FORM.fullmatch(text)
    if match is None:
        raise RuleError(
            f"{text!r} is no rule: write for example Modality=CT, BodyPartExamined~abdomen, "
            "number_of_slices>=20, SliceThickness in 0.5..3, SeriesDescription=~/^T2/, orientation in axial,coronal, "
            "ContrastBolusAgent absent, any(Modality=CT, Modality=PT) or not(SeriesDescription~scout)"
        )
    attribute = match["attribute"]
    if match["presence"]:
        return Rule(attribute, Operator(match["presence"]))
    bounds = _RANGE.fullmatch(match["any_of"] or "")
    if bounds is not None:
        check_attribute(attribute)
        if is_numeric(attribute):
            return Rule(attribute, Operator.RANGE, bounds.groups())
    operator = next(operator for operator in Operator if match.groupdict().get(operator) is not None)
    return Rule(attribute, operator, _values(operator, match[operator.value]))


def _values(operator: Operator, text: str) -> tuple[str, ...]:
    if operator is Operator.REGEX:
        return (text,)
    if operator is not Operator.ANY_OF:
        return (text.strip(),)
    try:
        rows = list(csv.reader([text], skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise RuleError(f'the list {text!r} cannot be read ({error}): write a,b or "a, b",c') from error
    return tuple(value.strip() for value in rows[0]) if rows else ()


def _divided(inside: str, group: str) -> list[str]:
    """Divide what stands in a group at the commas that are in no quotes, brackets or regular expression."""
    parts, depth = [""], 0
    for piece in _PIECE.findall(inside):
        depth += {"(": 1, ")": -1}.get(piece, 0)
        if depth < 0:
            break
        if piece == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += piece
    if depth:
        raise RuleError(f"{group!r}: the brackets do not match: close each that is opened, or put the rule in quotes")
    return parts


def _continues_list(parts: list[str]) -> bool:
    """Whether the first part begins a list of values and none of the others is a rule: one rule altogether."""
    first = _FORM.fullmatch(parts[0])
    return first is not None and first["any_of"] is not None and not any(map(_looks_like_rule, parts[1:]))


def _looks_like_rule(text: str) -> bool:
    return any(form.fullmatch(text.strip()) for form in (_GROUP, _FORM, _QUOTED))
