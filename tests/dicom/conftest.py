"""Intake fixtures: small instances, a sender that can misbehave, and running receivers."""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from pydicom import config
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import _read_file_meta_info, read_preamble
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, build_context, evt
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu import A_ASSOCIATE_RJ

from fewshot_node.config import ReceiveSettings
from fewshot_node.dicom.ledger import Ledger, SeriesEntry
from fewshot_node.dicom.receive.receiver import Receiver
from fewshot_node.dicom.spool import Spool

STUDY_UID = "1.2.826.0.1.3680043.8.498.1"
SERIES_UID = "1.2.826.0.1.3680043.8.498.2"
DEADLINE_S = 20.0


def small_instance(number: int = 1, series_uid: str = SERIES_UID, pixel_bytes: int = 32, **changes: Any) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = f"{series_uid}.{number}"
    dataset.Modality = "CT"
    dataset.PatientName = "SECRET^PERSON"
    dataset.PatientID = "SECRET-ID"
    dataset.PatientBirthDate = "19010203"
    dataset.StudyInstanceUID = STUDY_UID
    dataset.SeriesInstanceUID = series_uid
    dataset.InstanceNumber = number
    dataset.Columns = 8 if pixel_bytes < 1000 else 500
    dataset.Rows = pixel_bytes // (2 * dataset.Columns)
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation, dataset.SamplesPerPixel = 15, 0, 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.PixelData = bytes(number % 251 for _ in range(pixel_bytes))
    for keyword, value in changes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = f"{series_uid}.{number}"
    return dataset


def _encode(dataset: Dataset) -> bytes:
    """Encode the data set alone, as explicit VR little endian."""
    buffer = BytesIO()
    plain = Dataset(dataset)
    plain.file_meta = FileMetaDataset()
    dcmwrite(buffer, plain, implicit_vr=False, little_endian=True, enforce_file_format=False)
    return buffer.getvalue()


def _split(path: Path) -> tuple[FileMetaDataset, bytes]:
    """Give the File Meta Information of a file and the bytes of its data set."""
    with path.open("rb") as file:
        read_preamble(file, force=False)
        meta = _read_file_meta_info(file)
        return meta, file.read()


@dataclass
class Sender:
    """A storage SCU with one association, which sends what it is told to.

    `received` are the PDUs that came: of a quick rejection `association.is_rejected` may not tell.
    """

    association: Any
    received: list[Any]
    _numbers: Iterator[int]
    _connection: Any = None

    def __post_init__(self) -> None:
        # pynetdicom forgets to close it when the peer has died.
        transport = self.association.dul.socket
        self._connection = transport.socket if transport is not None else None

    @property
    def rejection(self) -> A_ASSOCIATE_RJ | None:
        """What the association was rejected with."""
        return next((pdu for pdu in self.received if isinstance(pdu, A_ASSOCIATE_RJ)), None)

    def store(self, dataset: Dataset) -> int:
        return self.store_raw(dataset.SOPInstanceUID, _encode(dataset))

    def store_raw(
        self,
        sop_instance_uid: str,
        encoded: bytes,
        sop_class_uid: str = CTImageStorage,
        transfer_syntax_uid: str = ExplicitVRLittleEndian,
    ) -> int:
        """Send bytes as a data set and give the status; -1 when the association ended instead."""
        message, context_id = self._message(sop_instance_uid, encoded, sop_class_uid, transfer_syntax_uid)
        # Keep the association's own thread from taking the answer.
        self.association._reactor_checkpoint.clear()
        wait_for(lambda: self.association._is_paused)
        for fragment in message.encode_msg(context_id, self.association.dimse.maximum_pdu_size):
            self.association.dul.send_pdu(fragment)
        _, answer = self.association.dimse.get_msg(block=True)
        self.association._reactor_checkpoint.set()
        return -1 if answer is None else int(answer.Status)

    def begin(self, sop_instance_uid: str, encoded: bytes, fragments: int) -> None:
        """Send the command and the first fragments of a data set, and no more."""
        message, context_id = self._message(sop_instance_uid, encoded, CTImageStorage, ExplicitVRLittleEndian)
        for _, fragment in zip(range(fragments + 1), message.encode_msg(context_id, 16384), strict=False):
            self.association.dul.send_pdu(fragment)

    def accepts(self, sop_class_uid: str, transfer_syntax_uid: str) -> bool:
        return self._context_id(sop_class_uid, transfer_syntax_uid) is not None

    def echo(self) -> int:
        return int(self.association.send_c_echo().Status)

    def release(self) -> None:
        if self.association.is_established:
            self.association.release()
        if self._connection is not None:
            self._connection.close()

    def _context_id(self, sop_class_uid: str, transfer_syntax_uid: str) -> int | None:
        for context in self.association.accepted_contexts:
            if (context.abstract_syntax, context.transfer_syntax[0]) == (sop_class_uid, transfer_syntax_uid):
                return int(context.context_id)
        return None

    def _message(
        self, sop_instance_uid: str, encoded: bytes, sop_class_uid: str, transfer_syntax_uid: str
    ) -> tuple[C_STORE_RQ, int]:
        request = C_STORE()
        request.MessageID = next(self._numbers) % 65536
        request.AffectedSOPClassUID = UID(sop_class_uid)
        request.AffectedSOPInstanceUID = UID("1.2")
        request.Priority = 2
        request.DataSet = BytesIO(encoded)
        message = C_STORE_RQ()
        message.primitive_to_message(request)
        # Past the checks of the primitive.
        named = DataElement("AffectedSOPInstanceUID", "UI", sop_instance_uid, validation_mode=config.IGNORE)
        message.command_set.add(named)
        if not encoded:
            message.command_set.CommandDataSetType = 0x0101  # no data set present
        message._set_command_group_length()
        context_id = self._context_id(sop_class_uid, transfer_syntax_uid)
        assert context_id is not None, f"{sop_class_uid} in {transfer_syntax_uid} was not accepted"
        return message, context_id


