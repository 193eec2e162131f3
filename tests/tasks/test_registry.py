import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fewshot_node.errors import TaskError, TemplateError, UnknownTaskError
from fewshot_node.records import TaskKind
from fewshot_node.tasks.codes import parse_label
from fewshot_node.tasks.registry import Registry
from fewshot_node.tasks.rule_text import parse_rule
from fewshot_node.tasks.selection import TemplateSelection
from fewshot_node.tasks.task import PublishedTask, TaskDefinition
from fewshot_node.tasks.templates import Template, read_template
from fewshot_node.vision.adapters import AdapterSettings
from fewshot_node.vision.backbone import DenseEncoder


@pytest.fixture(scope="module")
def template(example, nifti: Path, definition: TaskDefinition) -> Template:
    return read_template(example.files, nifti, definition, TemplateSelection(name="first"))


@pytest.fixture
def registry(tmp_path: Path, definition: TaskDefinition) -> Registry:
    registry = Registry(tmp_path / "tasks")
    registry.add(definition)
    return registry


@pytest.fixture
def published(registry: Registry, template: Template, encoder: DenseEncoder) -> Registry:
    registry.add_template("organs", template)
    registry.fit("organs", encoder)
    registry.publish("organs")
    return registry


def revision_folder(registry: Registry, revision: int = 1) -> Path:
    return registry.root / "organs" / "revisions" / f"{revision:04d}"


def test_empty_registry_has_no_tasks(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "none")
    assert registry.names() == ()
    assert registry.candidates() == ()
    with pytest.raises(UnknownTaskError, match="there is none yet"):
        registry.definition("organs")


def test_definition_comes_back_in_another_process(registry: Registry, definition: TaskDefinition) -> None:
    again = Registry(registry.root)
    assert again.names() == ("organs",)
    assert again.definition("organs") == definition


@pytest.mark.parametrize("name", ["organ", "../organs", "", "organs/draft", "."])
def test_unknown_task_lists_the_known_ones(registry: Registry, name: str) -> None:
    with pytest.raises(UnknownTaskError, match="known tasks: organs"):
        registry.templates(name)


def test_same_name_twice_is_refused(registry: Registry, definition: TaskDefinition) -> None:
    with pytest.raises(TaskError, match="task organs exists"):
        registry.add(replace(definition, description="other"))
    assert registry.definition("organs").description == ""
    assert [path.name for path in registry.root.iterdir()] == ["organs"]


def test_templates_come_and_go(registry: Registry, template: Template) -> None:
    registry.add_template("organs", template)
    assert registry.template_names("organs") == ("first",)
    (loaded,) = registry.templates("organs")
    assert loaded.digest() == template.digest()
    registry.remove_template("organs", "first")
    assert registry.templates("organs") == ()
    with pytest.raises(TemplateError, match="no template 'first': it has none"):
        registry.remove_template("organs", "first")


def test_repeated_template_is_refused(registry: Registry, template: Template) -> None:
    registry.add_template("organs", template)
    with pytest.raises(TemplateError, match="choose another name"):
        registry.add_template("organs", template)
    with pytest.raises(TemplateError, match="second repeats first"):
        registry.add_template("organs", replace(template, name="second"))


def test_mixed_modality_is_refused(
    registry: Registry,
    template: Template,
    make_example: Callable[..., object],
    save_nifti: Callable[..., Path],
    tmp_path: Path,
) -> None:
    registry.add_template("organs", template)
    other = make_example(seed=3, modality="MR")
    path = save_nifti(tmp_path / "l.nii", other.labels, other.affine)
    mr = read_template(other.files, path, registry.definition("organs"))
    with pytest.raises(TemplateError, match=r"is MR, but template first of task organs is CT"):
        registry.add_template("organs", mr)


def test_stray_label_and_bad_name_are_refused(registry: Registry, template: Template) -> None:
    with pytest.raises(TemplateError, match=r"label \[9\]"):
        registry.add_template("organs", replace(template, label_map=np.full_like(template.label_map, 9)))
    with pytest.raises(TaskError, match="template name"):
        registry.add_template("organs", replace(template, name="../../evil"))


