"""What comes back from a PACS: our own results, corrections of them, and things that only look so."""

import json
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.uid import generate_uid

from fewshot_node.dicom.ledger import SeriesState
from fewshot_node.tasks.corrections.proposals import Proposals, ProposalState
from tests.tasks.conftest import Example
from tests.tasks.corrections.conftest import Bench, edited_segmentation, moved_report

NO_TASK = SeriesState.NO_TASK


@pytest.fixture
def result(bench: Bench) -> Path:
    """Our Segmentation of the series that came in."""
    return bench.result("SEG")


def unchanged(masks: NDArray[np.uint8]) -> None:
    assert masks.any()


def without_spleen(masks: NDArray[np.uint8]) -> None:
    assert masks[..., 1].any()
    masks[..., 1] = 0


def one_corner(masks: NDArray[np.uint8]) -> None:
    assert not masks[5, :4, :4].any()
    masks[5, :4, :4, 0] = 1


def proposals(bench: Bench, task: str = "organs") -> list[str]:
    return [one.name for one in Proposals(bench.node.settings.tasks).of_task(task)]


def test_an_edited_result_becomes_a_proposal(bench: Bench, pushed: Example, result: Path, tmp_path: Path) -> None:
    edited = edited_segmentation(result, pushed, tmp_path / "edited.dcm", one_corner)
    entry = bench.process(edited)
    (proposal,) = Proposals(bench.node.settings.tasks).of_task("organs")
    assert entry.state is NO_TASK
    assert entry.reason == (
        f"correction of task organs revision 1 on series {pushed.series_instance_uid}@1; "
        f"proposed as template {proposal.name} (template proposed organs)"
    )
    assert proposal.state is ProposalState.PROPOSED
    assert (proposal.labels, proposal.slices) == ((1,), (5,))
    assert proposal.correction_instance_uid == str(pydicom.dcmread(edited).SOPInstanceUID)
    labels = nibabel.load(Proposals(bench.node.settings.tasks).annotation(proposal)).get_fdata()
    assert (labels[:4, :4, 5] == 1).all(), "columns, rows and slices of the series, in values of the task"
    assert set(np.unique(labels)) == {0, 1, 3}


def test_the_ledger_links_both_series(bench: Bench, pushed: Example, result: Path, tmp_path: Path) -> None:
    edited = edited_segmentation(result, pushed, tmp_path / "edited.dcm", without_spleen)
    key = bench.process(edited).key
    for uid in (key.series_instance_uid, pushed.series_instance_uid):
        (link,) = bench.node.ledger.corrections(uid)
        assert (link.series_instance_uid, link.source.series_instance_uid, link.labels) == (
            key.series_instance_uid,
            pushed.series_instance_uid,
            (3,),
        )
        assert link.result_instance_uid == str(pydicom.dcmread(result).SOPInstanceUID)


def test_our_own_results_coming_back_start_nothing(bench: Bench, result: Path) -> None:
    report = bench.result("SR")
    entry = bench.process(result)
    assert (entry.state, entry.reason) == (NO_TASK, "our own result came back")
    assert bench.process(report).state is NO_TASK
    assert proposals(bench) == proposals(bench, "places") == []
    assert bench.node.ledger.corrections(entry.key.series_instance_uid) == ()


def test_pictures_that_this_software_made_start_nothing(bench: Bench, pushed: Example, tmp_path: Path) -> None:
    """Rules of both tasks would take them."""
    picture = pydicom.dcmread(pushed.files[0])
    picture.ManufacturerModelName = "fewshot-node"
    picture.SOPInstanceUID = picture.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    picture.SeriesInstanceUID = generate_uid()
    picture.save_as(tmp_path / "picture.dcm")
    entry = bench.process(tmp_path / "picture.dcm")
    assert (entry.state, entry.reason, entry.outcomes) == (NO_TASK, "our own pictures came back", ())


def test_the_same_pixels_under_other_uids_are_no_correction(
    bench: Bench, pushed: Example, result: Path, tmp_path: Path
) -> None:
    entry = bench.process(edited_segmentation(result, pushed, tmp_path / "copy.dcm", unchanged))
    assert (entry.state, entry.reason) == (NO_TASK, "our own result came back, stored as another object")
    assert proposals(bench) == []


def test_the_same_correction_twice_is_one_proposal(bench: Bench, pushed: Example, result: Path, tmp_path: Path) -> None:
    for name in ("one.dcm", "two.dcm"):  # other UIDs each time
        entry = bench.process(edited_segmentation(result, pushed, tmp_path / name, one_corner))
        assert "proposed as template" in entry.reason
    assert len(proposals(bench)) == 1


def test_segments_that_the_viewer_left_out_stay_as_they_were(
    bench: Bench, pushed: Example, result: Path, tmp_path: Path
) -> None:
    """Else the template would teach that there is no spleen."""
    partly = edited_segmentation(result, pushed, tmp_path / "liver.dcm", one_corner, keep=("Liver",))
    bench.process(partly)
    (proposal,) = Proposals(bench.node.settings.tasks).of_task("organs")
    assert proposal.labels == (1,)
    labels = nibabel.load(Proposals(bench.node.settings.tasks).annotation(proposal)).get_fdata()
    assert (labels == 3).any()


