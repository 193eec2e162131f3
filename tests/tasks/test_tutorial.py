"""The README's tutorial of the Python interface, executed as it stands."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import fewshot_node.tasks
from fewshot_node.evaluation.phantom_series import write_labels_nifti, write_series
from fewshot_node.evaluation.phantoms import PhantomSettings, torso_ct
from fewshot_node.tasks import Registry, Task, Template
from fewshot_node.tasks.task import TaskDefinition, TaskSettings

README = Path(__file__).parents[2] / "README.md"
SMALL = PhantomSettings(slices=12, rows=48, columns=48, slice_mm=16.0, pixel_mm=8.0)


def test_the_tutorial_runs(
    tmp_path: Path, settings: TaskSettings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it stands, but learnt by a method that takes seconds where the default takes a minute."""
    monkeypatch.setattr("fewshot_node.tasks.teaching.TaskSettings", lambda: settings)
    section = README.read_text(encoding="utf-8").partition("### From Python")[2].partition("\n#")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.S)
    for seed, name in ((5, "annotated"), (6, "new")):
        write_series(torso_ct(seed, SMALL), tmp_path / name, patient_index=seed)
    write_labels_nifti(torso_ct(5, SMALL), tmp_path / "labels.nii.gz")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, str(README), "exec"), {})
    printed = capsys.readouterr().out
    assert re.search(r"^Liver: [0-9]+ ml$", printed, re.M)
    assert (tmp_path / "abdomen.task").stat().st_size > 0
    assert Task(Registry(Path("tasks")), "abdomen").revisions == (1,)


def test_a_task_is_a_view_of_the_registry(tmp_path: Path, definition: TaskDefinition) -> None:
    registry = Registry(tmp_path)
    task = Task.register(registry, "organs", ["1=Liver", "3=Spleen"], rules=["Modality=CT"])
    assert (task.definition.labels, task.templates, task.revisions) == (definition.labels, (), ())
    registry.update(definition)
    assert task.definition == definition


def test_the_interface_is_what_it_says() -> None:
    assert fewshot_node.tasks.__all__ == ["Registry", "Task", "Template"]
    assert all(getattr(fewshot_node.tasks, name).__doc__ for name in fewshot_node.tasks.__all__)
    assert Template.__name__ == "Template"
    with pytest.raises(AttributeError, match="has no Tusk: it has Registry, Task, Template"):
        fewshot_node.tasks.Tusk  # noqa: B018


def test_the_package_is_imported_without_torch() -> None:
    code = "import sys, fewshot_node.tasks; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
