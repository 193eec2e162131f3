"""One try at a delivery: claimed, carried, and its end noted, whatever it is."""

import logging
import os
import random
import socket
import time
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime, timedelta

from pydicom.uid import generate_uid

from fewshot_node.config import NodeSettings
from fewshot_node.dicom.deliver.address import carrier_to
from fewshot_node.dicom.deliver.backoff import waiting_time
from fewshot_node.dicom.deliver.carrier import Carrier, Receipt
from fewshot_node.dicom.deliver.parcels import unpack
from fewshot_node.dicom.deliver.report import CommitmentReport
from fewshot_node.dicom.ledger import Confirmation, Delivery, DeliveryState, Ledger, TryEnd, utc_now
from fewshot_node.dicom.periodic import Periodic
from fewshot_node.errors import (
    DeliveryError,
    FewshotNodeError,
    InternalError,
    PeerTroubleError,
    PeerUnavailableError,
    RetryableError,
)

logger = logging.getLogger(__name__)


class Attempts:
    """Tries deliveries for one process; may be used by several threads.

    Parameters
    ----------
    chance
        Source of the jitter.
    carriers
        From a delivery's destination to what carries it there.
    """

    def __init__(
        self,
        ledger: Ledger,
        settings: NodeSettings,
        clock: Callable[[], datetime] = utc_now,
        chance: random.Random | None = None,
        carriers: Callable[[str, NodeSettings], Carrier] = carrier_to,
    ) -> None:
        self._ledger = ledger
        self._settings = settings
        self._clock = clock
        self._chance = chance or random.Random()
        self._carriers = carriers
        self._holder = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"

    def make(self, delivery: Delivery) -> TryEnd | None:
        """Try a delivery that is due; None when another has it, or its end came by another way.

        Raises
        ------
        RetryableError
            The ledger is busy.
        """
        transaction_uid = str(generate_uid(prefix=None))
        lease_s = self._settings.delivery.lease_s
        claimed = self._ledger.claim_delivery(delivery, self._holder, lease_s, transaction_uid)
        if claimed is None:
            return None
        started = time.monotonic()
        with self._renewing(claimed):
            # A commitment that has not come in time is not waited for a second time.
            end = self._carry(claimed, None if claimed.state is DeliveryState.SENT else transaction_uid)
        return self._note(claimed, end, time.monotonic() - started)

    def take_report(self, report: CommitmentReport) -> bool:
        """Note what a peer reports of a storage commitment; False when nothing awaits it."""
        delivery = self._ledger.awaiting_commitment(report.transaction_uid)
        if delivery is None:
            return False
        try:
            report.check(delivery.instances)
            end = self._confirmed(Confirmation.COMMITMENT)
        except DeliveryError as error:
            end = self._failed(delivery, error)
        noted = self._ledger.end_commitment(delivery, end)
        if noted:
            _log(delivery, end)
        return noted

    def _carry(self, delivery: Delivery, transaction_uid: str | None) -> TryEnd:
        try:
            paths = unpack(self._settings.outbox, delivery)
            receipt = self._carriers(delivery.destination, self._settings).carry(paths, transaction_uid)
        except FewshotNodeError as error:
            return self._failed(delivery, error)
        except Exception as error:  # noqa: BLE001  one delivery must not keep the others
            # Only the kind: the text of a foreign exception can hold values of data sets.
            kind = type(error).__name__
            return self._failed(delivery, InternalError(f"internal error ({kind}): please report it"))
        return self._received(receipt)

    def _received(self, receipt: Receipt) -> TryEnd:
        if receipt.confirmed_by is not None:
            return self._confirmed(receipt.confirmed_by)
        wait = timedelta(seconds=self._settings.delivery.commitment_wait_s)
        return TryEnd(DeliveryState.SENT, self._clock() + wait, "storage commitment is awaited")

    def _confirmed(self, by: Confirmation) -> TryEnd:
        return TryEnd(DeliveryState.CONFIRMED, self._clock(), confirmed_by=by)

    def _failed(self, delivery: Delivery, error: FewshotNodeError) -> TryEnd:
        """Judge a failure: waited out, counted as a refusal, or final."""
        settings, now = self._settings.delivery, self._clock()
        is_unavailable = isinstance(error, PeerUnavailableError)
        refused = not is_unavailable
        too_old = now - delivery.queued >= timedelta(hours=settings.give_up_after_h)
        too_often = refused and delivery.refusals + 1 >= settings.attempts
        is_final = not isinstance(error, RetryableError) or too_often or (is_unavailable and too_old)
        return TryEnd(
            state=DeliveryState.DEAD if is_final else DeliveryState.WAITING,
            next_try=now if is_final else now + waiting_time(delivery.tries, settings, self._chance),
            reason=str(error),
            refused=refused,
            out_of_reach=is_unavailable and not isinstance(error, PeerTroubleError),
        )

    def _note(self, delivery: Delivery, end: TryEnd, seconds: float) -> TryEnd | None:
        end = replace(end, seconds=round(seconds, 3))
        if not self._ledger.end_delivery(delivery, self._holder, end):
            return None
        _log(delivery, end)
        if end.state is DeliveryState.WAITING and end.out_of_reach:
            self._ledger.postpone(delivery.destination, end.next_try)
        elif not end.out_of_reach:
            self._ledger.hasten(delivery.destination)
        return end

    def _renewing(self, delivery: Delivery) -> AbstractContextManager[object]:
        lease_s = self._settings.delivery.lease_s

        def renew() -> bool:
            return self._ledger.renew_delivery(delivery, self._holder, lease_s)

        return Periodic("delivery", renew, lease_s / 3, "a delivery could not be kept", at_once=False)


def _log(delivery: Delivery, end: TryEnd) -> None:
    if end.state is DeliveryState.DEAD:
        logger.error("delivery %s is a dead letter after %d tries: %s", delivery, delivery.tries, end.reason)
    elif end.state is DeliveryState.WAITING:
        when = f"{end.next_try:%H:%M:%S} UTC"
        logger.warning("delivery %s, try %d failed, the next at %s: %s", delivery, delivery.tries, when, end.reason)
    else:
        by = f"by {end.confirmed_by}" if end.confirmed_by else end.reason
        logger.info("delivery %s: %s %s, %.1f s", delivery, end.state, by, end.seconds)
