"""What a person sees of corrections, and says of them."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import nibabel
import numpy as np
import pytest

from fewshot_node.config import PacsSettings, load_settings
from fewshot_node.dicom.ledger import CorrectionLink, Ledger, SeriesNote
from fewshot_node.dicom.send import store
from fewshot_node.evaluation.phantom_series import PhantomSeries, write_labels_nifti, write_series
from fewshot_node.evaluation.phantoms import Phantom, PhantomSettings, torso_ct
from fewshot_node.records import SeriesKey
from fewshot_node.tasks.corrections.proposals import Proposal, Proposals
from tests.cli.conftest import Printed
from tests.conftest import OrthancServer

Run = Callable[..., Printed]
SMALL = PhantomSettings(slices=14, rows=64, columns=64, slice_mm=14.0, pixel_mm=6.0)


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return torso_ct(5, SMALL)


@pytest.fixture
def series(phantom: Phantom, home: Path) -> PhantomSeries:
    return write_series(phantom, home.parent / "series", patient_index=5)


@pytest.fixture
def proposal(run: Run, home: Path, series: PhantomSeries, phantom: Phantom) -> str:
    """A correction of a result on a series that waits."""
    labels = ["--label", "1=Liver", "--label", "2=Spleen", "--label", "3=Left kidney", "--label", "4=Right kidney"]
    assert run("task", "add", "organs", *labels).status == 0
    uids = (series.study_instance_uid, series.series_instance_uid)
    came = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    one = Proposal("correction-1", "organs", 3, *uids, "2.25.1", "9.1", (1, 4), (5,), came)

    def write(folder: Path) -> Path:
        write_labels_nifti(phantom, folder / "labels.nii.gz")
        return folder / "labels.nii.gz"

    assert Proposals(load_settings(home).tasks).propose(one, write)
    return one.name


def spool(home: Path, series: PhantomSeries) -> None:
    folder = load_settings(home).spool / "series" / series.series_instance_uid
    folder.mkdir(parents=True)
    for path in series.files:
        (folder / path.name).hardlink_to(path)


def test_waiting_corrections_are_listed(run: Run, proposal: str, series: PhantomSeries) -> None:
    for listed in (run("template", "proposed").out, run("template", "proposed", "organs").out):
        row = next(line for line in listed.splitlines() if proposal in line)
        for text in ("organs", "revision 3", "Liver, Right kidney", "2026-01-02 03:04", series.series_instance_uid):
            assert text in row


def test_without_corrections_that_is_said(run: Run) -> None:
    run("task", "add", "organs", "--label", "1=Liver")
    assert run("template", "proposed").out.strip() == "no corrections wait"


def test_a_correction_is_accepted(run: Run, home: Path, proposal: str, series: PhantomSeries) -> None:
    spool(home, series)
    accepted = run("template", "accept", "organs", proposal, "--by", "dr-grey", "--no-crossval")
    assert accepted.status == 0, accepted.error
    assert f"template {proposal}" in accepted.out
    assert "task fit organs" in accepted.out
    assert proposal in run("template", "list", "organs").out
    assert "no corrections wait" in run("template", "proposed", "organs").out
    assert "accepted by dr-grey" in run("template", "proposed", "organs", "--all").out


def test_a_correction_that_removed_everything_is_told_to_be_negative(
    run: Run, home: Path, proposal: str, series: PhantomSeries
) -> None:
    spool(home, series)
    path = load_settings(home).tasks / "organs" / "proposed" / proposal / "labels.nii.gz"
    image = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine), path)
    accepted = run("template", "accept", "organs", proposal, "--no-crossval")
    assert (accepted.status, f"negative template {proposal} with" in accepted.out) == (0, True), accepted.error


def test_a_correction_is_rejected_by_somebody(run: Run, proposal: str) -> None:
    rejected = run("template", "reject", "organs", proposal, "--reason", "motion")
    assert (rejected.status, f"{proposal} is rejected by " in rejected.out) == (0, True)
    assert ": motion" in run("template", "proposed", "--all").out
    again = run("template", "accept", "organs", proposal)
    assert (again.status, "was rejected by" in again.error, "it stands" in again.error) == (1, True, True)


def test_images_that_are_gone(run: Run, proposal: str, series: PhantomSeries) -> None:
    refused = run("template", "accept", "organs", proposal, "--no-crossval")
    assert refused.status == 1
    assert f"(series {series.series_instance_uid})" in refused.error
    assert "not in the spool any more, and fetching them failed: " in refused.error
    assert "127.0.0.1:1" in refused.error, "the PACS that was asked"
    assert "no corrections wait" not in run("template", "proposed").out


def test_an_unknown_proposal(run: Run, proposal: str) -> None:
    refused = run("template", "reject", "organs", "corection-1")
    assert (refused.status, f"no proposal 'corection-1': waiting are {proposal}" in refused.error) == (1, True)


def test_a_damaged_proposal(run: Run, home: Path, proposal: str) -> None:
    folder = load_settings(home).tasks / "organs" / "proposed" / proposal
    data = json.loads((folder / "proposal.json").read_text())
    for damage in ({**data, "schema_version": 9}, {**data, "state": "perhaps"}):
        (folder / "proposal.json").write_text(json.dumps(damage))
        refused = run("template", "proposed")
        assert (refused.status, "proposal.json" in refused.error) == (1, True)


def test_both_series_say_so(run: Run, home: Path) -> None:
    settings = load_settings(home)
    settings.home.mkdir()
    ledger = Ledger(settings.ledger_url)
    for uid in ("1.2.3", "9"):
        ledger.note_instances([SeriesNote.of_one(uid, "1.2", "CT1", 100, datetime(2026, 1, 2, tzinfo=UTC))])
    ledger.note_correction(CorrectionLink("9.1", "9", SeriesKey("1.2.3", 2), "organs", 4, "2.25.1", (1, 3)))
    assert "corrects  task organs revision 4, labels 1, 3 on series 1.2.3@2 (2.25.1)" in run("series", "show", "9").out
    assert "corrected task organs revision 4, labels 1, 3 by series 9 (9.1)" in run("series", "show", "1.2.3").out


@pytest.mark.orthanc
def test_images_that_left_the_spool_come_from_the_pacs(
    run: Run, home: Path, proposal: str, series: PhantomSeries, orthanc: OrthancServer
) -> None:
    pacs = PacsSettings(ae_title=orthanc.aet, port=orthanc.dicom_port)
    store(series.files, pacs)
    home.write_text(home.read_text().replace("[pacs]\nport = 1", f"[pacs]\nport = {orthanc.dicom_port}"))
    accepted = run("template", "accept", "organs", proposal, "--no-crossval")
    assert accepted.status == 0, accepted.error
    assert proposal in run("template", "list", "organs").out
