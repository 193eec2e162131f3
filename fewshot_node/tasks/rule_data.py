"""Routing rules as TOML and JSON know them."""

from collections.abc import Mapping
from typing import Any

from fewshot_node.errors import RuleError
from fewshot_node.tasks.rule_groups import DEEPEST, AnyRule, GroupKind, RuleGroup
from fewshot_node.tasks.rules import PRESENCE, Operator, Rule

_MANY = frozenset({Operator.ANY_OF, Operator.RANGE})


def rule_to_data(rule: AnyRule) -> dict[str, Any]:
    """Return a rule as data: ``{"attribute": "Modality", "equals": "CT"}``, ``{"any": [...]}``, ``{"not": {...}}``."""
    if isinstance(rule, RuleGroup):
        parts = [rule_to_data(part) for part in rule.rules]
        return {rule.kind.value: parts[0] if rule.kind is GroupKind.NOT else parts}
    value: Any
    if rule.operator in PRESENCE:
        value = True
    elif rule.operator in _MANY:
        value = list(rule.values)
    else:
        value = rule.values[0]
    return {"attribute": rule.attribute, rule.operator.value: value}


def rule_from_data(data: object, depth: int = 0) -> AnyRule:
    """Read what `rule_to_data` writes; numbers may stand for numeric text.

    Raises
    ------
    RuleError
        No attribute, not exactly one operator, or a rule that cannot be evaluated.
    """
    if not isinstance(data, Mapping) or depth > DEEPEST:
        raise RuleError(
            f"a rule is a table, and groups stand at most {DEEPEST} deep: write attribute and an operator, or a group"
        )
    names = list(data)
    if len(names) == 1 and names[0] in list(GroupKind):
        return _group(GroupKind(names[0]), data[names[0]], depth)
    return _plain(data)


def _group(kind: GroupKind, parts: object, depth: int) -> RuleGroup:
    many = parts if isinstance(parts, list | tuple) else [parts]
    return RuleGroup(kind, tuple(rule_from_data(part, depth + 1) for part in many))


def _plain(data: Mapping[Any, Any]) -> Rule:
    attribute = data.get("attribute")
    names = [key for key in data if key != "attribute"]
    if not isinstance(attribute, str) or len(names) != 1 or names[0] not in list(Operator):
        raise RuleError(
            f"a rule is one attribute and one operator, not the keys {sorted(map(str, data))}: "
            f"write attribute and one of {', '.join(Operator)}, or a group {', '.join(GroupKind)}"
        )
    operator, value = Operator(names[0]), data[names[0]]
    if operator in PRESENCE:
        if value is not True:
            raise RuleError(f"rule on {attribute}: {operator} takes true; for the opposite use the other of the two")
        return Rule(attribute, operator)
    many = value if isinstance(value, list | tuple) else [value]
    if any(isinstance(one, bool) or not isinstance(one, str | int | float) for one in many):
        raise RuleError(f"rule on {attribute}: {operator} takes text or a number, not {value!r}")
    return Rule(attribute, operator, tuple(str(one) for one in many))