@dataclass
class Intake:
    """A running receiver with its spool and ledger."""

    settings: ReceiveSettings
    spool: Spool
    ledger: Ledger
    receiver: Receiver

    def settle(self) -> None:
        """Wait until the ledger counts everything that was answered."""
        wait_for(lambda: not self.receiver.notes.unflushed())

    def entry(self, series_instance_uid: str) -> SeriesEntry | None:
        self.settle()
        return self.ledger.get(series_instance_uid)

    def entries(self) -> tuple[SeriesEntry, ...]:
        self.settle()
        return self.ledger.series()


def wait_for(condition: Callable[[], Any], deadline_s: float = DEADLINE_S) -> Any:
    """Poll until a condition holds and give its value; fail at the deadline."""
    end = time.monotonic() + deadline_s
    while not (value := condition()):
        assert time.monotonic() < end, "condition did not come true in time"
        time.sleep(0.005)
    return value


@pytest.fixture(scope="session")
def eventually() -> Callable[..., Any]:
    return wait_for


@pytest.fixture(scope="session")
def make_instance() -> Callable[..., Dataset]:
    return small_instance


@pytest.fixture(scope="session")
def encode_instance() -> Callable[[Dataset], bytes]:
    return _encode


@pytest.fixture(scope="session")
def split_file() -> Callable[[Path], tuple[FileMetaDataset, bytes]]:
    return _split


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    yield ledger
    ledger.dispose()


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount a file system of a size such as ``64k``; skips where that takes rights that the test has not."""
    mounted: list[Path] = []

    def mount(size: str) -> Path:
        folder = tmp_path / f"tiny{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        if not shutil.which("mount") or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("a small file system cannot be mounted here (needs root)")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        # Lazily: a receiver that a failed test left running still has its files there.
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def start_intake(tmp_path: Path) -> Iterator[Callable[..., Intake]]:
    """Start receivers on port 0; `spool` and `ledger` may be those of an earlier one."""
    running: list[Intake] = []

    def start(spool: Spool | None = None, ledger: Ledger | None = None, **changes: Any) -> Intake:
        settings = ReceiveSettings(
            **({"host": "127.0.0.1", "port": 0, "min_free_mb": 0, "reject_below_free_mb": 0} | changes)
        )
        spool = spool or Spool(tmp_path / "spool")
        ledger = ledger or Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
        intake = Intake(settings, spool, ledger, Receiver(settings, spool, ledger))
        intake.receiver.start()
        running.append(intake)
        return intake

    yield start
    for intake in running:
        intake.receiver.stop()
        intake.ledger.dispose()


@pytest.fixture
def intake(start_intake: Callable[..., Intake]) -> Intake:
    return start_intake()


@pytest.fixture
def connect() -> Iterator[Callable[..., Sender]]:
    """Open associations to a port of this machine; they are released at the end."""
    open_senders: list[Sender] = []

    def open_sender(
        port: int, contexts: list[Any] | None = None, called: str = "FEWSHOT", calling: str = "SCANNER"
    ) -> Sender:
        entity = AE(calling)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = DEADLINE_S
        wanted = contexts or [build_context(CTImageStorage, ExplicitVRLittleEndian)]
        verification = build_context("1.2.840.10008.1.1")
        received: list[Any] = []
        noting: list[Any] = [(evt.EVT_PDU_RECV, lambda event: received.append(event.pdu))]
        association = entity.associate(
            "127.0.0.1", port, contexts=[verification, *wanted], ae_title=called, evt_handlers=noting
        )
        sender = Sender(association, received, count(1))
        open_senders.append(sender)
        return sender

    yield open_sender
    for sender in open_senders:
        sender.release()