@pytest.mark.parametrize(("change", "told"), [(unchanged, "our own result came back"), (one_corner, "proposed as")])
def test_a_segment_that_is_left_out_is_told(
    bench: Bench, pushed: Example, result: Path, tmp_path: Path, change: Callable[..., None], told: str
) -> None:
    """A person who deleted it in the viewer believes that this says that it is not there."""
    reason = bench.process(edited_segmentation(result, pushed, tmp_path / "x.dcm", change, keep=("Liver",))).reason
    assert told in reason
    assert "it leaves out label 3, which counts as not corrected" in reason
    assert "send it as an empty segment, or add a template by hand (template add)" in reason


def test_left_out_segments_need_our_result(bench: Bench, pushed: Example, result: Path, tmp_path: Path) -> None:
    partly = edited_segmentation(result, pushed, tmp_path / "liver.dcm", one_corner, keep=("Liver",))
    for path in bench.node.settings.outbox.rglob("*.dcm"):
        path.unlink()
    entry = bench.process(partly)
    assert entry.state is SeriesState.FAILED
    assert "leaves out label [3] of task organs" in entry.reason
    assert "send a segmentation with all segments" in entry.reason


def test_a_whole_correction_does_not_need_our_result(
    bench: Bench, pushed: Example, result: Path, tmp_path: Path
) -> None:
    edited = edited_segmentation(result, pushed, tmp_path / "edited.dcm", one_corner)
    for path in bench.node.settings.outbox.rglob("*.dcm"):
        path.unlink()
    assert "proposed" in bench.process(edited).reason
    (proposal,) = Proposals(bench.node.settings.tasks).of_task("organs")
    assert (proposal.labels, proposal.slices) == ((1,), ())


def test_images_that_retention_removed_are_asked_for(
    bench: Bench, pushed: Example, result: Path, tmp_path: Path
) -> None:
    edited = edited_segmentation(result, pushed, tmp_path / "edited.dcm", one_corner)
    bench.node.spool.remove_series(pushed.series_instance_uid, len(pushed.files))
    entry = bench.process(edited)
    assert entry.state is SeriesState.FAILED
    assert "whose images are no longer in the spool: fetch them (fewshot-node pull)" in entry.reason


def test_a_moved_point_becomes_a_proposal(bench: Bench, pushed: Example, result: Path, tmp_path: Path) -> None:
    ours = next(path for path in bench.share.iterdir() if "places" in str(pydicom.dcmread(path).SeriesDescription))
    entry = bench.process(moved_report(ours, tmp_path / "moved.dcm", (3.0, -2.0, 0.0)))
    (proposal,) = Proposals(bench.node.settings.tasks).of_task("places")
    assert (entry.state, proposal.labels) == (NO_TASK, (1,))
    written = json.loads(Proposals(bench.node.settings.tasks).annotation(proposal).read_text())
    (before,) = (one.label for one in bench.node.ledger.tracked_in(proposal.result_instance_uid))
    assert before.point_mm is not None
    expected = np.add(before.point_mm, (3.0, -2.0, 0.0))
    assert np.allclose(written["landmarks"]["1"]["position_mm"], expected, atol=1e-3)
    nothing = bench.process(moved_report(ours, tmp_path / "same.dcm", (0.01, 0.0, 0.0)))
    assert nothing.reason == "our own result came back, stored as another object"


def test_a_task_that_is_gone_gets_no_proposal(bench: Bench, pushed: Example, result: Path, tmp_path: Path) -> None:
    edited = edited_segmentation(result, pushed, tmp_path / "edited.dcm", one_corner)
    (bench.node.settings.tasks / "organs").rename(tmp_path / "gone")
    entry = bench.process(edited)
    assert (entry.state, "there is no such task any more" in entry.reason) == (NO_TASK, True)


@pytest.mark.parametrize("tracking_uid", [None, "", "2.25.1", generate_uid()])
def test_foreign_segmentations_end_as_before(
    bench: Bench, pushed: Example, result: Path, tmp_path: Path, tracking_uid: str | None
) -> None:
    foreign = pydicom.dcmread(edited_segmentation(result, pushed, tmp_path / "edited.dcm", one_corner))
    for item in foreign.SegmentSequence:
        del item.TrackingUID
        if tracking_uid is not None:
            item.TrackingUID = tracking_uid
    foreign.save_as(tmp_path / "foreign.dcm")
    entry = bench.process(tmp_path / "foreign.dcm")
    assert (entry.state, entry.reason) == (NO_TASK, "")
    assert proposals(bench) == []


def test_no_identifier_gets_into_a_proposal(bench: Bench, pushed: Example, result: Path, tmp_path: Path) -> None:
    bench.process(edited_segmentation(result, pushed, tmp_path / "edited.dcm", one_corner))
    (name,) = proposals(bench)
    folder = bench.node.settings.tasks / "organs" / "proposed" / name
    written = b"".join(path.read_bytes() for path in folder.iterdir())
    assert b"Secret" not in written
    assert b"19500101" not in written
