"""What a published revision goes through, who made it so, and what a crash or a second admin does to it."""

import json
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from fewshot_node.dicom.objects.headers import SeriesHeader
from fewshot_node.errors import TaskError, UnknownTaskError
from fewshot_node.tasks.attributes import SeriesFacts
from fewshot_node.tasks.lock import task_lock, who
from fewshot_node.tasks.registry import Registry
from fewshot_node.tasks.rule_groups import takes
from fewshot_node.tasks.rule_text import parse_rule
from fewshot_node.tasks.selection import TemplateSelection
from fewshot_node.tasks.task import BrokenTask, PublishedTask, TaskDefinition
from fewshot_node.tasks.templates import read_template
from fewshot_node.vision.backbone import DenseEncoder
from tests.tasks.crash import crash_in

NAME = "organs"


@pytest.fixture(scope="module")
def fitted(
    tmp_path_factory: pytest.TempPathFactory, example, nifti: Path, definition: TaskDefinition, encoder: DenseEncoder
) -> Path:
    """A registry with one fitted draft."""
    registry = Registry(tmp_path_factory.mktemp("fitted") / "tasks")
    registry.add(replace(definition, rules=(parse_rule("Modality=CT"),)))
    registry.add_template(NAME, read_template(example.files, nifti, definition, TemplateSelection(name="first")))
    registry.fit(NAME, encoder)
    return registry.root


@pytest.fixture
def registry(fitted: Path, tmp_path: Path) -> Registry:
    shutil.copytree(fitted, tmp_path / "tasks")
    return Registry(tmp_path / "tasks")


def facts(modality: str) -> SeriesFacts:
    dataset = Dataset()
    dataset.Modality = modality
    return SeriesFacts(SeriesHeader(dataset, 1, None, "1.2"))


def standing(registry: Registry) -> dict[str, object]:
    found = registry.lifecycle(NAME).standing()
    return {"live": found.live, "shadow": found.shadow, "retired": found.retired}


def running(registry: Registry) -> list[tuple[int, bool]]:
    return [(one.revision, one.is_shadow) for one in registry.candidates()]


def go_live(registry: Registry, revision: int | None = None) -> int:
    return registry.lifecycle(NAME).go_live(revision, lambda folder: None)


def test_publishing_makes_a_revision_live(registry: Registry) -> None:
    assert registry.publish(NAME) == 1
    assert standing(registry) == {"live": 1, "shadow": None, "retired": False}
    assert registry.publish(NAME) == 2
    assert running(registry) == [(2, False)]
    assert registry.published(NAME).revision == 2


def test_a_shadow_runs_beside_the_live_revision_until_it_goes_live(registry: Registry) -> None:
    registry.publish(NAME)
    assert registry.publish(NAME, shadow=True) == 2
    assert running(registry) == [(1, False), (2, True)]
    live, shadow = (one.load() for one in registry.candidates())
    assert (live.is_shadow, shadow.is_shadow) == (False, True)
    assert registry.published(NAME).revision == 1
    assert go_live(registry) == 2
    assert running(registry) == [(2, False)]
    with pytest.raises(TaskError, match="no revision in shadow"):
        go_live(registry)


def test_a_first_revision_in_shadow_is_not_live(registry: Registry) -> None:
    registry.publish(NAME, shadow=True)
    assert running(registry) == [(1, True)]
    with pytest.raises(TaskError, match="no live revision: task go-live organs"):
        registry.published(NAME)


def test_an_older_revision_can_run_in_shadow_and_stop(registry: Registry) -> None:
    registry.publish(NAME)
    registry.publish(NAME)
    lifecycle = registry.lifecycle(NAME)
    lifecycle.put_in_shadow(1)
    assert running(registry) == [(2, False), (1, True)]
    lifecycle.put_in_shadow(None)
    assert running(registry) == [(2, False)]
    with pytest.raises(TaskError, match="is live: only another"):
        lifecycle.put_in_shadow(2)
    with pytest.raises(TaskError, match="no revision in shadow"):
        lifecycle.put_in_shadow(None)
    with pytest.raises(UnknownTaskError, match="no revision 7: it has 1, 2"):
        lifecycle.put_in_shadow(7)


