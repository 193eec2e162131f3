"""Names on the command line to rows: what each means, and what is refused."""

import pytest

from fewshot_node.errors import CheckpointError, EvaluationError
from fewshot_node.evaluation.pipeline_method import PipelineMethod
from fewshot_node.evaluation.rows import METHODS, Models, entries
from fewshot_node.tasks.task import TaskSettings
from fewshot_node.vision.sam import load_sam


@pytest.fixture(scope="module")
def models() -> Models:
    return Models()


def settings_of(method: object) -> TaskSettings:
    assert isinstance(method, PipelineMethod)
    return method.settings


def test_default_is_what_a_new_task_has(models: Models) -> None:
    (row,) = entries(["default"], [], models)
    assert settings_of(row.method) == TaskSettings()
    assert (row.method.name, row.refine) == ("default", TaskSettings().refine.engine)


def test_a_method_is_its_adapter(models: Models) -> None:
    rows = entries(["basic", "contrastive-binary"], ["none"], models)
    adapters = [settings_of(row.method).adapter for row in rows]
    assert [(adapter.name, adapter.mode) for adapter in adapters] == [
        ("basic", "multilabel"),
        ("contrastive", "binary"),
    ]
    assert [row.refine for row in rows] == ["none", "none"]


def test_prompts_make_rows_of_each_refinement(models: Models) -> None:
    rows = entries(["basic"], ["none", "walker"], models, prompts=["random", "box", "ours"])
    assert [row.refine for row in rows] == ["none", "walker:random", "walker:box", "walker:ours"]
    assert [settings_of(row.method).refine.prompts.strategy for row in rows[1:]] == ["random", "box", "ours"]


@pytest.mark.parametrize(
    ("methods", "refines", "prompts", "message"),
    [
        (["nnunet"], [], [], "method 'nnunet' is unknown; give one of default, "),
        (["context-binary"], [], [], "unknown"),
        (["basic"], ["crf"], [], "refinement 'crf' is unknown; give one of none"),
        (["basic"], ["walker"], ["scribble"], "prompts 'scribble' are unknown; give one of random, box, ours"),
    ],
)
def test_unknown_names_are_refused_with_those_that_are_known(
    models: Models, methods: list[str], refines: list[str], prompts: list[str], message: str
) -> None:
    with pytest.raises(EvaluationError, match=message):
        entries(methods, refines, models, prompts=prompts)


def test_rivals_make_one_row_each_whatever_refines(models: Models) -> None:
    rows = entries(["persam", "persam-f", "universeg", "unet-scratch", "basic"], ["none", "walker"], models)
    assert [(row.method.name, row.encoder, row.refine) for row in rows] == [
        ("persam", "sam:embedded", "-"),
        ("persam-f", "sam:embedded", "-"),
        ("universeg", "-", "-"),
        ("unet-scratch", "-", "-"),
        ("basic", "embedded", "none"),
        ("basic", "embedded", "walker"),
    ]


def test_sam_is_the_embedded_one_unless_told(models: Models) -> None:
    (row,) = entries(["basic"], ["sam"], models)
    assert isinstance(row.method, PipelineMethod)
    assert row.method.sam is models.sam_engine
    assert models.sam_engine.weights_digest == load_sam("embedded").weights_digest


def test_a_model_that_no_row_needs_is_not_loaded() -> None:
    absent = Models("/nowhere/encoder", "/nowhere/sam", "/nowhere/universeg.pt")
    assert [row.method.name for row in entries(["unet-scratch"], [], absent)] == ["unet-scratch"]
    for method in ("persam", "universeg"):
        with pytest.raises(CheckpointError, match="/nowhere"):
            entries([method], [], absent)


def test_every_method_can_be_named(models: Models) -> None:
    assert [row.method.name for row in entries(METHODS, ["none"], models)] == list(METHODS)
