"""Regular expressions of routing rules, bounded: one that runs away ends with an error, not with the worker.

Python's own `re` cannot be stopped. The `regex` library reads the same expressions and takes a time limit, so
that the guarantee is the limit at each search; what is tried when a rule is saved only finds most of them early.
"""

import re
from functools import lru_cache

import regex

from fewshot_node.errors import RuleError

LONGEST_PATTERN = 500
_SECONDS = 0.2
_PROBE_LENGTH = 64
"""Longest value of the usual text attributes (LO, PS3.5 6.2)."""
_NOWHERE = "\x01"
"""Follows each probe, so that an expression that must reach the end fails only there."""


def check_pattern(attribute: str, pattern: str) -> None:
    """Refuse an expression that is wrong, too long, or tries so many ways that it runs away.

    Raises
    ------
    RuleError
        The message shows the place, or says how to write it instead.
    """
    where = f"rule on {attribute}: the regular expression"
    if len(pattern) > LONGEST_PATTERN:
        raise RuleError(f"{where} has {len(pattern)} characters: use at most {LONGEST_PATTERN}, or several rules")
    try:
        re.compile(pattern)
        _compiled(pattern)
    except (re.error, regex.error, OverflowError, RecursionError) as error:
        place = getattr(error, "pos", None) or 0
        reason = getattr(error, "msg", type(error).__name__)
        message = f"{where} is wrong at character {place + 1} ({reason}): correct it"
        raise RuleError(f"{message}\n{pattern}\n{' ' * place}^") from error
    for probe in _probes(pattern):
        is_found(attribute, pattern, probe)


def is_found(attribute: str, pattern: str, text: str) -> bool:
    """Tell whether an expression is found in a value.

    Raises
    ------
    RuleError
        It took too long; that is no verdict.
    """
    try:
        return _compiled(pattern).search(text, timeout=_SECONDS) is not None
    except TimeoutError as error:
        raise RuleError(
            f"rule on {attribute}: the regular expression {pattern!r} tries too many ways and was stopped after "
            f"{_SECONDS:g} s: write it so that no text can be read in two ways, as (a|aa)+ can"
        ) from error


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> "regex.Pattern[str]":
    return regex.compile(pattern)


def _probes(pattern: str) -> list[str]:
    """Return values that the usual runaway expressions run away on: repetitions of what they speak of."""
    letters = "".join(dict.fromkeys(character for character in pattern if character.isalnum()))
    units = [*(letters or "a"), letters or "a", "a", "0", " ", "a "]
    return [(unit * _PROBE_LENGTH)[:_PROBE_LENGTH] + _NOWHERE for unit in dict.fromkeys(units)]
