"""A newcomer's walk: from an annotated series to a live task and its results, by command line alone."""

import re
import shlex
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import highdicom
import nibabel
import pydicom
import pytest

from fewshot_node.config import load_settings
from fewshot_node.dicom.ledger import (
    Confirmation,
    DeliveryState,
    Ledger,
    Parcel,
    SeriesNote,
    SeriesState,
    TaskOutcome,
    TryEnd,
)
from fewshot_node.dicom.objects.seg_reading import read_segmentation
from fewshot_node.dicom.objects.volume import read_volume
from fewshot_node.evaluation.phantom_series import write_labels_nifti, write_series
from fewshot_node.evaluation.phantoms import PhantomSettings, torso_ct
from fewshot_node.records import MadeReport, ReportReference
from tests.cli.conftest import Printed

README = Path(__file__).parents[2] / "README.md"
Run = Callable[..., Printed]
SMALL = PhantomSettings(slices=14, rows=96, columns=96, slice_mm=14.0, pixel_mm=4.0)


def commands_of_the_readme() -> list[list[str]]:
    """What README's section "Teach a task" tells a newcomer to type, word by word."""
    section = README.read_text(encoding="utf-8").split("## Teach a task")[1]
    script = section.split("```sh\n")[1].split("```")[0].replace("\\\n", " ")
    return [shlex.split(line, comments=True) for line in script.splitlines() if line.strip()]


def type_in(run: Run, names: dict[str, Path], *more: str) -> list[Printed]:
    """Type the README's commands, with one's own files for those that it names, and `more` behind the first."""
    printed = []
    for command in commands_of_the_readme():
        assert command[:3] == ["fewshot-node", "--config", "node.toml"]
        words = [names.get(word, word) for word in command[3:]]
        printed.append(run(*words, *(() if printed else more)))
        assert printed[-1].status == 0, printed[-1].error
    assert len(printed) == 5
    return printed


def results_in(printed: Printed) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(line) for line in printed.out.splitlines() if line.endswith(".dcm")]


@pytest.mark.timeout(600)  # the default adapter, twice a machine that others use
def test_five_commands_of_the_readme_to_a_live_task(run: Run, tmp_path: Path) -> None:
    taught, new = torso_ct(5, SMALL), torso_ct(6, SMALL)
    series = write_series(taught, tmp_path / "taught", patient_index=5)
    write_labels_nifti(taught, tmp_path / "labels.nii.gz")
    pushed = write_series(new, tmp_path / "new", patient_index=6)
    names = {
        "ANNOTATED_SERIES_DIR": series.folder,
        "labels.nii.gz": tmp_path / "labels.nii.gz",
        "NEW_SERIES_DIR": pushed.folder,
        "results": tmp_path / "out",
    }
    added, template, fitted, published, done = type_in(run, names)
    assert "template add liver" in added.out
    assert "slices spread over the labelled content" in template.out
    assert "task fit liver" in template.out
    assert "task publish liver" in fitted.out
    assert "liver revision 1 is live" in published.out
    assert "encode" in done.out

    segmentation, report = results_in(done)
    assert [segmentation.Modality, report.Modality] == ["SEG", "SR"]
    found = read_segmentation(segmentation, read_volume(pushed.files))
    assert [(label.name, label.type.value) for label in found.labels] == [("Liver", "10200004")]
    truth = new.label_map == 1
    overlap = 2 * (found.label_map.astype(bool) & truth).sum() / (found.label_map.astype(bool).sum() + truth.sum())
    assert overlap > 0.5

    assert "takes it" in run("route", "explain", pushed.folder).out
    run("task", "change", "liver", "--rule", "Modality=CT", "--rule", "BodyPartExamined=KNEE")
    assert "revision 2 is live" in run("task", "publish", "liver").out
    explained = run("route", "explain", pushed.folder).out
    assert "does not take it" in explained
    assert "yes  Modality=CT" in explained
    assert "no   BodyPartExamined=KNEE   seen: ABDOMEN" in explained
    listed = run("task", "list").out
    assert "revision 2" in listed
    shown = run("task", "show", "liver").out
    assert "10200004" in shown  # Liver in SNOMED CT
    assert "refine   walker" in shown


