"""Declarative routing rules: which series a task takes.

A rule is data, one attribute and one operator; there is no expression language. All rules of a task
must hold. A task without rules takes no series by itself.

=============  =================================================  ==============================
operator       holds when                                         text form
=============  =================================================  ==============================
``equals``     a value is the same (numbers are compared as such) ``Modality=CT``
``any_of``     a value is one of the list                         ``orientation in axial,coronal``
``contains``   a value contains the text, whatever the case       ``BodyPartExamined~abdomen``
``regex``      the expression is found in a value                 ``SeriesDescription=~/^T2.*/``
               (`re.search`: anchor it to match the whole value;
               ``(?i)`` ignores case)
``minimum``    every value is a number >= the bound               ``number_of_slices>=20``
``maximum``    every value is a number <= the bound               ``SliceThickness<=5``
``present``    there is a value                                   ``ContrastBolusAgent present``
``absent``     there is none                                      ``ContrastBolusAgent absent``
=============  =================================================  ==============================

An attribute that is absent or empty satisfies ``absent`` only.
"""

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from fewshot_node.dicom.objects.headers import SeriesHeader
from fewshot_node.errors import RuleError
from fewshot_node.tasks.attributes import check_attribute, is_numeric, is_sequence, seen_values

_LONGEST_SEEN = 80


class Operator(StrEnum):
    """How a rule compares."""

    EQUALS = "equals"
    ANY_OF = "any_of"
    CONTAINS = "contains"
    REGEX = "regex"
    MINIMUM = "minimum"
    MAXIMUM = "maximum"
    PRESENT = "present"
    ABSENT = "absent"


_PRESENCE = frozenset({Operator.PRESENT, Operator.ABSENT})
_BOUNDS = frozenset({Operator.MINIMUM, Operator.MAXIMUM})
_COMPARISONS = frozenset({Operator.EQUALS, Operator.ANY_OF})
_SIGNS = {Operator.EQUALS: "=", Operator.CONTAINS: "~", Operator.MINIMUM: ">=", Operator.MAXIMUM: "<="}


@dataclass(frozen=True, slots=True)
class Rule:
    """One attribute, one operator and what it compares with.

    Attributes
    ----------
    attribute
        A keyword of PS3.6, or ``orientation``, ``number_of_slices``, ``sop_class`` (UID, name or
        keyword), ``calling_ae_title``.
    values
        Several for ``any_of``, none for ``present`` and ``absent``, else one.

    Raises
    ------
    RuleError
        The rule can never be evaluated; the message says what to write instead.
    """

    attribute: str
    operator: Operator
    values: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_attribute(self.attribute)
        self._check_count()
        for value in self.values:
            self._check_value(value)

    def __str__(self) -> str:
        if self.operator in _SIGNS:
            return f"{self.attribute}{_SIGNS[self.operator]}{self.values[0]}"
        if self.operator is Operator.REGEX:
            return f"{self.attribute}=~/{self.values[0]}/"
        if self.operator is Operator.ANY_OF:
            line = io.StringIO()
            csv.writer(line, lineterminator="").writerow(self.values)
            return f"{self.attribute} in {line.getvalue()}"
        return f"{self.attribute} {self.operator.value}"

    def holds(self, seen: tuple[str, ...]) -> bool:
        """Whether the values of a series satisfy the rule."""
        if self.operator in _PRESENCE:
            return bool(seen) == (self.operator is Operator.PRESENT)
        if self.operator in _BOUNDS:
            return bool(seen) and all(self._within(_number(value)) for value in seen)
        return any(self._matches(value) for value in seen)

    def _check_count(self) -> None:
        if is_sequence(self.attribute) and self.operator not in _PRESENCE:
            raise RuleError(f"{self.attribute} is a sequence: a rule can only ask whether it is present or absent")
        expected = {
            Operator.ANY_OF: "one or more values",
            Operator.PRESENT: "no value",
            Operator.ABSENT: "no value",
        }
        wanted = expected.get(self.operator, "one value")
        fits = {"no value": not self.values, "one value": len(self.values) == 1}.get(wanted, bool(self.values))
        if not fits:
            raise RuleError(f"rule on {self.attribute}: {self.operator} takes {wanted}, not {len(self.values)}")

    def _check_value(self, value: str) -> None:
        where = f"rule on {self.attribute}: {self.operator}"
        if not value or not value.isprintable():
            raise RuleError(f"{where} {value!r} is empty or not printable: give one line of text")
        if self.operator is Operator.REGEX:
            _check_regex(self.attribute, value)
            return
        if value != value.strip() or value[0] in "=~<>":
            raise RuleError(
                f"{where} {value!r} begins with one of = ~ < > or has spaces around it: "
                "the operators are = ~ =~/.../ >= <= in present absent"
            )
        if self.operator is Operator.CONTAINS and len(value) > 1 and value[0] == value[-1] == "/":
            raise RuleError(f"{where} {value!r} looks like a regular expression: write {self.attribute}=~{value}")
        self._check_number(value)

    def _check_number(self, value: str) -> None:
        numeric = is_numeric(self.attribute)
        if self.operator in _BOUNDS and not numeric:
            raise RuleError(f"{self.attribute} holds text, which has no {self.operator}: use = ~ =~/.../ or in")
        if numeric and self.operator in _BOUNDS | _COMPARISONS and _number(value) is None:
            raise RuleError(f"{self.attribute} holds numbers and {value!r} is none: give a number, for example 20")

    def _within(self, number: float | None) -> bool:
        bound = float(self.values[0])
        if number is None:
            return False
        return number >= bound if self.operator is Operator.MINIMUM else number <= bound

    def _matches(self, seen: str) -> bool:
        if self.operator is Operator.REGEX:
            return re.search(self.values[0], seen) is not None
        if self.operator is Operator.CONTAINS:
            return self.values[0].casefold() in seen.casefold()
        if is_numeric(self.attribute):
            return _number(seen) in {_number(value) for value in self.values}
        return seen in self.values


