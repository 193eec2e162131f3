"""A revision that is exported and imported is the same revision, and nothing but an adoption lets it work."""

import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import dcmread

from fewshot_node.dicom.objects.volume import read_volume
from fewshot_node.errors import TaskError, UnknownTaskError
from fewshot_node.models import Models
from fewshot_node.pipeline import produce
from fewshot_node.records import ReceivedSeries, SeriesKey
from fewshot_node.steps import run_directly
from fewshot_node.tasks.exchange import adopt, export_task, import_task, load_waiting, waiting_revisions
from fewshot_node.tasks.registry import Registry
from fewshot_node.tasks.task import PublishedTask, TaskDefinition
from fewshot_node.vision.backbone import DenseEncoder
from tests.tasks.conftest import Example
from tests.tasks.crash import crash_in, die
from tests.tasks.exchange.conftest import ANYBODY


def results(task: PublishedTask, example: Example, encoder: DenseEncoder, out: Path) -> dict[str, bytes]:
    received = ReceivedSeries(SeriesKey(example.series_instance_uid), "1.2", "SCANNER", example.files)
    files = produce(received, read_volume(example.files), task, Models(encoder), out, run_directly)
    return {str(dcmread(path).SOPInstanceUID): path.read_bytes() for path in files.paths}


@pytest.mark.parametrize("templates", [True, False])
def test_another_site_gets_the_same_results(
    origin: Registry, site: Registry, example: Example, encoder: DenseEncoder, tmp_path: Path, templates: bool
) -> None:
    written = export_task(origin, "organs", tmp_path / "organs.task", templates=templates)
    assert (written.templates, written.signed_by) == (int(templates), None)
    done = import_task(site, tmp_path / "organs.task", ANYBODY)
    there, here = origin.published("organs"), load_waiting(site, "organs", done.revision)
    assert (done.task, done.revision, done.templates, done.was_here) == ("organs", 1, templates, False)
    assert here.digest == there.digest == written.digest == done.digest
    ours = results(here, example, encoder, tmp_path / "here")
    assert ours == results(there, example, encoder, tmp_path / "there")
    assert len(ours) == 2


def test_the_same_revision_makes_the_same_bytes(origin: Registry, exported: Path, tmp_path: Path) -> None:
    again = Registry(tmp_path / "copy")
    shutil.copytree(origin.root, again.root)
    export_task(again, "organs", tmp_path / "again.task")
    assert (tmp_path / "again.task").read_bytes() == exported.read_bytes()


def test_an_imported_revision_takes_no_series_until_it_is_adopted(site: Registry, exported: Path) -> None:
    import_task(site, exported, ANYBODY)
    assert site.revisions("organs") == ()
    assert waiting_revisions(site, "organs") == (1,)
    number, digest = adopt(site, "organs", 1)
    taken = site.published("organs", number)
    assert (taken.revision, taken.digest) == (1, digest)
    assert waiting_revisions(site, "organs") == ()


def test_an_imported_revision_can_be_looked_at_first(site: Registry, origin: Registry, exported: Path) -> None:
    shutil.copytree(origin.root, site.root)
    import_task(site, exported, ANYBODY, "west")
    number, digest = adopt(site, "west", 1, shadow=True)
    candidates = [(one.name, one.revision, one.is_shadow) for one in site.candidates()]
    assert candidates == [("organs", 1, False), ("west", 1, True)]
    assert site.lifecycle("west").load(number).digest == digest
    assert [one.what for one in site.lifecycle("west").standing().history] == ["adopted as revision 1, shadow"]
    assert site.lifecycle("west").go_live(None, lambda folder: None) == 1
    assert site.published("west").digest == digest


def test_a_shadow_that_comes_leaves_what_is_live(site: Registry, exported: Path) -> None:
    import_task(site, exported, ANYBODY)
    site.publish("organs")
    number, _ = adopt(site, "organs", 1, shadow=True)
    standing = site.lifecycle("organs").standing()
    assert (number, standing.live, standing.shadow) == (2, 1, 2)


def test_an_imported_revision_needs_the_score_that_a_published_one_needs(site: Registry, exported: Path) -> None:
    import_task(site, exported, ANYBODY)
    with pytest.raises(TaskError, match=r"not crossvalidated.*0\.7.*\(task adopt organs 1 --shadow\)"):
        adopt(site, "organs", 1, minimum_score=0.7)
    assert (waiting_revisions(site, "organs"), site.revisions("organs")) == ((1,), ())
    assert adopt(site, "organs", 1, shadow=True, minimum_score=0.7)[0] == 1


