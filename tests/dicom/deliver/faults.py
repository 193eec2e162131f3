"""The fault matrix: deliveries through each fault, and what became of them at the PACS."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

from fewshot_node.dicom.deliver.courier import Courier
from fewshot_node.dicom.ledger import DeliveryState, Ledger
from fewshot_node.dicom.ledger.delivery_records import OPEN_DELIVERIES
from tests.dicom.deliver.proxy import NO_FAULT, Fault, Proxy

QUICK = {"backoff_s": 0.05, "longest_wait_s": 0.4, "poll_s": 0.05, "lease_s": 2.0, "attempts": 3}


def _cut_request(seed: int) -> Callable[[int], Fault]:
    chance = random.Random(seed)
    return lambda _number: Fault(cut_request=chance.randint(100, 3000)) if chance.random() < 0.5 else NO_FAULT


def _cut_answer(seed: int) -> Callable[[int], Fault]:
    chance = random.Random(seed)
    return lambda _number: Fault(cut_answer=chance.randint(1, 700)) if chance.random() < 0.5 else NO_FAULT


FAULTS: dict[str, Callable[[int], Fault]] = {
    "none": lambda _number: NO_FAULT,
    "slow (20 ms a packet)": lambda _number: Fault(delay_s=0.02),
    "cut while it sends": _cut_request(1),
    "cut while it answers": _cut_answer(2),
    "cut once it has stored": lambda number: Fault(cut_once_stored=number < 12),
    "everything said twice": lambda _number: Fault(twice=True),
}


@dataclass(frozen=True)
class Tally:
    """What became of deliveries.

    `sent_again` counts C-STORE requests beyond one an object; `repeated` those that the proxy itself repeated.
    """

    deliveries: int
    confirmed: int
    dead: int
    retries: int
    sent_again: int
    repeated: int
    duplicates: int
    losses: int

    def __str__(self) -> str:
        named = zip(self.__dataclass_fields__, (getattr(self, name) for name in self.__dataclass_fields__), strict=True)
        return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in named)


def run_courier(office: Any, seconds: float = 60.0) -> None:
    """Let a courier work until no delivery is open."""
    with Courier(office.ledger, office.settings):
        await_end(office.ledger, seconds)


def await_end(ledger: Ledger, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while any(state in OPEN_DELIVERIES for _, state in ledger.delivery_counts()):
        assert time.monotonic() < deadline, [str(one) + one.reason for one in ledger.deliveries()]
        time.sleep(0.02)


def tally(ledger: Ledger, orthanc: Any, proxy: Proxy) -> Tally:
    """Compare what the ledger says with what Orthanc has."""
    deliveries = ledger.deliveries()
    confirmed = [one for one in deliveries if one.state is DeliveryState.CONFIRMED]
    uids = [uid for one in deliveries for uid in one.instances]
    sent = proxy.sent()
    assert set(sent) >= {uid for one in confirmed for uid in one.instances}, "the proxy sees what is sent"
    held = {uid: _count(orthanc, uid) for uid in uids}
    return Tally(
        deliveries=len(deliveries),
        confirmed=len(confirmed),
        dead=sum(one.state is DeliveryState.DEAD for one in deliveries),
        retries=sum(one.tries - 1 for one in deliveries),
        sent_again=len(sent) - len(set(sent)),
        repeated=len(proxy.stored_twice()),
        duplicates=sum(max(0, count - 1) for count in held.values()),
        losses=sum(held[uid] == 0 for one in confirmed for uid in one.instances),
    )


def _count(orthanc: Any, sop_instance_uid: str) -> int:
    query = {"Level": "Instance", "Query": {"SOPInstanceUID": sop_instance_uid}}
    found: list[str] = httpx.post(f"{orthanc.url}/tools/find", json=query).json()
    return len(found)


def through(fault: str, office: Any, orthanc: Any, series: int, root: str) -> Tally:
    """Deliver the results of so many series through a fault, each series with two objects."""
    with Proxy(orthanc.dicom_port, FAULTS[fault]) as proxy:
        pacs = {"ae_title": orthanc.aet, "port": proxy.port, "timeout_s": 3.0, "calling_ae_title": "FAULTY"}
        office.configure(pacs=pacs, delivery=QUICK)
        for number in range(series):
            office.post(f"{root}.{number}")
        run_courier(office)
    return tally(office.ledger, orthanc, proxy)