@pytest.mark.shared_data
def test_the_readme_on_a_real_series(run: Run, shared_data: Path, tmp_path: Path) -> None:
    """Every fifth slice of the middle of a CT teaches, slices between them are asked about; a quick adapter."""
    headers = {path: pydicom.dcmread(path) for path in (shared_data / "series" / "ct-liver-3d").iterdir()}
    order = sorted(headers, key=lambda path: float(headers[path].ImagePositionPatient[2]))
    truth = nibabel.load(shared_data / "series" / "ct-liver-3d.labels.nii.gz")
    rising = truth.affine[2, 2] > 0
    for name, start in (("taught", 40), ("new", 42)):
        (tmp_path / name).mkdir()
        for path in order[start:100:5]:
            shutil.copy(path, tmp_path / name)
    kept = slice(40, 100, 5) if rising else slice(len(order) - 1 - 40, len(order) - 1 - 100, -5)
    nibabel.save(truth.slicer[:, :, kept], tmp_path / "labels.nii.gz")
    names = {
        "ANNOTATED_SERIES_DIR": tmp_path / "taught",
        "labels.nii.gz": tmp_path / "labels.nii.gz",
        "NEW_SERIES_DIR": tmp_path / "new",
        "results": tmp_path / "out",
    }
    segmentation = results_in(type_in(run, names, "--adapter", "lda", "--refine", "none")[-1])[0]
    assert highdicom.seg.Segmentation.from_dataset(segmentation).get_volume().array.any()


def test_an_unpublished_task_cannot_be_run(run: Run, tmp_path: Path) -> None:
    run("task", "add", "organs", "--label", "1=Liver")
    series = write_series(torso_ct(5, SMALL), tmp_path / "series", patient_index=5)
    printed = run("run", series.folder, "--task", "organs", "--out", tmp_path / "out")
    assert printed.status == 1
    assert "publish" in printed.error


@pytest.fixture
def ended(home: Path) -> str:
    """A series that failed in one task and was delivered by another."""
    settings = load_settings(home)
    settings.home.mkdir()
    ledger = Ledger(settings.ledger_url)
    came = SeriesNote.of_one("1.2.3", "1.2", "CT1", 100, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), stated=3)
    twice = ("instance 1.2.3.4 came twice with other content", datetime(2026, 1, 2, tzinfo=UTC))
    ledger.note_instances([came], {"1.2.3": [twice]})
    key = ledger.close("1.2.3")
    assert key is not None
    assert ledger.claim(key, 1, "worker", 60)
    outcomes = (
        TaskOutcome("liver", 3, SeriesState.DELIVERED, "", "2.25.1", "2.25.2", {"encode": 1.25}),
        TaskOutcome("knee", 1, SeriesState.FAILED, "the PACS is away"),
    )
    assert ledger.finish(key, "worker", SeriesState.FAILED, "knee: the PACS is away", outcomes)
    return "1.2.3"


def test_an_operator_sees_how_a_series_ended_and_starts_it_again(run: Run, ended: str) -> None:
    assert "knee: the PACS is away" in run("series", "list", "--state", "failed").out
    assert "no series" in run("series", "list", "--state", "delivered").out
    shown = run("series", "show", ended).out
    for text in ("from      CT1, 1/3 instances", "liver revision 3: delivered", "2.25.1", "encode 1.2 s", "came twice"):
        assert text in shown
    assert "queued again" in run("series", "retry", ended).out
    assert "warning   2026-01-02 00:00:00 instance 1.2.3.4 came twice" in shown
    assert "complete" in run("series", "list").out
    refused = run("series", "retry", ended)
    assert (refused.status, "has not ended yet" in refused.error) == (1, True)


def test_an_operator_sees_which_report_a_newer_one_replaces(run: Run, home: Path, ended: str) -> None:
    ledger = Ledger(load_settings(home).ledger_url)
    old, new = (ReportReference("1.2", f"2.25.{number}0", f"2.25.{number}") for number in (71, 72))
    for attempt, report in enumerate(
        (MadeReport("liver", old, "2.25.71"), MadeReport("liver", new, "2.25.73", old)), 2
    ):
        key = ledger.retry(ended)
        assert key is not None
        assert ledger.claim(key, attempt, "worker", 60)
        uid = report.reference.sop_instance_uid
        outcome = TaskOutcome("liver", 3, SeriesState.DELIVERED, "", "2.25.1", uid, report=report)
        assert ledger.finish(key, "worker", SeriesState.DELIVERED, "", (outcome,))
        shown = run("series", "show", ended).out
        assert ("it replaces SR 2.25.71" in shown) is (uid == "2.25.72")


def test_an_operator_finds_what_the_checks_did_not_let_out(run: Run, home: Path, ended: str) -> None:
    kept = load_settings(home).outbox / f"{ended}@1" / "knee.rejected"
    assert "not let out" not in run("series", "show", ended).out
    kept.mkdir(parents=True)
    shown = run("series", "show", ended).out
    assert "".join(shown.split()).count("".join(f"not let out by the checks, kept for a look: {kept}".split())) == 1


