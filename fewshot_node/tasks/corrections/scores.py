"""How good a task's draft is before and after a correction became one of its templates."""

from dataclasses import dataclass

from fewshot_node.errors import TaskError, TemplateError
from fewshot_node.tasks.crossval import CrossvalScore, CrossvalSettings, Engines
from fewshot_node.tasks.crossval.draft import crossvalidate_draft, draft_score
from fewshot_node.tasks.progress import Watch, unwatched
from fewshot_node.tasks.registry import Registry


@dataclass(frozen=True, slots=True)
class DraftScore:
    """The crossvalidated score of a draft; without one, `why_not` says why."""

    score: CrossvalScore | None
    why_not: str = ""

    def __str__(self) -> str:
        one = self.score
        if one is None:
            return f"not scored: {self.why_not}"
        return f"{one.metric} {one.mean:.3f} ({one.low:.3f} to {one.high:.3f}) over {one.units} left out"


def own_score(
    registry: Registry, name: str, engines: Engines, watch: Watch = unwatched, most_fits: int = 10
) -> DraftScore:
    """Return the score of a draft with its own adapter; what was crossvalidated before and still holds is taken.

    Too few templates are a reason and no error: the first correction may be the second template.
    """
    known = draft_score(registry, name)
    if known is not None and known.is_current:
        return DraftScore(known)
    try:
        crossvalidate_draft(registry, name, engines, CrossvalSettings((), most_fits, curve_draws=0), watch)
    except (TaskError, TemplateError) as error:
        return DraftScore(None, str(error))
    return DraftScore(draft_score(registry, name))
