"""``make bench-crossval``: what crossval foretells from five templates, against the score on all other patients.

    python -m tests.benchmarks.crossval ADAPTER DRAWS [SUITE ...]

Templates are one slice of each of five patients, as `evaluate` draws them; the same draw teaches the task that is
then asked about every other patient. Both scores are over the labels that crossval scored.
"""

import logging
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fewshot_node.evaluation.compare import Entry, Protocol, compare
from fewshot_node.evaluation.pipeline_method import FeatureMemory, PipelineMethod
from fewshot_node.evaluation.protocol import Draw, draws, templates_of
from fewshot_node.evaluation.suites import Suite, read_suite
from fewshot_node.records import TaskKind
from fewshot_node.scoring.statistics import CaseScore, Estimate, estimate
from fewshot_node.tasks.crossval import Candidate, CrossvalSettings, Engines, crossvalidate
from fewshot_node.tasks.crossval.records import MAIN_METRICS
from fewshot_node.tasks.task import TaskDefinition
from fewshot_node.vision.backbone import load_encoder
from fewshot_node.vision.feature_cache import MemoryCache

SHOTS, CACHE_BYTES = 5, 2 * 2**30
SUITES = Path(__file__).parents[3] / "shared" / "data" / "suites"


def main() -> None:
    adapter, count, *names = sys.argv[1:]
    warnings.simplefilter("ignore")
    logging.getLogger("fewshot_node").setLevel(logging.WARNING)
    engines = Engines(load_encoder("embedded"), cache=MemoryCache(CACHE_BYTES))
    print("| suite | draw | metric | foretold (95 %) | on other patients (95 %) | error |\n|---|---|---|---|---|---|")
    for suite in (read_suite(SUITES / name) for name in names or sorted(path.name for path in SUITES.iterdir())):
        started = time.perf_counter()
        refine = "none" if suite.kind is TaskKind.LANDMARKS else "walker"
        errors = []
        for line, error in compared(suite, Candidate(adapter, refine), int(count), engines):
            print(line, flush=True)
            errors.append(error)
        spread = f"mean {np.mean(errors):+.3f}, mean size {np.mean(np.abs(errors)):.3f}"
        print(f"| {suite.name} | all | | | | {spread} ({time.perf_counter() - started:.0f} s) |", flush=True)


def compared(suite: Suite, candidate: Candidate, count: int, engines: Engines) -> Iterator[tuple[str, float]]:
    """Yield a line and the error, foretold less seen, of each draw."""
    metric = MAIN_METRICS[suite.kind]
    settings = candidate.applied_to(TaskDefinition("crossval", suite.kind, suite.labels)).settings
    method = PipelineMethod(str(candidate), settings, FeatureMemory(engines.encoder))
    (outcome,) = compare(suite, [Entry(method, "embedded", candidate.refine)], Protocol((SHOTS,), count))
    for draw in draws(suite, SHOTS, count):
        foretold, labels = _foretold(suite, draw, candidate, engines)
        scores = [one for one in outcome.scores if one.draw == draw.number]
        told = _over(foretold, metric, labels)
        seen = _over(scores, metric, labels)
        figures = " | ".join(f"{one.mean:.3f} ({one.low:.3f} to {one.high:.3f})" for one in (told, seen))
        error = told.mean - seen.mean
        yield f"| {suite.name} | {draw.number} | {metric} | {figures} | {error:+.3f} |", error


def _foretold(
    suite: Suite, draw: Draw, candidate: Candidate, engines: Engines
) -> tuple[tuple[CaseScore, ...], frozenset[str]]:
    """Return what crossval scored, and which labels."""
    data = [(case, case.load()) for case in suite.cases if case.patient in draw.teaching]
    templates = [one for patient in draw.teaching for one in templates_of(suite, patient, "slice", data)]
    shown = {value for one in templates for value in one.label_values}
    labels = tuple(label for label in suite.labels if label.value in shown)
    task = candidate.applied_to(TaskDefinition("crossval", suite.kind, labels))
    report = crossvalidate(task, templates, engines, CrossvalSettings((candidate.adapter,), curve_draws=0)).report
    result = report.result(candidate)
    assert result is not None
    return result.scores, frozenset(one.label for one in result.scores)


def _over(scores: tuple[CaseScore, ...] | list[CaseScore], metric: str, labels: frozenset[str]) -> Estimate:
    found = estimate([one for one in scores if one.label in labels], metric)
    assert found is not None
    return found


if __name__ == "__main__":
    main()
