"""Declarative routing rules: what a task asks of one attribute of a series.

A rule is data, one attribute and one operator; there is no expression language. `rule_groups` puts rules
together.

=============  =================================================  ==============================
operator       holds when                                         text form
=============  =================================================  ==============================
``equals``     a value is the same (numbers are compared as such) ``Modality=CT``
``any_of``     a value is one of the list                         ``orientation in axial,coronal``
``contains``   a value contains the text, whatever the case       ``BodyPartExamined~abdomen``
``regex``      the expression is found in a value                 ``SeriesDescription=~/^T2.*/``
               (anchor it to match the whole value; ``(?i)``
               ignores case)
``minimum``    every value is a number >= the bound               ``number_of_slices>=20``
``maximum``    every value is a number <= the bound               ``SliceThickness<=5``
``range``      every value is a number between the two bounds     ``SliceThickness in 0.5..3``
``present``    there is a value                                   ``ContrastBolusAgent present``
``absent``     there is none                                      ``ContrastBolusAgent absent``
=============  =================================================  ==============================

An attribute that is absent or empty satisfies ``absent`` only.
"""

import csv
import io
import math
from dataclasses import dataclass
from enum import StrEnum

from fewshot_node.errors import RuleError
from fewshot_node.tasks.attributes import check_attribute, is_numeric, is_sequence
from fewshot_node.tasks.patterns import check_pattern, is_found


class Operator(StrEnum):
    """How a rule compares."""

    EQUALS = "equals"
    ANY_OF = "any_of"
    CONTAINS = "contains"
    REGEX = "regex"
    MINIMUM = "minimum"
    MAXIMUM = "maximum"
    RANGE = "range"
    PRESENT = "present"
    ABSENT = "absent"


PRESENCE = frozenset({Operator.PRESENT, Operator.ABSENT})
_BOUNDS = frozenset({Operator.MINIMUM, Operator.MAXIMUM, Operator.RANGE})
_COMPARISONS = frozenset({Operator.EQUALS, Operator.ANY_OF})
_MOST_VALUES = 1000
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
        Several for ``any_of``, two for ``range``, none for ``present`` and ``absent``, else one.

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
        if self.operator is Operator.RANGE and float(self.values[0]) > float(self.values[1]):
            raise RuleError(f"rule on {self.attribute}: nothing lies in {'..'.join(self.values)}: swap the bounds")

    def __str__(self) -> str:
        if self.operator in _SIGNS:
            return f"{self.attribute}{_SIGNS[self.operator]}{self.values[0]}"
        if self.operator is Operator.REGEX:
            return f"{self.attribute}=~/{self.values[0]}/"
        if self.operator is Operator.ANY_OF:
            line = io.StringIO()
            csv.writer(line, lineterminator="").writerow(self.values)
            return f"{self.attribute} in {line.getvalue()}"
        if self.operator is Operator.RANGE:
            return f"{self.attribute} in {'..'.join(self.values)}"
        return f"{self.attribute} {self.operator.value}"

    def holds(self, seen: tuple[str, ...]) -> bool:
        """Whether the values of a series satisfy the rule.

        Raises
        ------
        RuleError
            A regular expression took too long.
        """
        if self.operator in PRESENCE:
            return bool(seen) == (self.operator is Operator.PRESENT)
        if self.operator in _BOUNDS:
            return bool(seen) and all(self._within(_number(value)) for value in seen)
        return any(self._matches(value) for value in seen)

    def _check_count(self) -> None:
        if is_sequence(self.attribute) and self.operator not in PRESENCE:
            raise RuleError(f"{self.attribute} is a sequence: a rule can only ask whether it is present or absent")
        expected = {
            Operator.ANY_OF: "one or more values",
            Operator.RANGE: "two numbers",
            Operator.PRESENT: "no value",
            Operator.ABSENT: "no value",
        }
        wanted = expected.get(self.operator, "one value")
        counts = {"no value": {0}, "one value": {1}, "two numbers": {2}}
        if len(self.values) not in counts.get(wanted, range(1, _MOST_VALUES + 1)):
            raise RuleError(f"rule on {self.attribute}: {self.operator} takes {wanted}, not {len(self.values)}")

    def _check_value(self, value: str) -> None:
        where = f"rule on {self.attribute}: {self.operator}"
        if not value or not value.isprintable():
            raise RuleError(f"{where} {value!r} is empty or not printable: give one line of text")
        if self.operator is Operator.REGEX:
            check_pattern(self.attribute, value)
            return
        if value != value.strip() or value[0] in "=~<>":
            raise RuleError(
                f"{where} {value!r} begins with one of = ~ < > or has spaces around it: "
                "the operators are = ~ =~/.../ >= <= in present absent; for the opposite write not(...)"
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
        if number is None:
            return False
        lower, upper = float(self.values[0]), float(self.values[-1])
        return (self.operator is Operator.MAXIMUM or number >= lower) and (
            self.operator is Operator.MINIMUM or number <= upper
        )

    def _matches(self, seen: str) -> bool:
        if self.operator is Operator.REGEX:
            return is_found(self.attribute, self.values[0], seen)
        if self.operator is Operator.CONTAINS:
            return self.values[0].casefold() in seen.casefold()
        if is_numeric(self.attribute):
            return _number(seen) in {_number(value) for value in self.values}
        return seen in self.values


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