def test_publish_asks_for_what_is_missing(
    registry: Registry,
    template: Template,
    encoder: DenseEncoder,
    make_example: Callable[..., object],
    save_nifti: Callable[..., Path],
    tmp_path: Path,
) -> None:
    with pytest.raises(TaskError, match="has no template: add one"):
        registry.publish("organs")
    with pytest.raises(TaskError, match="has no template"):
        registry.fit("organs", encoder)
    registry.add_template("organs", template)
    with pytest.raises(TaskError, match="has not been fitted"):
        registry.publish("organs")
    with pytest.raises(TaskError, match="no published revision"):
        registry.published("organs")
    registry.fit("organs", encoder)
    other = make_example(seed=3)
    path = save_nifti(tmp_path / "l.nii", other.labels, other.affine)
    registry.add_template("organs", read_template(other.files, path, registry.definition("organs")))
    assert not registry.is_fitted("organs")
    with pytest.raises(TaskError, match="changed since it was fitted"):
        registry.publish("organs")
    registry.fit("organs", encoder)
    assert registry.publish("organs") == 1


def test_published_task_is_complete(published: Registry, definition: TaskDefinition, encoder: DenseEncoder) -> None:
    task = Registry(published.root).published("organs")
    assert task.definition == definition
    assert task.revision == 1
    assert task.encoder_digest == encoder.weights_digest
    assert task.refiner_digest is None
    assert task.adapter.label_values == (1, 3)
    task.check_models(encoder.weights_digest, None)
    (candidate,) = published.candidates()
    loaded = candidate.load()
    assert isinstance(loaded, PublishedTask)
    assert (loaded.digest, loaded.is_shadow) == (task.digest, False)


def test_revision_holds_safetensors_and_json_only(published: Registry) -> None:
    files = [path for path in published.root.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".safetensors"}
    assert not [path for path in files if b"Secret" in path.read_bytes()]
    assert not list(published.root.rglob(".*"))


def test_next_revision_leaves_the_first_as_it_was(published: Registry, encoder: DenseEncoder) -> None:
    def snapshot() -> dict[str, str]:
        folder = revision_folder(published)
        files = [path for path in folder.rglob("*") if path.is_file()]
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    before = snapshot()
    definition = published.definition("organs")
    published.update(replace(definition, rules=(parse_rule("Modality=CT"),)))
    assert published.is_fitted("organs")
    assert published.publish("organs", refiner_digest="s" * 64) == 2
    assert published.revisions("organs") == (1, 2)
    assert snapshot() == before
    assert published.published("organs", 1).definition.rules == ()
    second = published.published("organs")
    assert second.definition.rules == (parse_rule("Modality=CT"),)
    assert second.refiner_digest == "s" * 64
    assert second.digest != published.published("organs", 1).digest
    with pytest.raises(UnknownTaskError, match=r"no revision 3: it has 1, 2"):
        published.published("organs", 3)


def test_same_input_gives_the_same_digest(
    tmp_path: Path, definition: TaskDefinition, template: Template, encoder: DenseEncoder
) -> None:
    digests = []
    for name in ("a", "b"):
        registry = Registry(tmp_path / name)
        registry.add(replace(definition, settings=replace(definition.settings, adapter=AdapterSettings(steps=20))))
        registry.add_template("organs", template)
        registry.fit("organs", encoder)
        registry.publish("organs")
        digests.append(registry.published("organs").digest)
    assert digests[0] == digests[1]


@pytest.mark.parametrize(
    "change",
    [
        lambda one: replace(one, rules=(parse_rule("Modality=CT"),)),
        lambda one: replace(one, description="x"),
        lambda one: replace(one, settings=replace(one.settings, refine=replace(one.settings.refine, iou_gate=0.9))),
        lambda one: replace(one, labels=(replace(one.labels[0], name="Foie"), one.labels[1])),
    ],
    ids=["rules", "description", "refine", "labels"],
)
def test_any_change_gives_another_digest(
    published: Registry, tmp_path: Path, change: Callable[[TaskDefinition], TaskDefinition], encoder: DenseEncoder
) -> None:
    (template,) = published.templates("organs")
    other = Registry(tmp_path / "other")
    other.add(change(published.definition("organs")))
    other.add_template("organs", template)
    other.fit("organs", encoder)
    other.publish("organs")
    assert other.published("organs").digest != published.published("organs").digest


