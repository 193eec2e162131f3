"""A crossvalidation's result beside the draft, and whether it still says something about that draft.

::

    draft/crossval.json           `CrossvalReport`
    draft/crossval.safetensors    answers of the recommended candidate (`answers.save_answers`)
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from fewshot_node.errors import TaskError
from fewshot_node.records import TaskKind
from fewshot_node.tasks.crossval.records import Candidate, CrossvalReport
from fewshot_node.tasks.storage import read_json, write_json
from fewshot_node.tasks.task import TaskDefinition, definition_to_data
from fewshot_node.tasks.templates import Template
from fewshot_node.uids import digest_parts

REPORT_FILE = "crossval.json"
_SCHEMA_VERSION = 1
_REPORT = TypeAdapter(CrossvalReport)


@dataclass(frozen=True, slots=True)
class CrossvalScore:
    """The crossvalidated score of a draft as it stands.

    Attributes
    ----------
    metric
        ``iou`` (segmentation) or ``accuracy@10px`` (landmarks); more is better.
    low, high
        95 % interval over what was left out.
    units
        How many templates (or slices of the only one) were left out in turn.
    stale
        Why the score no longer holds for this draft; empty where it does.
    """

    metric: str
    mean: float
    low: float
    high: float
    units: int
    stale: str = ""

    @property
    def is_current(self) -> bool:
        """Whether templates, labels and settings are still those that were scored."""
        return not self.stale


def crossval_key(definition: TaskDefinition, templates: Sequence[Template], encoder_digest: str) -> str:
    """Digest of all that every candidate's score depends on; adapter and refinement are told apart by candidate."""
    data = definition_to_data(definition)
    shared = {key: value for key, value in data["settings"].items() if key not in ("adapter", "refine")}
    facts = json.dumps([definition.kind, data["labels"], shared, encoder_digest], sort_keys=True)
    return digest_parts((facts.encode(), *(f"{one.name}:{one.digest()}".encode() for one in templates)))


def settings_digest(definition: TaskDefinition) -> str:
    """Digest of a task's settings of adapter and refinement; landmarks are not refined."""
    settings = definition_to_data(definition)["settings"]
    counted = ["adapter"] if definition.kind is TaskKind.LANDMARKS else ["adapter", "refine"]
    return digest_parts((json.dumps([settings[key] for key in counted], sort_keys=True).encode(),))


def save_report(draft: Path, report: CrossvalReport) -> None:
    """Write the report of a draft; a reader sees the old one or the new one."""
    write_json(draft / REPORT_FILE, {"schema_version": _SCHEMA_VERSION, **_REPORT.dump_python(report, mode="json")})


def load_report(draft: Path) -> CrossvalReport | None:
    """Read the report of a draft, or of a revision that holds one; None where the task was not crossvalidated.

    Raises
    ------
    TaskError
        The file was altered, or another version of this package wrote it.
    """
    path = draft / REPORT_FILE
    if not path.is_file():
        return None
    data = read_json(path)
    version = data.pop("schema_version", None)
    try:
        if version != _SCHEMA_VERSION:
            raise ValueError(f"schema_version {version}")
        return _REPORT.validate_json(json.dumps(data))
    except (ValidationError, ValueError) as error:
        raise TaskError(f"{path} is no crossvalidation of this version: run task crossval again") from error


def crossval_score(draft: Path, definition: TaskDefinition, templates: Sequence[Template]) -> CrossvalScore | None:
    """Return the crossvalidated score of a draft and whether it still holds; None where there is none.

    Parameters
    ----------
    draft
        Folder of the draft.
    definition, templates
        The draft's own, as they are now.

    Raises
    ------
    TaskError
        The stored result cannot be read.
    """
    report = load_report(draft)
    if report is None:
        return None
    result = report.result(Candidate.of(definition))
    shown = result or report.result(report.recommendation.candidate)
    found = shown.estimate(report.metric) if shown else None
    if found is None:
        return None
    stale = ""
    if crossval_key(definition, templates, report.encoder_digest) != report.key:
        stale = "templates, labels or settings changed since"
    elif result is None or result.settings_digest != settings_digest(definition):
        stale = f"the task is now {Candidate.of(definition)}, which was not scored with these settings"
    return CrossvalScore(report.metric, found.mean, found.low, found.high, len(report.units), stale)
