"""Regular expressions that run away are found when they are saved, and stopped when they are not found."""

import pytest

from fewshot_node.errors import RuleError
from fewshot_node.tasks.patterns import LONGEST_PATTERN, check_pattern, is_found
from fewshot_node.tasks.rule_text import parse_rule


@pytest.mark.parametrize("pattern", [r"(a|aa)+$", r"^(ab|a|b)+$", r"^(\s|\s\s)*$", r"(?i)^(x|xx|y)+$"])
def test_an_expression_that_runs_away_is_refused_when_it_is_saved(pattern: str) -> None:
    with pytest.raises(RuleError, match="tries too many ways"):
        parse_rule(f"not(SeriesDescription=~/{pattern}/)")


@pytest.mark.parametrize(
    ("pattern", "value"),
    [
        (r"^(a+)+$", "a" * 64 + "!"),
        (r"(.*a)*x", "a" * 64),
        (r"^(\w+\s?)*$", "a b " * 16 + "!"),
        (r"(\d+)*!", "1" * 64),
        (r"^(([a-z])+.)+[A-Z]([a-z])+$", "a" * 64),
    ],
)
def test_what_runs_away_in_python_does_not_here(pattern: str, value: str) -> None:
    check_pattern("SeriesDescription", pattern)
    assert not is_found("SeriesDescription", pattern, value)


@pytest.mark.parametrize(
    "pattern", [r"^T2.*TSE", r"(?i)axial|ax\b", r"^\s*\d{1,2} mm$", r"(?=.*portal)(?!.*scout)", r"^(thin|thick) .*$"]
)
def test_usual_expressions_are_taken(pattern: str) -> None:
    check_pattern("SeriesDescription", pattern)


def test_one_that_was_not_found_is_stopped_on_the_value_that_it_runs_away_on() -> None:
    pattern = r"^(\$|\$\$)+$"
    check_pattern("SeriesDescription", pattern)
    with pytest.raises(RuleError, match=r"SeriesDescription.*stopped after 0\.2 s"):
        is_found("SeriesDescription", pattern, "$" * 64 + "?")


def test_an_expression_of_any_length_is_not_taken() -> None:
    with pytest.raises(RuleError, match="at most 500"):
        check_pattern("SeriesDescription", "a" * (LONGEST_PATTERN + 1))


def test_brackets_without_end_are_wrong_at_their_place() -> None:
    with pytest.raises(RuleError, match="wrong at character"):
        check_pattern("SeriesDescription", "(" * 400)
