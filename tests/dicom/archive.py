"""A PACS to query and retrieve from, whose answers can be made up."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, evt

_MODELS = tuple(f"1.2.840.10008.5.1.4.1.2.2.{number}" for number in (1, 2, 3))


@dataclass
class Archive:
    """A PACS with `datasets`; the replies to C-MOVE and C-GET can be made up."""

    datasets: list[Dataset] = field(default_factory=list)
    hidden: tuple[str, ...] = ()
    pending: int = 0xFF00
    reply: Callable[[evt.Event, int], Iterator[Any]] | None = None
    on_find: Callable[[evt.Event], Iterator[Any]] | None = None
    retrievals: int = 0
    cancelled: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    def find(self, event: evt.Event) -> Iterator[Any]:
        if self.on_find is not None:
            yield from self.on_find(event)
            return
        level = event.identifier.QueryRetrieveLevel
        unique = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}[level]
        for uid in dict.fromkeys(one[unique].value for one in self._matching(event.identifier)):
            of_it = [one for one in self.datasets if one[unique].value == uid]
            found = Dataset()
            for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "Modality"):
                setattr(found, keyword, of_it[0][keyword].value)
            found.NumberOfSeriesRelatedInstances = len(of_it)
            found.StudyDate = of_it[0].get("StudyDate", "")
            for keyword in self.hidden:
                delattr(found, keyword)
            yield self.pending, found

    def get(self, event: evt.Event) -> Iterator[Any]:
        self.retrievals += 1
        if self.reply is not None:
            yield from self.reply(event, self.retrievals)
            return
        matching = self._matching(event.identifier)
        yield len(matching)
        for dataset in matching:
            if event.is_cancelled:
                self.cancelled.set()
                yield 0xFE00, None
                return
            yield 0xFF00, dataset

    def move(self, event: evt.Event) -> Iterator[Any]:
        self.retrievals += 1
        assert self.reply is not None
        yield from self.reply(event, self.retrievals)

    def _matching(self, identifier: Dataset) -> list[Dataset]:
        uids = ("StudyInstanceUID", "SeriesInstanceUID")
        wanted = {keyword: str(identifier[keyword].value) for keyword in uids if identifier.get(keyword)}
        return [one for one in self.datasets if all(one[key].value == uid for key, uid in wanted.items())]


@contextmanager
def archive(peer: Archive) -> Iterator[Archive]:
    entity = AE("ARCHIVE")
    entity.dimse_timeout = entity.network_timeout = entity.acse_timeout = 10
    for model in _MODELS:
        entity.add_supported_context(model)
    entity.add_supported_context(CTImageStorage, ExplicitVRLittleEndian, scu_role=True, scp_role=True)
    handlers: list[Any] = [
        (evt.EVT_C_FIND, peer.find),
        (evt.EVT_C_GET, peer.get),
        (evt.EVT_C_MOVE, peer.move),
        (evt.EVT_C_STORE, lambda _event: 0x0000),
    ]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    peer.port = server.server_address[1]
    try:
        yield peer
    finally:
        server.shutdown()
        for association in server.active_associations:
            if association.is_established:
                association.abort()