def test_rollback_makes_the_one_before_live_without_a_copy(registry: Registry) -> None:
    for _ in range(3):
        registry.publish(NAME)
    lifecycle = registry.lifecycle(NAME)
    assert lifecycle.rollback() == 2
    assert running(registry) == [(2, False)]
    assert lifecycle.revisions() == (1, 2, 3)
    assert lifecycle.rollback(1) == 1
    assert lifecycle.rollback() == 2, "the one that was live before, not the next lower one"
    with pytest.raises(TaskError, match="2 of task organs is live already"):
        lifecycle.rollback(2)
    assert registry.publish(NAME) == 4
    assert running(registry) == [(4, False)]


def test_nothing_to_roll_back_to(registry: Registry) -> None:
    for nothing_yet in (registry.lifecycle(NAME).rollback, lambda: go_live(registry)):
        with pytest.raises(TaskError, match="no published revision: fit it and publish it"):
            nothing_yet()
    registry.publish(NAME)
    with pytest.raises(TaskError, match="no earlier revision"):
        registry.lifecycle(NAME).rollback()


def test_what_ran_in_shadow_only_is_not_rolled_back_to(registry: Registry) -> None:
    """Else a rollback would be a way around what a site asks of a revision that goes live."""
    registry.publish(NAME, shadow=True)
    registry.publish(NAME)
    lifecycle = registry.lifecycle(NAME)
    with pytest.raises(TaskError, match="no earlier revision"):
        lifecycle.rollback()
    with pytest.raises(TaskError, match=r"1 of task organs never was live: task go-live organs 1"):
        lifecycle.rollback(1)
    go_live(registry, 1)
    assert lifecycle.rollback() == 2
    assert lifecycle.rollback() == 1


def test_what_is_so_already_is_refused_and_not_noted(registry: Registry) -> None:
    registry.publish(NAME)
    registry.publish(NAME, shadow=True)
    with pytest.raises(TaskError, match="revision 1 of task organs is live already"):
        go_live(registry, 1)
    with pytest.raises(TaskError, match="revision 2 of task organs runs in shadow already"):
        registry.lifecycle(NAME).put_in_shadow(2)
    assert len(registry.lifecycle(NAME).standing().history) == 2


def test_a_damaged_revision_is_not_rolled_back_to(registry: Registry) -> None:
    registry.publish(NAME)
    registry.publish(NAME)
    path = registry.root / NAME / "revisions" / "0001" / "definition.json"
    path.chmod(0o644)
    path.write_text(path.read_text() + " ")
    with pytest.raises(TaskError, match="was altered"):
        registry.lifecycle(NAME).rollback()
    assert running(registry) == [(2, False)]


def test_a_retired_task_takes_nothing_and_comes_back_as_it_was(registry: Registry) -> None:
    registry.publish(NAME)
    registry.publish(NAME, shadow=True)
    lifecycle = registry.lifecycle(NAME)
    lifecycle.retire()
    assert running(registry) == []
    assert lifecycle.revisions() == (1, 2)
    for refused in (
        lambda: registry.publish(NAME),
        lambda: go_live(registry),
        lambda: lifecycle.rollback(1),
        lambda: lifecycle.put_in_shadow(1),
    ):
        with pytest.raises(TaskError, match="is retired: take it back first"):
            refused()
    with pytest.raises(TaskError, match="is retired already"):
        lifecycle.retire()
    lifecycle.retire(undo=True)
    assert running(registry) == [(1, False), (2, True)]
    with pytest.raises(TaskError, match="is not retired"):
        lifecycle.retire(undo=True)


def test_what_never_ran_is_not_retired(registry: Registry) -> None:
    with pytest.raises(TaskError, match="nothing to retire"):
        registry.lifecycle(NAME).retire()


