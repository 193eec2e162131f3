"""The PACS of the demonstration where no Orthanc is installed."""

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread

from fewshot_node.demo import archive as archives
from fewshot_node.dicom.query import fetch_series, list_series
from fewshot_node.dicom.send import echo, store
from fewshot_node.errors import PeerUnavailableError
from fewshot_node.evaluation.phantom_ct import TORSO_SETTINGS
from fewshot_node.evaluation.phantom_series import PhantomSeries, write_series
from fewshot_node.evaluation.phantoms import torso_ct
from fewshot_node.supervise import Supervisor

START_S = 40.0


def wait_until_up(archive: archives.Archive) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            return echo(archive.settings)
        except PeerUnavailableError:
            assert time.monotonic() < deadline, archive.process.log and archive.process.log.read_text()
            time.sleep(0.1)


@pytest.fixture
def without_orthanc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives.shutil, "which", lambda *_args, **_options: None)


@pytest.fixture
def stand_in(tmp_path: Path, without_orthanc: None) -> Iterator[archives.Archive]:
    archive = archives.choose_archive(tmp_path / "pacs")
    with Supervisor([archive.process]):
        wait_until_up(archive)
        yield archive


@pytest.fixture
def series(tmp_path: Path) -> PhantomSeries:
    settings = dataclasses.replace(TORSO_SETTINGS, slices=3, rows=32, columns=32, pixel_mm=12)
    return write_series(torso_ct(1, settings), tmp_path / "series", patient_index=1)


def test_the_stand_in_takes_and_lists(stand_in: archives.Archive, series: PhantomSeries) -> None:
    assert "Orthanc is not installed" in stand_in.description
    store(series.files, stand_in.settings)
    listed = list_series(series.study_instance_uid, stand_in.settings)
    # it answers at SERIES level once for each instance
    assert {(one.series_instance_uid, one.modality) for one in listed} == {(series.series_instance_uid, "CT")}


def test_the_stand_in_gives_back(stand_in: archives.Archive, series: PhantomSeries) -> None:
    store(series.files, stand_in.settings)
    fetched = fetch_series(series.study_instance_uid, series.series_instance_uid, stand_in.settings)
    sent = {dataset.SOPInstanceUID: dataset.PixelData for dataset in map(dcmread, series.files)}
    assert {dataset.SOPInstanceUID: dataset.PixelData for dataset in fetched} == sent


def test_orthanc_is_taken_where_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives.shutil, "which", lambda *_args, **_options: "/somewhere/Orthanc")
    archive = archives.choose_archive(tmp_path / "pacs")
    assert list(archive.process.command) == ["/somewhere/Orthanc", str(tmp_path / "pacs" / "orthanc.json")]
