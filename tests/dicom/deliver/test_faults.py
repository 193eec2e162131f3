"""Nothing lost, nothing twice: a real Orthanc behind every fault, and peers that refuse or are full."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import CTImageStorage
from pynetdicom import AE, evt

from fewshot_node.dicom.ledger import Confirmation, DeliveryState, SeriesState
from tests.dicom.deliver.faults import FAULTS, QUICK, await_end, run_courier, tally, through
from tests.dicom.deliver.proxy import Proxy, closed


@pytest.mark.orthanc
@pytest.mark.parametrize("number, fault", list(enumerate(FAULTS)), ids=list(FAULTS))  # noqa: PT006
def test_nothing_is_lost_and_nothing_is_there_twice(running_office: Any, orthanc: Any, number: int, fault: str) -> None:
    found = through(fault, running_office, orthanc, series=3, root=f"1.2.90.{number}")
    print(f"{fault}: {found}")
    assert (found.confirmed, found.duplicates, found.losses) == (3, 0, 0)
    if fault.startswith("cut"):
        assert found.retries > 0, "the fault came"
    if fault == "cut once it has stored":
        assert found.sent_again == 0, "what is there is seen before it is sent again"
    assert (found.repeated > 0) == (fault == "everything said twice")


@pytest.mark.orthanc
def test_a_pacs_that_is_down_for_a_while_is_waited_for(running_office: Any, orthanc: Any) -> None:
    office = running_office
    with Proxy(orthanc.dicom_port) as proxy, closed(proxy, 1.5):
        pacs = {"ae_title": orthanc.aet, "port": proxy.port, "timeout_s": 3.0, "calling_ae_title": "FAULTY"}
        office.configure(pacs=pacs, delivery=QUICK)
        keys = [office.post(f"1.2.91.{number}") for number in range(10)]
        run_courier(office)
        found = tally(office.ledger, orthanc, proxy)
    assert (found.confirmed, found.sent_again, found.duplicates, found.losses) == (10, 0, 0, 0)
    tries = sorted(one.tries for one in office.ledger.deliveries())
    assert tries[:8] == [1] * 8, "while it is down, one delivery tries it for all"
    assert {office.ledger.entry(key).state for key in keys} == {SeriesState.DELIVERED}


@pytest.mark.orthanc
def test_a_courier_that_is_killed_again_and_again_loses_nothing(
    running_office: Any, orthanc: Any, tmp_path: Path
) -> None:
    office = running_office
    with Proxy(orthanc.dicom_port, FAULTS["slow (20 ms a packet)"]) as proxy:
        for number in range(6):
            office.post(f"1.2.92.{number}")
        (tmp_path / "ledger.sqlite").symlink_to(tmp_path / "office.sqlite")
        config = tmp_path / "node.toml"
        delivery = "\n".join(f"{key} = {value}" for key, value in QUICK.items())
        pacs = f'[pacs]\nae_title = "{orthanc.aet}"\nport = {proxy.port}\ntimeout_s = 3.0\ncalling_ae_title = "FAULTY"'
        config.write_text(f'home = "{tmp_path}"\n{pacs}\n[delivery]\n{delivery}\n')
        command = [sys.executable, "-m", "fewshot_node", "--config", str(config), "deliver"]
        for _ in range(2):
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            before = proxy.connections
            deadline = time.monotonic() + 30
            while proxy.connections < before + 2 and time.monotonic() < deadline:
                time.sleep(0.01)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            await_end(office.ledger, 60)
        finally:
            process.terminate()
            assert process.wait(20) == 0
        found = tally(office.ledger, orthanc, proxy)
    assert (found.confirmed, found.dead, found.duplicates, found.losses) == (6, 0, 0, 0)
    assert found.retries >= 1


class Peer:
    """Answers each C-STORE with the next of these statuses, then with success; knows no query."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.kept: list[str] = []

    def on_store(self, event: evt.Event) -> int:
        status = self.statuses.pop(0) if self.statuses else 0x0000
        if status == 0x0000:
            self.kept.append(str(event.request.AffectedSOPInstanceUID))
        return status


@contextmanager
def serving(peer: Peer) -> Iterator[dict[str, Any]]:
    entity = AE(ae_title="PEER")
    entity.add_supported_context(CTImageStorage)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, peer.on_store)])
    yield {"ae_title": "PEER", "port": server.server_address[1], "timeout_s": 5.0}
    server.shutdown()


def test_a_full_peer_is_waited_for_until_it_has_room(running_office: Any) -> None:
    office, peer = running_office, Peer(*[0xA700] * 6)
    with serving(peer) as pacs:
        office.configure(pacs=pacs, delivery=QUICK)
        key = office.post("1.2.93")
        run_courier(office)
    (confirmed,) = office.ledger.deliveries(key=key)
    assert (confirmed.state, confirmed.tries, confirmed.refusals) == (DeliveryState.CONFIRMED, 7, 0)
    assert confirmed.confirmed_by is Confirmation.STATUS, "it has no query: its word is all there is"
    assert sorted(peer.kept) == sorted(confirmed.instances)


def test_a_peer_that_refuses_gets_no_more_than_it_is_to_be_asked(running_office: Any) -> None:
    office, peer = running_office, Peer(*[0xC000] * 3)
    with serving(peer) as pacs:
        office.configure(pacs=pacs, delivery=QUICK)
        key = office.post("1.2.94")
        run_courier(office)
        (dead,) = office.ledger.deliveries(key=key)
        assert (dead.state, dead.tries) == (DeliveryState.DEAD, 3)
        assert "0xC000" in dead.reason
        assert office.ledger.entry(key).state is SeriesState.FAILED
        bytes_before = [path.read_bytes() for path in office.files(key)]
        assert office.ledger.redeliver("1.2.94") == key  # the operator has mended the peer
        run_courier(office)
    assert office.ledger.entry(key).state is SeriesState.DELIVERED
    assert [path.read_bytes() for path in office.files(key)] == bytes_before
    assert sorted(peer.kept) == sorted(dead.instances)


def test_a_refusing_destination_keeps_no_other(running_office: Any, tmp_path: Path) -> None:
    office, peer = running_office, Peer(*[0xC000] * 100)
    share = tmp_path / "share"
    share.mkdir()
    with serving(peer) as pacs:
        destinations = {"share": {"kind": "folder", "path": share}}
        office.configure(pacs=pacs, delivery={**QUICK, "destinations": destinations})
        key = office.post("1.2.95", to=("pacs", "share"))
        run_courier(office)
    states = {one.destination: one.state for one in office.ledger.deliveries(key=key)}
    assert states == {"pacs": DeliveryState.DEAD, "share": DeliveryState.CONFIRMED}
    assert len(list(share.iterdir())) == 2
    assert office.ledger.entry(key).reason.startswith("liver: pacs: PACS PEER")