def test_every_change_is_kept_with_who_and_when(registry: Registry) -> None:
    registry.publish(NAME)
    registry.publish(NAME)
    registry.lifecycle(NAME).rollback()
    history = registry.lifecycle(NAME).standing().history
    assert [one.what for one in history] == [
        "published as revision 1, live",
        "published as revision 2, live",
        "rolled back to revision 1",
    ]
    assert [one.live for one in history] == [1, 2, 1]
    assert {one.who for one in history} == {who()}
    assert all(one.time.endswith("+00:00") for one in history)


def test_a_task_of_an_earlier_version_has_its_newest_revision_live(registry: Registry) -> None:
    registry.publish(NAME)
    registry.publish(NAME)
    (registry.root / NAME / "standing.json").unlink()
    assert running(registry) == [(2, False)]
    registry.publish(NAME, shadow=True)
    assert running(registry) == [(2, False), (3, True)]


def test_what_was_live_in_an_earlier_version_is_rolled_back_to(registry: Registry) -> None:
    for _ in range(3):
        registry.publish(NAME)
    (registry.root / NAME / "standing.json").unlink()
    lifecycle = registry.lifecycle(NAME)
    lifecycle.put_in_shadow(2)
    assert lifecycle.rollback() == 2
    assert lifecycle.rollback(1) == 1


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"schema_version": 9}', '{"live": 0}', '{"live": "../1"}', "\0" * 99]
)
def test_a_damaged_standing_costs_only_its_task(registry: Registry, content: str) -> None:
    registry.publish(NAME)
    changed = replace(registry.definition(NAME), rules=(parse_rule("Modality=MR"),))
    registry.update(changed)
    registry.publish(NAME)
    shutil.copytree(registry.root / NAME, registry.root / "sound")
    (registry.root / NAME / "standing.json").write_text(content)
    damaged, sound = registry.candidates()
    assert (damaged.name, sound.name, sound.trouble) == (NAME, "sound", "")
    assert damaged.rules is not None
    assert takes(damaged.rules, facts("CT"))
    assert takes(damaged.rules, facts("MR"))
    assert not takes(damaged.rules, facts("US")), "no revision of it would have taken that"
    broken = damaged.load()
    assert isinstance(broken, BrokenTask)
    assert "task go-live organs REVISION" in broken.reason
    for refused in (lambda: registry.publish(NAME), lambda: registry.lifecycle(NAME).rollback(1)):
        with pytest.raises(TaskError, match="is damaged"):
            refused()
    assert go_live(registry, 1) == 1
    assert running(registry) == [(1, False), (2, False)]
    (kept,) = (registry.root / NAME).glob("standing-damaged-*.json")
    assert kept.read_text() == content


def test_a_standing_that_names_a_lost_revision_costs_only_its_task(registry: Registry) -> None:
    registry.publish(NAME)
    registry.publish(NAME)
    shutil.rmtree(registry.root / NAME / "revisions" / "0002")
    (damaged,) = registry.candidates()
    broken = damaged.load()
    assert isinstance(broken, BrokenTask)
    assert "0002" in broken.reason or "revision 2" in broken.reason
    assert go_live(registry, 1) == 1
    assert running(registry) == [(1, False)]


def test_a_damaged_revision_is_a_broken_task_once_its_series_comes(registry: Registry) -> None:
    registry.publish(NAME)
    weights = registry.root / NAME / "revisions" / "0001" / "adapter.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-1])
    (candidate,) = registry.candidates()
    assert candidate.rules is not None
    assert takes(candidate.rules, facts("CT"))
    assert isinstance(candidate.load(), BrokenTask)


def test_what_is_restored_is_seen_by_a_process_that_runs(registry: Registry) -> None:
    registry.publish(NAME)
    path = registry.root / NAME / "revisions" / "0001" / "definition.json"
    sound = path.read_bytes()
    path.chmod(0o644)
    path.write_text("{")
    (candidate,) = registry.candidates()
    assert (candidate.rules, bool(candidate.trouble)) == (None, True)
    path.write_bytes(sound)
    (candidate,) = registry.candidates()
    assert isinstance(candidate.load(), PublishedTask)


_IN_COPY, _BEFORE_STANDING = "fewshot_node.tasks.revision.folder_digests", "fewshot_node.tasks.lifecycle.write_standing"