def test_the_score_comes_with_the_revision(
    site: Registry, origin: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score = {"metric": "iou", "mean": 0.8, "low": 0.7, "high": 0.9, "units": 2}
    there = Registry(tmp_path / "there")
    shutil.copytree(origin.root, there.root)
    with monkeypatch.context() as patch:
        patch.setattr("fewshot_node.tasks.lifecycle.score_note", lambda draft: {"score": score})
        there.publish("organs")
    export_task(there, "organs", tmp_path / "scored.task", templates=False)
    import_task(site, tmp_path / "scored.task", ANYBODY)
    with pytest.raises(TaskError, match=r"reached iou 0\.80 .*score of 0\.9"):
        adopt(site, "organs", 2, minimum_score=0.9)
    assert adopt(site, "organs", 2, minimum_score=0.8)[0] == 2


def test_a_retired_task_adopts_nothing_and_loses_nothing(site: Registry, exported: Path) -> None:
    import_task(site, exported, ANYBODY)
    site.publish("organs")
    site.lifecycle("organs").retire()
    for shadow in (False, True):
        with pytest.raises(TaskError, match=r"is retired: take it back first \(task retire organs --undo\)"):
            adopt(site, "organs", 1, shadow=shadow)
    assert (waiting_revisions(site, "organs"), site.revisions("organs")) == ((1,), (1,))
    site.lifecycle("organs").retire(undo=True)
    assert adopt(site, "organs", 1)[0] == 2
    assert site.published("organs").revision == 2


@pytest.mark.parametrize("place", ["fewshot_node.tasks.revision.reseal_revision", "fewshot_node.disk.sync"])
@pytest.mark.parametrize("shadow", [False, True])
def test_a_kill_in_the_middle_of_adopting_leaves_it_waiting(
    site: Registry, exported: Path, place: str, shadow: bool
) -> None:
    import_task(site, exported, ANYBODY)
    crash_in(place, lambda: adopt(site, "organs", 1, shadow=shadow))
    assert waiting_revisions(site, "organs") == (1,)
    assert site.candidates() == ()
    assert adopt(site, "organs", 1)[0] == 1


def test_a_kill_before_it_is_live_leaves_it_waiting(site: Registry, exported: Path) -> None:
    import_task(site, exported, ANYBODY)
    crash_in("fewshot_node.tasks.standing.Standing.changed", lambda: adopt(site, "organs", 1, shadow=True))
    assert waiting_revisions(site, "organs") == (1,)
    assert site.candidates() == (), "the newest revision of a task is not live by being there"
    number, _ = adopt(site, "organs", 1)
    assert site.published("organs").revision == number


def test_a_kill_when_it_is_taken_away_leaves_it_whole_or_not_there(site: Registry, exported: Path) -> None:
    """What is half removed could not be adopted any more, and would be shown as waiting for ever."""
    import_task(site, exported, ANYBODY)

    def begin_removing(folder: Path, **options: object) -> None:
        for path in Path(folder).glob("fit.json"):
            path.unlink()
            die()
        remove(folder, **options)

    remove = shutil.rmtree
    crash_in("shutil.rmtree", lambda: adopt(site, "organs", 1), begin_removing)
    assert site.published("organs").revision == 1
    for left in waiting_revisions(site, "organs"):
        load_waiting(site, "organs", left)
    assert import_task(site, exported, ANYBODY).was_here


def test_what_was_adopted_is_not_adopted_again(site: Registry, exported: Path) -> None:
    import_task(site, exported, ANYBODY)
    adopt(site, "organs", 1)
    with pytest.raises(UnknownTaskError, match="no imported revision 1 that waits: it is one of its own already"):
        adopt(site, "organs", 1)


def test_the_draft_comes_too_and_can_be_taught_further(site: Registry, origin: Registry, exported: Path) -> None:
    import_task(site, exported, ANYBODY)
    assert site.definition("organs") == origin.definition("organs")
    assert site.template_names("organs") == origin.template_names("organs")
    assert site.is_fitted("organs")
    (name,) = site.template_names("organs")
    site.remove_template("organs", name)
    assert site.template_names("organs") == ()
    assert load_waiting(site, "organs", 1).digest == origin.published("organs").digest


def test_provenance_is_kept(site: Registry, origin: Registry, exported: Path) -> None:
    import_task(site, exported, ANYBODY)
    folder, there = load_waiting(site, "organs", 1).folder, origin.published("organs")
    assert (folder / "provenance.json").read_bytes() == (there.folder / "provenance.json").read_bytes()
    note = json.loads((folder / "imported.json").read_text())
    assert (note["task"], note["revision"], note["digest"]) == ("organs", 1, there.digest)
    assert note["imported_by"]
    assert note["imported"]


def test_the_same_file_twice_is_imported_once(site: Registry, exported: Path) -> None:
    import_task(site, exported, ANYBODY)
    assert import_task(site, exported, ANYBODY).was_here
    adopt(site, "organs", 1)
    again = import_task(site, exported, ANYBODY)
    assert (again.was_here, again.revision) == (True, 1)
    assert waiting_revisions(site, "organs") == ()


def test_under_another_name_it_is_another_revision(site: Registry, origin: Registry, exported: Path) -> None:
    done = import_task(site, exported, ANYBODY, "liver-west")
    here = load_waiting(site, "liver-west", 1)
    assert here.definition.name == "liver-west"
    assert here.digest == done.digest != origin.published("organs").digest
    assert import_task(site, exported, ANYBODY, "liver-west").was_here


def test_beside_revisions_of_its_own_a_task_gets_the_next_number(
    site: Registry, origin: Registry, exported: Path
) -> None:
    shutil.copytree(origin.root, site.root)
    definition = site.definition("organs")
    site.update(replace(definition, description="ours"))
    site.publish("organs")
    (site.root / "organs" / "revisions" / "0001").rename(site.root / "gone")  # else the file would be ours already
    done = import_task(site, exported, ANYBODY)
    assert (done.revision, site.revisions("organs")) == (3, (2,))
    site.update(replace(definition, description="ours again"))
    assert site.publish("organs") == 3
    number, digest = adopt(site, "organs", 3)
    assert number == 4, "after what was published meanwhile"
    assert site.published("organs", 4).digest == digest


def test_a_task_that_learns_something_else_is_left_alone(
    site: Registry, exported: Path, definition: TaskDefinition
) -> None:
    site.add(replace(definition, labels=definition.labels[:1]))
    with pytest.raises(TaskError, match=r"learns segmentation of 1=Liver, the file .*3=Spleen: .*--as NAME"):
        import_task(site, exported, ANYBODY)
    assert waiting_revisions(site, "organs") == ()


def test_a_name_that_is_no_folder(site: Registry, exported: Path) -> None:
    with pytest.raises(TaskError, match=r"'\.\./liver' is not acceptable"):
        import_task(site, exported, ANYBODY, "../liver")


def test_what_does_not_wait_cannot_be_adopted(site: Registry, exported: Path) -> None:
    import_task(site, exported, ANYBODY)
    with pytest.raises(UnknownTaskError, match="no imported revision 7 that waits: waiting are 1"):
        adopt(site, "organs", 7)


def test_an_imported_revision_that_was_altered_is_not_adopted(site: Registry, exported: Path) -> None:
    import_task(site, exported, ANYBODY)
    path = load_waiting(site, "organs", 1).folder / "fit.json"
    path.chmod(0o644)
    path.write_text("{}")
    with pytest.raises(TaskError, match=r"altered.*fit\.json"):
        adopt(site, "organs", 1)


def test_without_templates_the_weights_are_still_verified(origin: Registry, site: Registry, tmp_path: Path) -> None:
    export_task(origin, "organs", tmp_path / "organs.task", templates=False)
    with zipfile.ZipFile(tmp_path / "organs.task") as archive:
        assert not any("templates" in name for name in archive.namelist())
    import_task(site, tmp_path / "organs.task", ANYBODY)
    assert site.template_names("organs") == ()
    adapter = load_waiting(site, "organs", 1).folder / "adapter.safetensors"
    adapter.chmod(0o644)
    adapter.write_bytes(adapter.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(TaskError, match=r"altered.*adapter\.safetensors"):
        load_waiting(site, "organs", 1)
