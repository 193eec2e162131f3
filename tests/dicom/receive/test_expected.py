"""Counts that the PACS knows, asked of a real Orthanc."""

import io
import json
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydicom import config
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pynetdicom import AE, evt

from fewshot_node.config import PacsSettings, ReceiveSettings
from fewshot_node.dicom.ledger import Ledger, SeriesEntry, SeriesNote
from fewshot_node.dicom.receive.completion import close_quiet_series
from fewshot_node.dicom.receive.expected import ExpectedCounts, count_at_pacs
from fewshot_node.errors import DeliveryError, PeerUnavailableError

NOON = datetime(2024, 5, 1, 12, 0, tzinfo=UTC)
SERIES, STUDY = "1.2.826.0.1.3680043.8.498.77", "1.2.826.0.1.3680043.8.498.1"


@pytest.fixture
def odd_pacs() -> Iterator[Callable[[list[tuple[str, str]]], PacsSettings]]:
    """Run a PACS that answers with these (Series Instance UID, number of instances)."""
    servers: list[Any] = []

    def start(said: list[tuple[str, str]]) -> PacsSettings:
        def find(_event: evt.Event) -> Iterator[tuple[int, Dataset]]:
            for uid, count in said:
                answer = Dataset()
                answer.QueryRetrieveLevel, answer.SeriesInstanceUID = "SERIES", uid
                # LO is written as it is; the asker reads it by the VR that is sent, or by the dictionary's
                answer.add(DataElement(0x00201209, "LO", count, validation_mode=config.IGNORE))
                yield 0xFF00, answer

        entity = AE("ODD")
        entity.add_supported_context("1.2.840.10008.5.1.4.1.2.2.1")
        handlers: list[Any] = [(evt.EVT_C_FIND, find)]
        server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        servers.append(server)
        return PacsSettings(ae_title="ODD", port=server.server_address[1], timeout_s=10)

    yield start
    for server in servers:
        server.shutdown()


@pytest.fixture
def pacs(orthanc: Any, make_instance: Any) -> PacsSettings:
    """An Orthanc that holds three instances of the series."""
    for number in (1, 2, 3):
        encoded = io.BytesIO()
        make_instance(number, SERIES).save_as(encoded, enforce_file_format=True)
        with urllib.request.urlopen(f"{orthanc.url}/instances", data=encoded.getvalue(), timeout=10) as answer:
            assert json.load(answer)["Status"] in {"Success", "AlreadyStored"}
    return PacsSettings(ae_title=orthanc.aet, port=orthanc.dicom_port, timeout_s=10)


def come(ledger: Ledger, instances: int, series: str = SERIES) -> None:
    for _ in range(instances):
        ledger.note_instances([SeriesNote.of_one(series, STUDY, "CT1", 1, NOON)])


@pytest.mark.orthanc
def test_a_series_that_the_pacs_has_no_more_of_is_complete_at_once(ledger: Ledger, pacs: PacsSettings) -> None:
    asking, now = ExpectedCounts(ledger, pacs), NOON + timedelta(seconds=1)
    come(ledger, 2)
    come(ledger, 1, "1.2.3")  # the PACS does not know it
    asking.ask_once()
    assert close_quiet_series(ledger, ReceiveSettings(), (), now) == []
    come(ledger, 1)
    asking.ask_once()
    closed = close_quiet_series(ledger, ReceiveSettings(), (), now)
    assert [key.series_instance_uid for key in closed] == [SERIES]
    assert {entry.key.series_instance_uid: entry.expected for entry in ledger.series()} == {SERIES: 3, "1.2.3": None}


@pytest.mark.orthanc
def test_the_loop_asks_until_it_knows(ledger: Ledger, pacs: PacsSettings, eventually: Any) -> None:
    come(ledger, 1)
    with ExpectedCounts(ledger, pacs, ask_again_s=0.01):
        eventually(lambda: ledger.get(SERIES).expected == 3)  # type: ignore[union-attr]


def test_a_pacs_that_is_away_costs_one_log_line(
    ledger: Ledger, free_port: Any, caplog: pytest.LogCaptureFixture, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = PacsSettings(port=free_port(), timeout_s=1)
    come(ledger, 1)
    entry = ledger.get(SERIES)
    assert entry is not None
    with pytest.raises(PeerUnavailableError):
        count_at_pacs(entry, away)
    asked: list[int] = []

    def counted(entry: SeriesEntry, pacs: PacsSettings) -> int | None:
        asked.append(1)
        return count_at_pacs(entry, pacs)

    monkeypatch.setattr("fewshot_node.dicom.receive.expected.count_at_pacs", counted)
    with ExpectedCounts(ledger, away, ask_again_s=0.01):
        eventually(lambda: len(asked) > 3)
    lines = [record.getMessage() for record in caplog.records if record.name.endswith("periodic")]
    assert len(lines) == 1
    assert "does not answer" in lines[0]


@pytest.mark.parametrize("count", ["many", "5\\6", "-5", "0", "", "5.5", "1e400", "1000001", "9" * 40])
def test_what_is_no_number_of_instances_is_no_answer(ledger: Ledger, odd_pacs: Any, count: str) -> None:
    come(ledger, 1)
    ExpectedCounts(ledger, odd_pacs([(SERIES, count)])).ask_once()
    entry = ledger.get(SERIES)
    assert entry is not None
    assert entry.expected is None


def test_a_pacs_that_answers_for_other_series_too_is_understood(ledger: Ledger, odd_pacs: Any) -> None:
    come(ledger, 1)
    ExpectedCounts(ledger, odd_pacs([("1.2.3", "500"), (SERIES, "7"), (SERIES, "8")])).ask_once()
    entry = ledger.get(SERIES)
    assert entry is not None
    assert entry.expected == 8


def test_a_pacs_that_hangs_does_not_keep_the_receiver_from_stopping(ledger: Ledger, eventually: Any) -> None:
    come(ledger, 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(10)
        away = PacsSettings(port=silent.getsockname()[1], timeout_s=8)
        with ExpectedCounts(ledger, away, ask_again_s=0.01):
            connection, _ = silent.accept()
            started = time.monotonic()
        assert time.monotonic() - started < 4
        connection.close()
        eventually(lambda: not [thread for thread in threading.enumerate() if thread.name == "expected"])


def test_a_series_that_the_pacs_refuses_keeps_no_other(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    come(ledger, 1)
    come(ledger, 1, "1.2.3")  # heard of later or at the same time: the order must not matter
    refused = iter([DeliveryError("PACS answers C-FIND with status 0xC000: look at its log")])

    def refuse_the_first(_entry: SeriesEntry, _pacs: PacsSettings) -> int:
        for refusal in refused:
            raise refusal
        return 7

    monkeypatch.setattr("fewshot_node.dicom.receive.expected.count_at_pacs", refuse_the_first)
    with pytest.raises(DeliveryError, match="0xC000"):
        ExpectedCounts(ledger, PacsSettings()).ask_once()
    assert sorted((entry.expected or 0) for entry in ledger.series()) == [0, 7]
