"""A proposal is accepted or rejected by a person, once, and what it says becomes a template."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from fewshot_node.errors import TemplateError, UnknownTaskError
from fewshot_node.tasks.corrections.accept import Images, accept, reject
from fewshot_node.tasks.corrections.proposals import Proposal, Proposals, ProposalState
from fewshot_node.tasks.corrections.scores import own_score
from fewshot_node.tasks.crossval import Engines
from fewshot_node.tasks.crossval.draft import draft_score
from fewshot_node.tasks.templates import Template
from fewshot_node.vision.backbone import DenseEncoder
from tests.tasks.conftest import Example
from tests.tasks.corrections.conftest import Bench, edited_segmentation, moved_report


def far_corner(masks: NDArray[np.uint8]) -> None:
    masks[1, :4, :4, 0] = 1


@pytest.fixture
def proposal(bench: Bench, pushed: Example, tmp_path: Path) -> Proposal:
    bench.process(edited_segmentation(bench.result("SEG"), pushed, tmp_path / "edited.dcm", far_corner))
    (one,) = Proposals(bench.node.settings.tasks).of_task("organs")
    return one


def spooled(bench: Bench) -> Images:
    @contextmanager
    def find(proposal: Proposal) -> Iterator[tuple[Sequence[Path], str]]:
        yield bench.node.spool.series_files(proposal.series_instance_uid), "the spool"

    return find


def test_an_accepted_correction_is_a_template_of_the_draft(bench: Bench, pushed: Example, proposal: Proposal) -> None:
    accept(bench.registry, "organs", proposal.name, "dr-grey", spooled(bench))
    template = next(one for one in bench.registry.templates("organs") if one.name == proposal.name)
    assert 1 in template.slice_indices, "the slice that was corrected"
    corrected = template.slice_indices.index(1)
    assert (template.label_map[corrected, :4, :4] == 1).all()
    assert np.array_equal(template.array[corrected], pushed.array[1])
    decided = Proposals(bench.node.settings.tasks).get("organs", proposal.name)
    assert (decided.state, decided.decided_by) == (ProposalState.ACCEPTED, "dr-grey")
    origin = bench.registry.origins("organs")[proposal.name]
    assert (origin.by, origin.images) == ("dr-grey", "the spool")
    assert any(proposal.correction_instance_uid in note for note in origin.notes)
    assert not bench.registry.is_fitted("organs"), "a draft that is to be fitted and looked at"
    assert bench.registry.revisions("organs") == (1,), "nothing goes live by itself"


def nothing(masks: NDArray[np.uint8]) -> None:
    masks[:] = 0


def no_liver(masks: NDArray[np.uint8]) -> None:
    masks[..., 0] = 0


def accepted(bench: Bench, edited: Path) -> Template:
    """Take a correction in and accept it; return the template as the draft has it."""
    assert "proposed as template" in bench.process(edited).reason
    (one,) = Proposals(bench.node.settings.tasks).of_task("organs")
    accept(bench.registry, "organs", one.name, "dr-grey", spooled(bench))
    return bench.registry.template("organs", one.name)


def test_where_everything_was_removed_it_is_a_negative_template(
    bench: Bench, pushed: Example, tmp_path: Path, encoder: DenseEncoder
) -> None:
    ours = bench.result("SEG")
    template = accepted(bench, edited_segmentation(ours, pushed, tmp_path / "edited.dcm", nothing))
    shown = {int(index) for index in np.flatnonzero(masks_of(ours, pushed).any(axis=(1, 2, 3)))}
    assert template.label_values == ()
    assert shown & set(template.slice_indices), "slices where the task saw what is not there"
    assert not template.label_map.any()
    assert np.array_equal(template.array, pushed.array[list(template.slice_indices)])
    (origin,) = (one for name, one in bench.registry.origins("organs").items() if name == template.name)
    assert any("corrects" in note for note in origin.notes)
    bench.registry.fit("organs", encoder)
    assert bench.registry.publish("organs") == 2, "it is learnt from like any other"


def test_everything_removed_is_learnt_without_our_result_too(bench: Bench, pushed: Example, tmp_path: Path) -> None:
    edited = edited_segmentation(bench.result("SEG"), pushed, tmp_path / "edited.dcm", nothing)
    for path in bench.node.settings.outbox.rglob("*.dcm"):
        path.unlink()
    template = accepted(bench, edited)
    assert (template.label_values, len(template.slice_indices) > 1) == ((), True)


def test_a_structure_that_was_removed_is_background_on_its_slices(
    bench: Bench, pushed: Example, tmp_path: Path
) -> None:
    ours = bench.result("SEG")
    template = accepted(bench, edited_segmentation(ours, pushed, tmp_path / "edited.dcm", no_liver))
    liver, spleen = np.moveaxis(masks_of(ours, pushed), -1, 0)
    most = int(liver.sum(axis=(1, 2)).argmax())
    assert most in template.slice_indices
    assert template.label_values == (3,)
    kept = template.label_map[template.slice_indices.index(most)]
    assert not kept[(liver[most] > 0) & (spleen[most] == 0)].any()


def test_an_annotation_that_was_damaged_is_named(bench: Bench, proposal: Proposal) -> None:
    path = Proposals(bench.node.settings.tasks).annotation(proposal)
    for damaged in (path.read_bytes()[:-30], b"no NIfTI", b""):
        path.write_bytes(damaged)
        with pytest.raises(TemplateError, match=r"labels\.nii\.gz"):
            accept(bench.registry, "organs", proposal.name, "dr-grey", spooled(bench))
    assert Proposals(bench.node.settings.tasks).get("organs", proposal.name).state is ProposalState.PROPOSED


def masks_of(segmentation: Path, source: Example) -> NDArray[np.uint8]:
    """Masks as highdicom reads them: slices in the order of the files, rows, columns, segments."""
    uids = [pydicom.dcmread(path).SOPInstanceUID for path in source.files]
    return hd.seg.segread(segmentation).get_pixels_by_source_instance(uids, assert_missing_frames_are_empty=True)


def test_a_moved_point_is_learnt_where_it_was_moved_to(bench: Bench, tmp_path: Path) -> None:
    (ours,) = bench.node.settings.outbox.rglob("places/report.dcm")
    bench.process(moved_report(ours, tmp_path / "moved.dcm", (1.8, 0.8, 0.0)))  # two columns and a row
    (one,) = Proposals(bench.node.settings.tasks).of_task("places")
    template = accept(bench.registry, "places", one.name, "dr-grey", spooled(bench))
    (label,) = (tracked.label for tracked in bench.node.ledger.tracked_in(one.result_instance_uid))
    assert label.point_mm is not None
    row, column = (label.point_mm[1] - 7.5) / 0.8 + 1, (label.point_mm[0] + 15) / 0.9 + 2
    assert (template.points[0].row, template.points[0].column) == pytest.approx((row, column), abs=1e-3)


def test_a_decision_stands(bench: Bench, proposal: Proposal) -> None:
    reject(bench.registry, "organs", proposal.name, "dr-grey", "motion")
    kept = Proposals(bench.node.settings.tasks).get("organs", proposal.name)
    assert (kept.state, kept.decided_by, kept.reason) == (ProposalState.REJECTED, "dr-grey", "motion")
    for decide in (
        lambda: accept(bench.registry, "organs", proposal.name, "x", spooled(bench)),
        lambda: reject(bench.registry, "organs", proposal.name, "x"),
    ):
        with pytest.raises(TemplateError, match=r"was rejected by dr-grey \(20.*it stands"):
            decide()
    assert proposal.name not in bench.registry.template_names("organs")


def test_what_was_rejected_is_not_proposed_again(
    bench: Bench, pushed: Example, proposal: Proposal, tmp_path: Path
) -> None:
    reject(bench.registry, "organs", proposal.name, "dr-grey")
    bench.process(edited_segmentation(bench.result("SEG"), pushed, tmp_path / "again.dcm", far_corner))
    assert Proposals(bench.node.settings.tasks).of_task("organs", ProposalState.PROPOSED) == ()


def test_accepting_goes_on_where_it_was_broken_off(bench: Bench, proposal: Proposal) -> None:
    accept(bench.registry, "organs", proposal.name, "x", spooled(bench))
    proposals = Proposals(bench.node.settings.tasks)
    proposals.decide(proposal, ProposalState.PROPOSED, "")  # as if it had ended before the note
    accept(bench.registry, "organs", proposal.name, "x", spooled(bench))
    assert proposals.get("organs", proposal.name).state is ProposalState.ACCEPTED


def test_unknown_names_are_told_with_the_known_ones(bench: Bench, proposal: Proposal) -> None:
    with pytest.raises(TemplateError, match=f"no proposal 'nothing': waiting are {proposal.name}"):
        accept(bench.registry, "organs", "nothing", "x", spooled(bench))
    with pytest.raises(UnknownTaskError, match="known tasks: organs, places"):
        reject(bench.registry, "organ", proposal.name, "x")


def test_the_score_is_told_before_and_after(bench: Bench, proposal: Proposal) -> None:
    engines = Engines(bench.models.encoder)
    before = own_score(bench.registry, "organs", engines, most_fits=2)
    accept(bench.registry, "organs", proposal.name, "x", spooled(bench))
    stale = draft_score(bench.registry, "organs")
    after = own_score(bench.registry, "organs", engines, most_fits=2)
    assert before.score is not None
    assert after.score is not None
    assert (before.score.metric, after.score.metric, after.score.units) == ("iou", "iou", 2)
    assert stale is None or not stale.is_current
    assert str(after).startswith(f"iou {after.score.mean:.3f} (")
    assert own_score(bench.registry, "organs", engines) == after, "kept, and not computed again"


def test_a_draft_that_cannot_be_scored_says_why(bench: Bench) -> None:
    for name in bench.registry.template_names("organs"):
        bench.registry.remove_template("organs", name)
    told = str(own_score(bench.registry, "organs", Engines(bench.models.encoder)))
    assert told.startswith("not scored: ")
    assert "template add" in told
