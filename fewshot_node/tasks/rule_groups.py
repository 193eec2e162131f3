"""Rules put together: ``all(...)``, ``any(...)`` and ``not(...)``, and what they say about a series.

All rules of a task must hold. A task without rules takes no series by itself. ``not`` turns a verdict round, so
that ``not(SeriesDescription~scout)`` also holds where there is no description.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from fewshot_node.errors import RuleError
from fewshot_node.tasks.attributes import SeriesFacts
from fewshot_node.tasks.rules import Operator, Rule

DEEPEST = 8
"""How deep groups may stand in groups."""
_MOST_RULES = 1000
_LONGEST_SEEN = 80
_SPECIAL = frozenset(',()"')


class GroupKind(StrEnum):
    """How the rules of a group are put together."""

    ALL = "all"
    ANY = "any"
    NOT = "not"


@dataclass(frozen=True, slots=True)
class RuleGroup:
    """Several rules as one.

    Attributes
    ----------
    rules
        One for ``not``; at least one for the others.

    Raises
    ------
    RuleError
        There are too few or too many rules in it, or groups stand in groups too deeply.
    """

    kind: GroupKind
    rules: tuple["AnyRule", ...]

    def __post_init__(self) -> None:
        if not self.rules or (self.kind is GroupKind.NOT and len(self.rules) > 1):
            wanted = "one rule; for several write not(any(...))" if self.kind is GroupKind.NOT else "at least one rule"
            raise RuleError(f"{self.kind}(...) takes {wanted}, not {len(self.rules)}")
        if self.depth > DEEPEST:
            raise RuleError(f"groups stand in groups more than {DEEPEST} deep: write the rules more simply")
        if len(self.rules) > _MOST_RULES:
            raise RuleError(f"{self.kind}(...) holds {len(self.rules)} rules: give at most {_MOST_RULES}")

    def __str__(self) -> str:
        return f"{self.kind}({', '.join(map(_inside, self.rules))})"

    @property
    def depth(self) -> int:
        """1 for a group of plain rules, and one more for each group around them."""
        return 1 + max(rule.depth if isinstance(rule, RuleGroup) else 0 for rule in self.rules)


AnyRule = Rule | RuleGroup


@dataclass(frozen=True, slots=True)
class RuleVerdict:
    """What one rule says about a series.

    Attributes
    ----------
    seen
        What the series states; None when it is silent, and for a group.
    parts
        The verdicts of a group's rules.
    """

    rule: AnyRule
    seen: str | None
    holds: bool
    parts: tuple["RuleVerdict", ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What all rules of a task say about a series."""

    rules: tuple[RuleVerdict, ...]

    @property
    def matches(self) -> bool:
        """Whether the task takes the series: there are rules and all of them hold."""
        return bool(self.rules) and all(verdict.holds for verdict in self.rules)


def takes(rules: Sequence[AnyRule], facts: SeriesFacts) -> bool:
    """Whether all rules hold for a series; no rule is asked that cannot change the answer.

    Raises
    ------
    RuleError
        A regular expression took too long: there is no verdict.
    """
    return bool(rules) and all(_holds(rule, facts) for rule in rules)


def evaluate(rules: Iterable[AnyRule], facts: SeriesFacts) -> Verdict:
    """Ask every rule about a series.

    Raises
    ------
    RuleError
        A regular expression took too long: there is no verdict.
    """
    return Verdict(tuple(_verdict(rule, facts) for rule in rules))


def plain_rules(rules: Iterable[AnyRule]) -> Iterator[Rule]:
    """Yield the rules on attributes, those in groups too."""
    for rule in rules:
        if isinstance(rule, Rule):
            yield rule
        else:
            yield from plain_rules(rule.rules)


def _holds(rule: AnyRule, facts: SeriesFacts) -> bool:
    if isinstance(rule, Rule):
        return rule.holds(facts.seen(rule.attribute))
    return _together(rule.kind, (_holds(part, facts) for part in rule.rules))


def _verdict(rule: AnyRule, facts: SeriesFacts) -> RuleVerdict:
    if isinstance(rule, Rule):
        seen = facts.seen(rule.attribute)
        return RuleVerdict(rule, _shown(seen), rule.holds(seen))
    parts = tuple(_verdict(part, facts) for part in rule.rules)
    return RuleVerdict(rule, None, _together(rule.kind, (part.holds for part in parts)), parts)


def _together(kind: GroupKind, verdicts: Iterable[bool]) -> bool:
    if kind is GroupKind.ANY:
        return any(verdicts)
    return all(verdicts) is (kind is GroupKind.ALL)


def _inside(rule: AnyRule) -> str:
    """Return a rule as it stands in a group: in double quotes where it would be mistaken for several."""
    text = str(rule)
    if isinstance(rule, RuleGroup):
        return text
    slashes = 2 if rule.operator is Operator.REGEX else 0
    if _SPECIAL.isdisjoint(text) and text.count("/") == slashes:
        return text
    return '"' + text.replace('"', '""') + '"'


def _shown(seen: tuple[str, ...]) -> str | None:
    if not seen:
        return None
    text = "\\".join(seen)
    return text if len(text) <= _LONGEST_SEEN else text[: _LONGEST_SEEN - 3] + "..."
