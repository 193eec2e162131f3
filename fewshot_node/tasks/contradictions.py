"""Rules that can never all hold, whatever a series says."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from pydicom.datadict import dictionary_VM

from fewshot_node.tasks.attributes import PSEUDO_ATTRIBUTES
from fewshot_node.tasks.rule_groups import AnyRule, GroupKind
from fewshot_node.tasks.rules import Operator, Rule

_NAMED = frozenset({Operator.EQUALS, Operator.ANY_OF})
_BOUNDS = frozenset({Operator.MINIMUM, Operator.MAXIMUM, Operator.RANGE})
# A series states several of these at once (UID, name and keyword of a SOP class).
_SEVERAL_VALUES = frozenset({"sop_class"})


def contradiction(rules: Iterable[AnyRule]) -> str:
    """Say which rules of a task exclude each other; empty where none are known to.

    Only what is certain is told: rules that must all hold, on an attribute of one value (PS3.6). ``any`` and
    ``not`` are not looked into.
    """
    plain = sorted(_needed(rules), key=lambda rule: rule.attribute)
    for attribute, group in groupby(plain, key=lambda rule: rule.attribute):
        own = list(group)
        if _exclude_each_other(attribute, own):
            return f"{' and '.join(str(rule) for rule in own)} can never hold together"
    return ""


def _needed(rules: Iterable[AnyRule]) -> Iterator[Rule]:
    """Yield the rules that must hold, those within ``all(...)`` too."""
    for rule in rules:
        if isinstance(rule, Rule):
            yield rule
        elif rule.kind is GroupKind.ALL:
            yield from _needed(rule.rules)


def _exclude_each_other(attribute: str, rules: Sequence[Rule]) -> bool:
    operators = {rule.operator for rule in rules}
    if Operator.ABSENT in operators:
        return len(operators) > 1
    if not _has_one_value(attribute):
        return False
    named = [rule for rule in rules if rule.operator in _NAMED]
    bounds = [rule for rule in rules if rule.operator in _BOUNDS]
    # Where rules can hold at all, one of the values that they name, or an end of their ranges, satisfies them.
    asked = rules if named else bounds
    witnesses = [value for rule in named or bounds for value in rule.values]
    return bool(witnesses) and not any(all(rule.holds((value,)) for rule in asked) for value in witnesses)


def _has_one_value(attribute: str) -> bool:
    if attribute in PSEUDO_ATTRIBUTES:
        return attribute not in _SEVERAL_VALUES
    return dictionary_VM(attribute) == "1"
