"""What one fit of a crossvalidation gave, and a folder in which such fits wait for the rest.

A crossvalidation takes minutes. One that was interrupted goes on from the fits in its folder; they are found by a
digest of all that decides them, so that none is taken for another.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from fewshot_node.disk import whole_folder
from fewshot_node.errors import TaskError
from fewshot_node.scoring.statistics import CaseScore
from fewshot_node.tasks.crossval.answers import LeftOutAnswer, load_answers, save_answers
from fewshot_node.tasks.crossval.records import Candidate
from fewshot_node.tasks.storage import read_json, write_json

_FILE = "outcome.json"


@dataclass(slots=True, eq=False)
class Outcome:
    """Scores and answers of one fit's candidates; answers by the unit's and the example's names."""

    fit_s: float = 0.0
    scores: dict[Candidate, list[CaseScore]] = field(default_factory=dict)
    answers: dict[Candidate, dict[tuple[str, str], LeftOutAnswer]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Document:
    fit_s: float
    scores: tuple[tuple[Candidate, tuple[CaseScore, ...]], ...]


_DOCUMENT = TypeAdapter(_Document)


def shelved(folder: Path, make: Callable[[], Outcome]) -> Outcome:
    """Return the outcome in a folder; where there is none, or a damaged one, make it and put it there."""
    if folder.is_dir():
        try:
            return _read(folder)
        except (TaskError, ValidationError):
            shutil.rmtree(folder)
    outcome = make()
    with whole_folder(folder, replace=True) as temporary:
        _write(temporary, outcome)
    return outcome


def _write(folder: Path, outcome: Outcome) -> None:
    scores = tuple((candidate, tuple(found)) for candidate, found in outcome.scores.items())
    write_json(folder / _FILE, _DOCUMENT.dump_python(_Document(outcome.fit_s, scores), mode="json"))
    for place, candidate in enumerate(outcome.scores):
        (folder / str(place)).mkdir()
        save_answers(folder / str(place), outcome.answers[candidate])


def _read(folder: Path) -> Outcome:
    document = _DOCUMENT.validate_python(read_json(folder / _FILE))
    outcome = Outcome(document.fit_s)
    for place, (candidate, scores) in enumerate(document.scores):
        outcome.scores[candidate] = list(scores)
        outcome.answers[candidate] = dict(load_answers(folder / str(place)))
    return outcome
