"""Results to a DICOM peer: C-STORE, confirmed by storage commitment where it is offered, else by C-FIND."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from fewshot_node.config import PacsSettings
from fewshot_node.dicom.association import peer_name
from fewshot_node.dicom.deliver.carrier import Receipt, not_listed
from fewshot_node.dicom.deliver.commitment import request_commitment
from fewshot_node.dicom.ledger import Confirmation
from fewshot_node.dicom.query import InstanceReference, missing_instances, read_reference
from fewshot_node.dicom.send import store
from fewshot_node.errors import UnsupportedError

logger = logging.getLogger(__name__)


class DicomCarrier:
    """Stores files on a DICOM peer."""

    def __init__(self, peer: PacsSettings) -> None:
        self._peer = peer

    def carry(self, paths: Sequence[Path], transaction_uid: str | None) -> Receipt:
        """Store what the peer does not list yet, and make sure that it keeps everything; see `Carrier`."""
        references = {read_reference(path): path for path in paths}
        self._store_absent(references)
        if transaction_uid is not None and self._peer.commitment:
            try:
                return self._committed(list(references), transaction_uid)
            except UnsupportedError as error:
                logger.debug("no storage commitment: %s", error)
        return self._found(list(references))

    def _store_absent(self, references: Mapping[InstanceReference, Path]) -> None:
        try:
            absent = set(missing_instances(list(references), self._peer))
        except UnsupportedError:
            absent = {one.sop_instance_uid for one in references}
        wanted = [path for one, path in references.items() if one.sop_instance_uid in absent]
        if wanted:
            store(wanted, self._peer)

    def _committed(self, references: Sequence[InstanceReference], transaction_uid: str) -> Receipt:
        report = request_commitment(references, self._peer, transaction_uid)
        if report is None:
            return Receipt(None)  # it comes over an association of the peer's own
        report.check([one.sop_instance_uid for one in references])
        return Receipt(Confirmation.COMMITMENT)

    def _found(self, references: Sequence[InstanceReference]) -> Receipt:
        try:
            absent = missing_instances(references, self._peer)
        except UnsupportedError:
            return Receipt(Confirmation.STATUS)
        if absent:
            raise not_listed(peer_name(self._peer), absent)
        return Receipt(Confirmation.FIND)