@dataclass(frozen=True, slots=True)
class RuleVerdict:
    """What one rule says about a series; `seen` is what the series states, None when it is silent."""

    rule: Rule
    seen: str | None
    holds: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """What all rules of a task say about a series."""

    rules: tuple[RuleVerdict, ...]

    @property
    def matches(self) -> bool:
        """Whether the task takes the series: there are rules and all of them hold."""
        return bool(self.rules) and all(verdict.holds for verdict in self.rules)


def evaluate(rules: Iterable[Rule], header: SeriesHeader, calling_ae_title: str | None = None) -> Verdict:
    """Ask every rule about a series.

    `calling_ae_title` is the sender's AE title; None when the series did not come over the network.
    """
    verdicts = []
    for rule in rules:
        seen = seen_values(rule.attribute, header, calling_ae_title)
        verdicts.append(RuleVerdict(rule, _shown(seen), rule.holds(seen)))
    return Verdict(tuple(verdicts))


def rule_to_data(rule: Rule) -> dict[str, Any]:
    """Return the rule as TOML and JSON know it: ``{"attribute": "Modality", "equals": "CT"}``."""
    value: Any
    if rule.operator in _PRESENCE:
        value = True
    elif rule.operator is Operator.ANY_OF:
        value = list(rule.values)
    else:
        value = rule.values[0]
    return {"attribute": rule.attribute, rule.operator.value: value}


def rule_from_data(data: Mapping[str, Any]) -> Rule:
    """Read what `rule_to_data` writes; numbers may stand for numeric text.

    Raises
    ------
    RuleError
        No attribute, not exactly one operator, or a rule that cannot be evaluated.
    """
    attribute = data.get("attribute")
    names = [key for key in data if key != "attribute"]
    if not isinstance(attribute, str) or len(names) != 1 or names[0] not in list(Operator):
        raise RuleError(
            f"a rule is one attribute and one operator, not the keys {sorted(data)}: "
            f"write attribute and one of {', '.join(Operator)}"
        )
    operator, value = Operator(names[0]), data[names[0]]
    if operator in _PRESENCE:
        if value is not True:
            raise RuleError(f"rule on {attribute}: {operator} takes true; for the opposite use the other of the two")
        return Rule(attribute, operator)
    many = value if isinstance(value, list | tuple) else [value]
    if any(isinstance(one, bool) or not isinstance(one, str | int | float) for one in many):
        raise RuleError(f"rule on {attribute}: {operator} takes text or a number, not {value!r}")
    return Rule(attribute, operator, tuple(str(one) for one in many))


def _check_regex(attribute: str, pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        place = f"{pattern}\n{' ' * (error.pos or 0)}^"
        message = f"rule on {attribute}: the regular expression is wrong at character {(error.pos or 0) + 1}"
        raise RuleError(f"{message} ({error.msg}): correct it\n{place}") from error


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _shown(seen: tuple[str, ...]) -> str | None:
    if not seen:
        return None
    text = "\\".join(seen)
    return text if len(text) <= _LONGEST_SEEN else text[: _LONGEST_SEEN - 3] + "..."
