"""A real Orthanc with studies, archives that misbehave, and a node that pulls from either."""

import hashlib
import json
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset

from fewshot_node.config import NodeSettings, PacsSettings, PullSettings
from fewshot_node.dicom.pull.plan import PlannedSeries
from fewshot_node.dicom.pull.progress import PullOutcome, Tally
from fewshot_node.dicom.pull.pull import Pull
from tests.conftest import OrthancServer
from tests.dicom.archive import Archive, archive
from tests.dicom.conftest import STUDY_UID, Intake

ROOT = "1.2.826.0.1.3680043.8.498.40"
Make = Callable[..., Dataset]
Fill = Callable[..., tuple[str, list[str]]]


@dataclass
class View:
    """Remembers what it is told."""

    told: list[str] = field(default_factory=list)
    outcomes: dict[str, PullOutcome] = field(default_factory=dict)
    on_wait: Callable[[str], None] = lambda _reason: None
    on_arrival: Callable[[int], None] = lambda _instances: None

    def starts(self, planned: int) -> None: ...

    def began(self, series: PlannedSeries) -> None: ...

    def waits(self, reason: str) -> None:
        self.told.append(reason)
        self.on_wait(reason)

    def arrived(self, instances: int) -> None:
        self.on_arrival(instances)

    def ended(self, series: PlannedSeries, outcome: PullOutcome, reason: str) -> None:
        self.outcomes[series.series_instance_uid] = outcome


def settings_for(intake: Intake, pacs: PacsSettings, **pull: Any) -> NodeSettings:
    receive = intake.settings.model_copy(update={"port": intake.receiver.port, "reject_below_free_mb": 0})
    return NodeSettings(pacs=pacs, receive=receive, pull=PullSettings(**({"series_per_minute": 1e6} | pull)))


def run_pull(settings: NodeSettings, intake: Intake, plan: Sequence[PlannedSeries], view: View | None = None) -> Tally:
    return Pull(settings, intake.ledger, intake.spool, view or View()).run(plan)


@pytest.fixture
def peer() -> Iterator[Archive]:
    with archive(Archive()) as running:
        yield running


@pytest.fixture
def settings(peer: Archive, intake: Intake) -> NodeSettings:
    """A node that pulls from the archive by C-GET."""
    return settings_for(intake, pacs_of(peer), by="get")


def pacs_of(peer: Archive, **changes: Any) -> PacsSettings:
    return PacsSettings(**({"ae_title": "ARCHIVE", "port": peer.port, "timeout_s": 5, "backoff_s": 0.01} | changes))


def plan_of(*series: str, instances: int | None = 1) -> list[PlannedSeries]:
    return [PlannedSeries(STUDY_UID, uid, "CT", instances) for uid in series]


@pytest.fixture
def pacs(orthanc: OrthancServer) -> PacsSettings:
    return PacsSettings(ae_title=orthanc.aet, port=orthanc.dicom_port, timeout_s=10, backoff_s=0.01)


@pytest.fixture
def introduce(orthanc: OrthancServer) -> Iterator[Callable[[str, int], None]]:
    """Make an AE title known to Orthanc as a move destination; it is forgotten at the end."""
    titles: list[str] = []

    def put(ae_title: str, port: int) -> None:
        body = json.dumps({"AET": ae_title, "Host": "127.0.0.1", "Port": port}).encode()
        request = urllib.request.Request(f"{orthanc.url}/modalities/{ae_title}", body, method="PUT")
        urllib.request.urlopen(request, timeout=10).close()
        titles.append(ae_title)

    yield put
    for title in titles:
        urllib.request.urlopen(
            urllib.request.Request(f"{orthanc.url}/modalities/{title}", method="DELETE"), timeout=10
        ).close()


@pytest.fixture
def fill(orthanc: OrthancServer, make_instance: Make, request: pytest.FixtureRequest) -> Fill:
    """Put a study into Orthanc: series of so many instances; give its UID and those of its series."""

    def put(*counts: int, **changes: Any) -> tuple[str, list[str]]:
        name = f"{request.node.name}{counts}{sorted(changes.items())}"
        study = f"{ROOT}.{int(hashlib.sha256(name.encode()).hexdigest()[:12], 16)}"
        series = [f"{study}.{number}" for number in range(len(counts))]
        for uid, count in zip(series, counts, strict=True):
            for number in range(1, count + 1):
                wanted = {"StudyInstanceUID": study, "StudyDate": "19990101", "PatientID": study[-16:]} | changes
                buffer = BytesIO()
                make_instance(number, uid, **wanted).save_as(buffer, enforce_file_format=True)
                posted = urllib.request.Request(f"{orthanc.url}/instances", buffer.getvalue(), method="POST")
                urllib.request.urlopen(posted, timeout=10).close()
        return study, series

    return put


def spooled(intake: Intake, series_uid: str) -> dict[str, bytes]:
    """Give the pixel data of what the spool has of a series, by SOP Instance UID."""
    files = [pydicom.dcmread(path) for path in intake.spool.series_files(series_uid)]
    return {str(one.SOPInstanceUID): one.PixelData for one in files}
