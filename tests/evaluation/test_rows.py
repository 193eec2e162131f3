"""Names on the command line to rows: what each means, and what is refused."""

import pytest

from fewshot_node.errors import EvaluationError
from fewshot_node.evaluation.pipeline_method import FeatureMemory, PipelineMethod
from fewshot_node.evaluation.rows import METHODS, entries
from fewshot_node.tasks.task import TaskSettings
from fewshot_node.vision.backbone import load_encoder


@pytest.fixture(scope="module")
def memory() -> FeatureMemory:
    return FeatureMemory(load_encoder("embedded"))


def settings_of(method: object) -> TaskSettings:
    assert isinstance(method, PipelineMethod)
    return method.settings


def test_default_is_what_a_new_task_has(memory: FeatureMemory) -> None:
    (row,) = entries(["default"], [], "embedded", memory)
    assert settings_of(row.method) == TaskSettings()
    assert (row.method.name, row.refine) == ("default", TaskSettings().refine.engine)


def test_a_method_is_its_adapter(memory: FeatureMemory) -> None:
    rows = entries(["basic", "contrastive-binary"], ["none"], "embedded", memory)
    adapters = [settings_of(row.method).adapter for row in rows]
    assert [(adapter.name, adapter.mode) for adapter in adapters] == [
        ("basic", "multilabel"),
        ("contrastive", "binary"),
    ]
    assert [row.refine for row in rows] == ["none", "none"]


def test_prompts_make_rows_of_each_refinement(memory: FeatureMemory) -> None:
    rows = entries(["basic"], ["none", "walker"], "embedded", memory, prompts=["random", "box", "ours"])
    assert [row.refine for row in rows] == ["none", "walker:random", "walker:box", "walker:ours"]
    assert [settings_of(row.method).refine.prompts.strategy for row in rows[1:]] == ["random", "box", "ours"]


@pytest.mark.parametrize(
    ("methods", "refines", "prompts", "message"),
    [
        (["nnunet"], [], [], "method 'nnunet' is unknown; give one of default, "),
        (["context-binary"], [], [], "unknown"),
        (["basic"], ["crf"], [], "refinement 'crf' is unknown; give one of none"),
        (["basic"], ["walker"], ["scribble"], "prompts 'scribble' are unknown; give one of random, box, ours"),
        (["basic"], ["sam"], [], "give --sam FOLDER"),
    ],
)
def test_unknown_names_are_refused_with_those_that_are_known(
    memory: FeatureMemory, methods: list[str], refines: list[str], prompts: list[str], message: str
) -> None:
    with pytest.raises(EvaluationError, match=message):
        entries(methods, refines, "embedded", memory, prompts=prompts)


def test_every_method_can_be_named(memory: FeatureMemory) -> None:
    assert [row.method.name for row in entries(METHODS, ["none"], "embedded", memory)] == list(METHODS)