def test_an_operator_sees_where_everything_is(run: Run, home: Path, ended: str) -> None:
    shown = run("series", "summary").out
    assert "nothing is unfinished" in shown
    assert re.search(r"failed\W+1\b", shown)
    assert re.search(r"receiving\W+0\b", shown)
    for day in (4, 3):
        came = SeriesNote.of_one(f"1.2.{day}", "1.2", "CT1", 100, datetime(2026, 1, day, tzinfo=UTC))
        Ledger(load_settings(home).ledger_url).note_instances([came])
    shown = run("series", "summary").out
    assert re.search(r"receiving\W+2\b", shown)
    assert "oldest unfinished: since 2026-01-03 00:00:00" in shown


def test_an_operator_starts_all_failed_series_again(run: Run, ended: str) -> None:
    assert f"{ended}@1 is queued again" in run("series", "retry", "--state", "failed").out
    assert "no series" in run("series", "list", "--state", "failed").out


def test_a_series_that_retention_removed_cannot_be_started_again(run: Run, home: Path, ended: str) -> None:
    ledger = Ledger(load_settings(home).ledger_url)
    entry = ledger.get(ended)
    assert entry is not None
    assert ledger.mark_removed(entry.key, entry.state, 1, datetime(2026, 2, 3, tzinfo=UTC))
    assert "removed   2026-02-03 00:00:00" in run("series", "show", ended).out
    refused = run("series", "retry", ended)
    assert (refused.status, "were removed (retention): send or pull it again" in refused.error) == (1, True)


def test_an_operator_closes_a_series_early(run: Run, home: Path) -> None:
    settings = load_settings(home)
    settings.home.mkdir()
    came = SeriesNote.of_one("1.2.9", "1.2", "CT1", 100, datetime(2026, 1, 2, tzinfo=UTC))
    Ledger(settings.ledger_url).note_instances([came])
    assert "1.2.9@1 is complete" in run("series", "close", "1.2.9").out
    refused = run("series", "close", "1.2.9")
    assert (refused.status, "is not being received" in refused.error) == (1, True)


@pytest.fixture
def undelivered(home: Path) -> str:
    """A series whose results one destination has confirmed and the other refused for good."""
    ledger = Ledger(load_settings(home).ledger_url)
    ledger.note_instances([SeriesNote.of_one("1.2.9", "1.2", "CT1", 100, datetime(2026, 1, 2, tzinfo=UTC))])
    key = ledger.close("1.2.9")
    assert key is not None
    assert ledger.claim(key, 1, "worker", 60)
    outcome = TaskOutcome("liver", 3, SeriesState.DELIVERING, "", "2.25.1", "2.25.2", {})
    parcels = [Parcel("liver", name, ("2.25.1", "2.25.2")) for name in ("pacs", "share")]
    assert ledger.finish(key, "worker", SeriesState.DELIVERING, "", [outcome], parcels)
    now = datetime(2026, 1, 2, tzinfo=UTC)
    ends = {
        "pacs": TryEnd(DeliveryState.DEAD, now, "refuses 2.25.1", refused=True),
        "share": TryEnd(DeliveryState.CONFIRMED, now, confirmed_by=Confirmation.READ_BACK),
    }
    for one in ledger.deliveries():
        claimed = ledger.claim_delivery(one, "me", 30, "9.9")
        assert claimed is not None
        assert ledger.end_delivery(claimed, "me", ends[one.destination])
    return "1.2.9"


def test_an_operator_sees_where_results_went_and_sends_dead_letters_again(run: Run, undelivered: str) -> None:
    shown = run("delivery", "list").out
    assert "refuses 2.25.1" in shown
    assert "read back" in shown
    assert "read back" not in run("delivery", "list", "--state", "dead letter").out
    assert re.search(r"pacs\W+dead letter\W+1\b", run("delivery", "summary").out)
    shown = run("series", "show", undelivered).out
    assert "to pacs: dead letter, 1 tries, refuses 2.25.1" in shown
    assert "to share: confirmed, 1 tries, read back" in shown
    assert "are sent again" in run("delivery", "retry", "--destination", "pacs").out
    assert "delivering" in run("series", "list").out
    refused = run("delivery", "retry", undelivered)
    assert (refused.status, "no delivery of that kind is a dead letter" in refused.error) == (1, True)


@pytest.mark.parametrize("arguments", [["1.2.9"], ["--state", "failed"]])
def test_a_series_that_only_could_not_be_delivered_is_not_computed_again(
    run: Run, undelivered: str, arguments: list[str]
) -> None:
    assert f"results of {undelivered}@1 are sent again" in run("series", "retry", *arguments).out
    assert "delivering" in run("series", "list").out


def test_unless_that_is_wanted(run: Run, undelivered: str) -> None:
    assert "queued again" in run("series", "retry", undelivered, "--recompute").out
