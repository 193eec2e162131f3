"""One fit without some units, and what it then says of them."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fewshot_node.records import Label
from fewshot_node.scoring.statistics import CaseScore
from fewshot_node.tasks.crossval.answers import LeftOutAnswer
from fewshot_node.tasks.crossval.asking import Seen, answered, score, see, template_features
from fewshot_node.tasks.crossval.outcomes import Outcome, shelved
from fewshot_node.tasks.crossval.records import Candidate, Unit
from fewshot_node.tasks.crossval.store import crossval_key, settings_digest
from fewshot_node.tasks.crossval.units import held_out, remaining
from fewshot_node.tasks.fit import fit_task
from fewshot_node.tasks.progress import Watch, unwatched
from fewshot_node.tasks.task import TaskDefinition
from fewshot_node.tasks.templates import Template
from fewshot_node.uids import digest_parts
from fewshot_node.vision.backbone import DenseEncoder
from fewshot_node.vision.feature_cache import FeatureCache
from fewshot_node.vision.sam import SamEngine


@dataclass(frozen=True, slots=True, eq=False)
class Engines:
    """What a crossvalidation computes with.

    Attributes
    ----------
    sam
        With it SAM is among the refinements.
    cache
        Where features are kept: without one every fit encodes its templates again.
    shelf
        Folder of fits that are done, from which an interrupted crossvalidation goes on.
    """

    encoder: DenseEncoder
    sam: SamEngine | None = None
    cache: FeatureCache | None = None
    shelf: Path | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """What all fits of a crossvalidation share.

    Attributes
    ----------
    labels
        Those that are scored.
    """

    templates: tuple[Template, ...]
    labels: tuple[Label, ...]
    engines: Engines

    def run(
        self,
        variants: Sequence[TaskDefinition],
        held: Sequence[Unit],
        draw: int = 0,
        watch: Watch = unwatched,
    ) -> Outcome:
        """Fit without the held units and ask about each of them; a label that nothing taught scores 0.

        Parameters
        ----------
        variants
            The task with one adapter and the refinements to try on what that adapter sees.
        """
        if self.engines.shelf is None:
            return self._run(variants, held, draw, watch)
        return shelved(
            self.engines.shelf / self._key(variants, held, draw), lambda: self._run(variants, held, draw, watch)
        )

    def _key(self, variants: Sequence[TaskDefinition], held: Sequence[Unit], draw: int) -> str:
        """Digest of all that decides an outcome."""
        engines = self.engines
        facts = (
            crossval_key(variants[0], self.templates, engines.encoder.weights_digest),
            engines.sam.weights_digest if engines.sam else "",
            *(settings_digest(one) for one in variants),
            repr((held, self.labels, draw)),
        )
        return digest_parts(fact.encode() for fact in facts)

    def _run(self, variants: Sequence[TaskDefinition], held: Sequence[Unit], draw: int, watch: Watch) -> Outcome:
        outcome = Outcome()
        started = time.perf_counter()
        ask = self._taught(variants[0], remaining(self.templates, held), watch)
        outcome.fit_s = time.perf_counter() - started
        for unit in held:
            for template in held_out(self.templates, unit):
                seen = ask(template)
                for variant in variants:
                    self._note(outcome, variant, unit, seen, draw)
        return outcome

    def _taught(
        self, definition: TaskDefinition, teaching: Sequence[Template], watch: Watch
    ) -> Callable[[Template], Seen]:
        shown = {value for template in teaching for value in template.label_values}
        labels = tuple(label for label in definition.labels if label.value in shown)
        if not labels:
            return lambda template: Seen(template, ())
        own = replace(definition, labels=labels)
        adapter, _ = fit_task(own, teaching, self.engines.encoder, self.engines.cache, watch)
        return lambda template: see(
            own, adapter, template, template_features(template, own, self.engines.encoder, self.engines.cache)
        )

    def _note(self, outcome: Outcome, definition: TaskDefinition, unit: Unit, seen: Seen, draw: int) -> None:
        """Score one answer and keep it."""
        candidate = Candidate.of(definition)
        prediction = answered(seen, definition.settings.refine, self.engines.sam)
        outcome.scores.setdefault(candidate, []).extend(
            CaseScore(draw, unit.name, one.label, one.metric, one.value)
            for one in score(definition.kind, seen.template, prediction, self.labels)
        )
        kept = outcome.answers.setdefault(candidate, {})
        kept[unit.name, seen.template.name] = LeftOutAnswer.keep(prediction, seen.unsure)
