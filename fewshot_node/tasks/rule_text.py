"""Routing rules as people type them; `parse_rule(str(rule)) == rule`."""

import csv
import re

from fewshot_node.errors import RuleError
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


def parse_rule(text: str) -> Rule:
    """Read a rule such as ``Modality=CT``; `fewshot_node.tasks.rules` lists all forms.

    A value of ``in`` that holds a comma or a quote stands in double quotes.

    Raises
    ------
    RuleError
        The text is no rule, or the rule cannot be evaluated.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise RuleError(
            f"{text!r} is no rule: write for example Modality=CT, BodyPartExamined~abdomen, "
            "number_of_slices>=20, SeriesDescription=~/^T2/, orientation in axial,coronal "
            "or ContrastBolusAgent absent"
        )
    attribute = match["attribute"]
    if match["presence"]:
        return Rule(attribute, Operator(match["presence"]))
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