def flip_last_byte(path: Path) -> None:
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "name",
    [
        "definition.json",
        "adapter.safetensors",
        "fit.json",
        "provenance.json",
        "templates/first.json",
        "templates/first.safetensors",
    ],
)
def test_altered_file_is_detected(published: Registry, name: str) -> None:
    flip_last_byte(revision_folder(published) / name)
    with pytest.raises(TaskError, match=f"0001 was altered after it was published \\({name}\\)"):
        published.published("organs")


def test_added_and_removed_files_are_detected(published: Registry) -> None:
    folder = revision_folder(published)
    (folder / "extra.json").write_text("{}")
    with pytest.raises(TaskError, match=r"extra\.json"):
        published.published("organs")
    (folder / "extra.json").unlink()
    published.published("organs")
    (folder / "adapter.safetensors").unlink()
    with pytest.raises(TaskError, match=r"adapter\.safetensors"):
        published.published("organs")


@pytest.mark.parametrize(
    ("key", "value"),
    [("digest", "0" * 64), ("encoder_digest", "0" * 64), ("refiner_digest", "0" * 64), ("revision", 7), ("task", "x")],
)
def test_altered_manifest_is_detected(published: Registry, key: str, value: object) -> None:
    path = revision_folder(published) / "manifest.json"
    path.chmod(0o644)
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(TaskError, match=r"manifest\.json was altered"):
        published.published("organs")


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"schema_version": 9}'])
def test_broken_manifest_is_refused(published: Registry, content: str) -> None:
    path = revision_folder(published) / "manifest.json"
    path.chmod(0o644)
    path.write_text(content)
    with pytest.raises(TaskError, match=r"manifest\.json"):
        published.published("organs")


def test_revision_moved_to_another_number_is_detected(published: Registry) -> None:
    revision_folder(published).rename(revision_folder(published, 4))
    with pytest.raises(TaskError, match="altered"):
        published.published("organs", 4)


def test_interrupted_publish_leaves_no_revision(published: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="No space"):
        published.publish("organs")
    monkeypatch.undo()
    assert published.revisions("organs") == (1,)
    assert [path.name for path in revision_folder(published).parent.iterdir()] == ["0001"]


def test_damaged_draft_names_its_file(registry: Registry) -> None:
    path = registry.root / "organs" / "draft" / "definition.json"
    path.write_text("{")
    with pytest.raises(TaskError, match=r"definition\.json cannot be read"):
        registry.definition("organs")


def test_update_keeps_to_the_templates(registry: Registry, definition: TaskDefinition, template: Template) -> None:
    registry.add_template("organs", template)
    with pytest.raises(TaskError, match=r"shows label \[3\]"):
        registry.update(replace(definition, labels=definition.labels[:1]))
    with pytest.raises(TaskError, match="stays one"):
        registry.update(replace(definition, kind=TaskKind.LANDMARKS))
    with pytest.raises(UnknownTaskError):
        registry.update(replace(definition, name="other"))
    registry.update(replace(definition, labels=(*definition.labels, parse_label("5=Pancreas"))))
    assert registry.definition("organs").label_values == (1, 3, 5)


def test_fit_with_a_label_nobody_shows_keeps_the_old_fit_out(
    published: Registry, definition: TaskDefinition, encoder: DenseEncoder
) -> None:
    published.update(replace(definition, labels=(*definition.labels, parse_label("5=Pancreas"))))
    with pytest.raises(TemplateError, match="no template shows 5=Pancreas"):
        published.fit("organs", encoder)
    with pytest.raises(TaskError, match="changed since"):
        published.publish("organs")
