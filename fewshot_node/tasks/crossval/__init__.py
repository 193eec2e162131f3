"""How good a task will be, told from its own templates: each is left out once and asked about."""

from fewshot_node.tasks.crossval.records import Candidate, CandidateResult, CrossvalReport
from fewshot_node.tasks.crossval.run import Crossvalidation, CrossvalSettings, crossvalidate
from fewshot_node.tasks.crossval.store import CrossvalScore, crossval_score, load_report, save_report
from fewshot_node.tasks.crossval.trial import Engines

__all__ = [
    "Candidate",
    "CandidateResult",
    "CrossvalReport",
    "CrossvalScore",
    "CrossvalSettings",
    "Crossvalidation",
    "Engines",
    "crossval_score",
    "crossvalidate",
    "load_report",
    "save_report",
]