@pytest.mark.parametrize(
    ("place", "action", "revisions"),
    [
        (_IN_COPY, lambda registry: registry.publish(NAME), (1, 2)),
        (_BEFORE_STANDING, lambda registry: registry.publish(NAME), (1, 2, 3)),
        (_BEFORE_STANDING, lambda registry: registry.publish(NAME, shadow=True), (1, 2, 3)),
        (_BEFORE_STANDING, lambda registry: registry.lifecycle(NAME).rollback(), (1, 2)),
        ("fewshot_node.disk.sync", lambda registry: registry.lifecycle(NAME).rollback(), (1, 2)),
    ],
)
def test_a_kill_in_the_middle_leaves_what_was_live(
    registry: Registry, place: str, action: Callable[[Registry], object], revisions: tuple[int, ...]
) -> None:
    registry.publish(NAME)
    registry.publish(NAME)
    crash_in(place, lambda: action(registry))
    assert registry.lifecycle(NAME).revisions() == revisions
    assert running(registry) == [(2, False)]
    number = registry.publish(NAME)
    assert number == revisions[-1] + 1
    assert running(registry) == [(number, False)]


def test_a_first_shadow_that_is_cut_short_does_not_go_live_by_being_there(registry: Registry) -> None:
    crash_in("fewshot_node.tasks.standing.Standing.changed", lambda: registry.publish(NAME, shadow=True))
    assert registry.lifecycle(NAME).revisions() == (1,)
    assert running(registry) == []


def test_what_was_cut_short_before_it_was_live_is_not_rolled_back_to(registry: Registry) -> None:
    """Else a shadow, or what has not the score that a site asks for, would be sent after all."""
    crash_in("fewshot_node.tasks.standing.Standing.changed", lambda: registry.publish(NAME, shadow=True))
    assert registry.publish(NAME) == 2
    with pytest.raises(TaskError, match="no earlier revision"):
        registry.lifecycle(NAME).rollback()
    with pytest.raises(TaskError, match=r"revision 1 of task organs never was live: task go-live organs 1"):
        registry.lifecycle(NAME).rollback(1)
    assert standing(registry)["live"] == 2


def test_two_publishers_at_once_make_two_revisions(registry: Registry) -> None:
    barrier, numbers, lock = threading.Barrier(4), [], threading.Lock()

    def publish() -> None:
        barrier.wait()
        number = Registry(registry.root).publish(NAME)
        with lock:
            numbers.append(number)

    threads = [threading.Thread(target=publish) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == [1, 2, 3, 4]
    assert running(registry) == [(4, False)]
    assert len(registry.lifecycle(NAME).standing().history) == 4


def test_who_waits_too_long_is_told_for_whom(registry: Registry) -> None:
    folder = registry.root / NAME
    with task_lock(folder, "task publish"), pytest.raises(TaskError) as caught, task_lock(folder, "other", wait_s=0.1):
        pytest.fail("two held it at once")
    assert f"is being changed by {who()} (task publish, since 20" in str(caught.value)
    with task_lock(folder, "free again", wait_s=0.1):
        pass


def test_a_lock_whose_note_is_garbage_still_locks(registry: Registry) -> None:
    folder = registry.root / NAME
    with task_lock(folder, "task publish"):
        (folder / "lock.json").write_text("[garbage")
        with pytest.raises(TaskError, match="changed by somebody else"), task_lock(folder, "other", wait_s=0.1):
            pytest.fail("two held it at once")


def test_a_change_of_what_somebody_else_has_changed_is_refused(registry: Registry) -> None:
    seen = registry.definition(NAME)
    registry.update(replace(seen, description="theirs"), seen=seen)
    with pytest.raises(TaskError, match="was changed meanwhile"):
        registry.update(replace(seen, rules=()), seen=seen)
    assert registry.definition(NAME).description == "theirs"
    assert registry.definition(NAME).rules == seen.rules


def test_the_standing_is_readable_json(registry: Registry) -> None:
    registry.publish(NAME)
    document = json.loads((registry.root / NAME / "standing.json").read_text())
    assert document["live"] == 1
    assert document["history"][0]["who"] == who()
