import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fewshot_node.errors import FewshotNodeError, TaskError
from fewshot_node.output import OutputSettings
from fewshot_node.records import TaskKind
from fewshot_node.tasks.augment import AugmentSettings
from fewshot_node.tasks.codes import parse_label
from fewshot_node.tasks.rule_text import parse_rule
from fewshot_node.tasks.task import (
    PublishedTask,
    TaskDefinition,
    TaskSettings,
    definition_from_data,
    definition_to_data,
)
from fewshot_node.vision.adapters import AdapterSettings
from fewshot_node.vision.encode import EncodeSettings
from fewshot_node.vision.intensity import IntensitySettings
from fewshot_node.vision.localize import CleaningSettings, ComponentRule

LIVER, SPLEEN = parse_label("1=Liver"), parse_label("3=Spleen")


@pytest.fixture
def rich() -> TaskDefinition:
    """A definition in which no setting has its default."""
    return TaskDefinition(
        "organs-2",
        TaskKind.SEGMENTATION,
        (LIVER, replace(SPLEEN, anatomic_region=LIVER.type)),
        rules=(
            parse_rule("Modality=CT"),
            parse_rule("orientation in axial,coronal"),
            parse_rule("ProtocolName absent"),
        ),
        settings=TaskSettings(
            adapter=AdapterSettings(name="basic", seed=7, threshold=0.25),
            encode=EncodeSettings(input_px=96, intensity=IntensitySettings(ct_windows=((50.0, 350.0),))),
            augment=AugmentSettings(count=3, seed=5),
            cleaning=CleaningSettings(by_label={3: ComponentRule(policy="largest")}),
            output=OutputSettings(
                segmentation="labelmap", empty_frames="keep", overlay="secondary-capture", rtstruct=True
            ),
        ),
        description="Leber und Milz, für die Übung",
    )


def test_definition_survives_json(rich: TaskDefinition) -> None:
    data = json.loads(json.dumps(definition_to_data(rich)))
    assert definition_from_data(data, "x") == rich


def test_a_definition_written_before_there_was_output_has_the_usual_one(rich: TaskDefinition) -> None:
    data = definition_to_data(rich)
    del data["settings"]["output"]
    assert definition_from_data(data, "x").settings.output == OutputSettings()


def change(data: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    inner = data
    *parents, last = path.split("/")
    for parent in parents:
        inner = inner[int(parent)] if parent.isdigit() else inner[parent]
    inner[last] = value
    return data


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("colour", "red", "unknown key colour"),
        ("settings/speed", 1, "unknown key settings.speed"),
        ("settings/adapter/sede", 1, "unknown key settings.adapter.sede"),
        ("labels/0/nme", "x", "unknown key labels.0.nme"),
        ("labels/0/value", 0, "labels.0: "),
        ("labels/0/value", "one", "labels.0.value: "),
        ("kind", "classification", "kind: "),
        ("schema_version", 2, "schema_version is 2"),
        ("schema_version", None, "schema_version is None"),
        ("settings/adapter/name", "magic", "'magic'"),
        ("settings/output/segmentation", "surface", "settings.output.segmentation: "),
        ("settings/output/colour", "red", "unknown key settings.output.colour"),
        ("rules/0/attribute", "Modallity", "did you mean Modality"),
        ("name", "../evil", "not acceptable"),
        ("labels", [], "no label"),
    ],
)
def test_wrong_json_names_the_key(rich: TaskDefinition, path: str, value: object, says: str) -> None:
    data = change(json.loads(json.dumps(definition_to_data(rich))), path, value)
    with pytest.raises(FewshotNodeError) as caught:
        definition_from_data(data, "definition.json")
    assert says in str(caught.value)


@pytest.mark.parametrize("key", ["name", "kind", "labels", "settings"])
def test_missing_key_is_named(rich: TaskDefinition, key: str) -> None:
    data = {name: value for name, value in definition_to_data(rich).items() if name != key}
    with pytest.raises(TaskError, match=f"{key}: Field required"):
        definition_from_data(data, "x")


@pytest.mark.parametrize("name", ["a", "liver-ct", "0", "a" * 32])
def test_acceptable_names(name: str) -> None:
    assert TaskDefinition(name, TaskKind.SEGMENTATION, (LIVER,)).name == name


@pytest.mark.parametrize("name", ["", "-a", "Liver", "a b", "a/b", "..", "a" * 33, "a\n", "ä"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(TaskError, match="use 1 to 32"):
        TaskDefinition(name, TaskKind.SEGMENTATION, (LIVER,))


def test_labels_must_differ() -> None:
    with pytest.raises(TaskError, match="two labels have the value 1"):
        TaskDefinition("x", TaskKind.SEGMENTATION, (LIVER, replace(SPLEEN, value=1)))
    with pytest.raises(TaskError, match="two labels have the name liver"):
        TaskDefinition("x", TaskKind.SEGMENTATION, (LIVER, replace(LIVER, value=2, name="LIVER")))
    with pytest.raises(TaskError, match="no label"):
        TaskDefinition("x", TaskKind.SEGMENTATION, ())


def test_other_encoder_is_refused(rich: TaskDefinition) -> None:
    published = PublishedTask(rich, 2, "d", None, "e" * 64, None, Path())  # type: ignore[arg-type]
    published.check_models("e" * 64, None)
    with pytest.raises(TaskError, match="revision 2 was fitted with encoder eeeeeeeeeeee, but ffffffffffff"):
        published.check_models("f" * 64, None)
