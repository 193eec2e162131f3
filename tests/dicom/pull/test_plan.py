"""What is planned, of an Orthanc and of archives that answer oddly."""

from collections.abc import Iterator
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pynetdicom import evt

from fewshot_node.config import NodeSettings, PacsSettings
from fewshot_node.dicom.pull.plan import PlannedSeries, Wanted, plan_pull
from fewshot_node.dicom.pull.query_keys import parse_keys
from fewshot_node.errors import (
    DeliveryError,
    PermanentError,
)
from tests.dicom.archive import Archive
from tests.dicom.conftest import STUDY_UID
from tests.dicom.pull.conftest import ROOT, Fill, Make


@pytest.mark.orthanc
def test_a_query_finds_studies_and_series(fill: Fill, pacs: PacsSettings) -> None:
    fill(1, StudyDate="20240110", StudyDescription="Head")
    study, series = fill(1, StudyDate="20240120", StudyDescription="Abdomen and pelvis")
    keys = parse_keys(["StudyDate=20240101-20240131", "StudyDescription=*bdomen*", "ModalitiesInStudy=ct"])
    assert [one.study_instance_uid for one in plan_pull(Wanted(keys=keys), pacs)] == [study]
    keys = parse_keys(["StudyDate=20240120", "Modality=MR"])
    assert plan_pull(Wanted(keys=keys), pacs) == ()
    assert plan_pull(Wanted((study,), modalities=("MR",)), pacs) == ()
    [found] = plan_pull(Wanted((), (series[0],)), pacs)
    assert found.study_instance_uid == study


@pytest.mark.orthanc
def test_a_series_that_is_not_there_is_named(pacs: PacsSettings) -> None:
    with pytest.raises(PermanentError, match=r"does not list series 1.2.3 .*--study"):
        plan_pull(Wanted((), ("1.2.3",)), pacs)


def test_answers_without_end_are_broken_off(
    peer: Archive, settings: NodeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fewshot_node.dicom.pull.plan._MOST_MATCHES", 50)

    def endless(event: evt.Event) -> Iterator[Any]:
        number = 0
        while not event.is_cancelled and event.assoc.is_established:
            number += 1
            found = Dataset()
            found.StudyInstanceUID = f"1.2.{number}"
            found.StudyDate = "20260101"
            yield 0xFF00, found

    peer.on_find = endless
    with pytest.raises(DeliveryError, match=r"lists more than 50 matches"):
        plan_pull(Wanted(keys=parse_keys(["StudyDate=20260101"])), settings.pacs)


def test_a_plan_has_a_longest_size(
    peer: Archive, settings: NodeSettings, make_instance: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer.datasets = [make_instance(1, f"{ROOT}.{number}") for number in (11, 12)]
    assert len(plan_pull(Wanted((STUDY_UID,)), settings.pacs)) == 2
    monkeypatch.setattr("fewshot_node.dicom.pull.plan._MOST_PLANNED", 1)
    with pytest.raises(DeliveryError, match=r"lists more than 1 series: ask for less"):
        plan_pull(Wanted((STUDY_UID,)), settings.pacs)


@pytest.mark.parametrize("how", ["attribute left out", "status"])
def test_an_archive_that_ignores_a_key_is_not_believed(
    how: str, peer: Archive, settings: NodeSettings, make_instance: Make
) -> None:
    """PS3.4 C.4.1.1.4 and C.2.2.1.3: an ignored optional key makes a query match the whole archive."""
    peer.datasets = [make_instance(1)]
    peer.hidden = ("StudyDate",) if how == "attribute left out" else ()
    peer.pending = 0xFF00 if how == "attribute left out" else 0xFF01
    keys = parse_keys(["StudyDate=20260101"])
    with pytest.raises(DeliveryError, match=r"does not match by.*StudyDate.*--all"):
        plan_pull(Wanted(keys=keys), settings.pacs)
    assert len(plan_pull(Wanted(keys=keys, ignored_keys=True), settings.pacs)) == 1


def test_uids_that_are_none_and_odd_values_are_left_out(
    peer: Archive, settings: NodeSettings, caplog: pytest.LogCaptureFixture
) -> None:
    def odd(event: evt.Event) -> Iterator[Any]:
        study = str(event.identifier.get("StudyInstanceUID") or f"{ROOT}.1")
        for series_uid, modality, study_uid in [
            ("../../etc", "CT", study),
            ("1.2.3", "SECRET^PERSON\x1b[2J", study),
            ("1.2.4", "CT", "1.9.9"),
        ]:
            found = Dataset()
            for keyword, value in (("SeriesInstanceUID", series_uid), ("StudyInstanceUID", study_uid)):
                found[keyword] = pydicom.DataElement(keyword, "UI", value, validation_mode=pydicom.config.IGNORE)
            found["Modality"] = pydicom.DataElement("Modality", "CS", modality, validation_mode=pydicom.config.IGNORE)
            found["NumberOfSeriesRelatedInstances"] = pydicom.DataElement(
                "NumberOfSeriesRelatedInstances", "LO", "many", validation_mode=pydicom.config.IGNORE
            )
            yield 0xFF00, found

    peer.on_find = odd
    plan = plan_pull(Wanted((f"{ROOT}.1",)), settings.pacs)
    assert plan == (PlannedSeries(f"{ROOT}.1", "1.2.3", "?", None),)
    assert "SECRET" not in caplog.text
