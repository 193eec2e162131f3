"""Echo, store, confirm and fetch against an SCP in the test, dcmtk's storescp and a real Orthanc."""

import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless
from pynetdicom import AE, evt

from fewshot_node.config import PacsSettings
from fewshot_node.dicom.deliver.carrier import Receipt
from fewshot_node.dicom.deliver.dicom import DicomCarrier
from fewshot_node.dicom.objects.seg import read_segmentation, write_segmentation
from fewshot_node.dicom.objects.sr import read_report, write_report
from fewshot_node.dicom.send import (
    echo,
    fetch_series,
    list_series,
    missing_instances,
    read_reference,
    store,
)
from fewshot_node.errors import (
    DeliveryError,
    NotDicomError,
    PeerTroubleError,
    PeerUnavailableError,
    UnsupportedError,
)

Write = Callable[..., list[Path]]
# pynetdicom forgets to close the socket of a connection that was refused
refused = pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")
VERIFICATION = "1.2.840.10008.1.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
FIND = "1.2.840.10008.5.1.4.1.2.2.1"
NATIVE = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]


class Archive:
    """An SCP that keeps what it is sent, with statuses that a test may choose."""

    def __init__(self) -> None:
        self.instances: dict[str, Dataset] = {}
        self.statuses: list[int] = []
        self.hidden = 0
        self.stored = 0

    def on_store(self, event: evt.Event) -> int:
        self.stored += 1
        status = self.statuses.pop(0) if self.statuses else 0x0000
        if status >> 12 not in (0xA, 0xC) and status != 0x0122:
            dataset = event.dataset
            dataset.file_meta = event.file_meta
            self.instances[str(dataset.SOPInstanceUID)] = dataset
        return status

    def on_find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        if self.hidden:
            self.hidden -= 1
            return
        for dataset in self.instances.values():
            if dataset.SeriesInstanceUID == event.identifier.SeriesInstanceUID:
                answer = Dataset()
                answer.QueryRetrieveLevel = "IMAGE"
                answer.SOPInstanceUID = dataset.SOPInstanceUID
                yield 0xFF00, answer


def deliver(paths: Sequence[Path], pacs: PacsSettings) -> Receipt:
    return DicomCarrier(pacs).carry(paths, transaction_uid=None)


@contextmanager
def _serve(archive: Archive, syntaxes: Any = NATIVE, **options: Any) -> Iterator[PacsSettings]:
    entity = AE(ae_title="ARCHIVE")
    entity.add_supported_context(VERIFICATION)
    entity.add_supported_context(FIND)
    for sop_class in (CT, SEGMENTATION):
        entity.add_supported_context(sop_class, syntaxes)
    for name, value in options.items():
        setattr(entity, name, value)
    handlers = [(evt.EVT_C_STORE, archive.on_store), (evt.EVT_C_FIND, archive.on_find)]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        yield PacsSettings(ae_title="ARCHIVE", port=server.server_address[1], timeout_s=5, commitment=False)
    finally:
        server.shutdown()


@pytest.fixture
def archive() -> Archive:
    return Archive()


@pytest.fixture
def pacs(archive: Archive) -> Iterator[PacsSettings]:
    with _serve(archive) as settings:
        yield settings


def test_a_peer_that_answers_is_well(pacs: PacsSettings) -> None:
    echo(pacs)


@refused
def test_nobody_there_names_host_port_and_remedy(free_port: Callable[[], int]) -> None:
    port = free_port()
    pacs = PacsSettings(ae_title="GONE", port=port, timeout_s=2, calling_ae_title="NODE")
    with pytest.raises(PeerUnavailableError, match=rf"GONE at 127\.0\.0\.1:{port} \(called from NODE\).*runs"):
        echo(pacs)


def test_a_rejection_names_the_ae_titles(archive: Archive) -> None:
    with (
        _serve(archive, require_calling_aet=["OTHER"]) as pacs,
        pytest.raises(PeerUnavailableError, match="rejects the association: check the AE titles"),
    ):
        echo(pacs)


def test_something_that_speaks_no_dicom_is_named() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        thread = threading.Thread(target=_hang_up, args=(listener,))
        thread.start()
        pacs = PacsSettings(port=listener.getsockname()[1], timeout_s=2)
        with pytest.raises(PeerUnavailableError, match="ends the association at once"):
            echo(pacs)
        thread.join()


def _hang_up(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    connection.recv(1024)
    connection.close()


def test_files_arrive_as_they_are(write_series: Write, spec: Any, archive: Archive, pacs: PacsSettings) -> None:
    files = write_series(spec)
    store(files, pacs)
    assert len(archive.instances) == 6
    for path in files:
        sent = pydicom.dcmread(path)
        assert archive.instances[str(sent.SOPInstanceUID)] == sent


def test_compressed_files_are_sent_in_their_transfer_syntax(write_series: Write, spec: Any, archive: Archive) -> None:
    path = write_series(spec, slices=1, rows=64, columns=64)[0]
    dataset = pydicom.dcmread(path)
    dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
    dataset.save_as(path)
    with _serve(archive, [*NATIVE, JPEG2000Lossless]) as pacs:
        store([path], pacs)
    (kept,) = archive.instances.values()
    assert kept.file_meta.TransferSyntaxUID == JPEG2000Lossless
    assert kept.PixelData == dataset.PixelData

    with (
        _serve(archive) as pacs,
        pytest.raises((DeliveryError, PeerUnavailableError), match=r"PACS ARCHIVE at .*enable"),
    ):
        store([path], pacs)


def test_one_object_in_an_unsupported_syntax_is_named(write_series: Write, spec: Any, pacs: PacsSettings) -> None:
    plain = write_series(spec, "plain", slices=1)[0]
    path = write_series(spec, "packed", slices=1, rows=64, columns=64)[0]
    dataset = pydicom.dcmread(path)
    dataset.compress(JPEG2000Lossless, generate_instance_uid=True)
    dataset.save_as(path)
    message = rf"does not accept CT Image Storage in JPEG 2000.*{dataset.SOPInstanceUID}: enable it there"
    with pytest.raises(DeliveryError, match=message):
        store([plain, path], pacs)


def test_a_peer_with_implicit_vr_only_gets_it(write_series: Write, spec: Any, archive: Archive) -> None:
    files = write_series(spec)
    with _serve(archive, [ImplicitVRLittleEndian]) as pacs:
        store(files, pacs)
    assert len(archive.instances) == 6


def test_a_warning_counts_as_stored_and_is_logged(
    write_series: Write, spec: Any, archive: Archive, pacs: PacsSettings, caplog: pytest.LogCaptureFixture
) -> None:
    archive.statuses = [0xB000, 0xB007]
    store(write_series(spec), pacs)
    assert len(archive.instances) == 6
    assert "warning 0xB000" in caplog.text
    assert "warning 0xB007" in caplog.text


@pytest.mark.parametrize("status", [0xA900, 0xC000, 0x0122])
def test_a_failure_names_instance_and_status(
    write_series: Write, spec: Any, archive: Archive, pacs: PacsSettings, status: int
) -> None:
    files = write_series(spec)
    archive.statuses = [0x0000, status]
    uid = pydicom.dcmread(files[1]).SOPInstanceUID
    with pytest.raises(DeliveryError, match=f"refuses instance {uid} with status 0x{status:04X}"):
        store(files, pacs)


def test_a_file_that_is_no_dicom_is_named(tmp_path: Path, pacs: PacsSettings) -> None:
    path = tmp_path / "result.dcm"
    path.write_text("no DICOM")
    with pytest.raises(NotDicomError, match=r"result\.dcm"):
        deliver([path], pacs)


def test_what_is_missing_is_told(write_series: Write, spec: Any, pacs: PacsSettings) -> None:
    files = write_series(spec)
    references = [read_reference(path) for path in files]
    store(files[:4], pacs)
    absent = sorted(str(pydicom.dcmread(path).SOPInstanceUID) for path in files[4:])
    assert missing_instances(references, pacs) == tuple(absent)


def test_delivery_sends_only_what_is_absent(
    write_series: Write, spec: Any, archive: Archive, pacs: PacsSettings
) -> None:
    files = write_series(spec)
    store(files[:4], pacs)
    deliver(files, pacs)
    assert archive.stored == 6
    deliver(files, pacs)
    assert archive.stored == 6


def test_stored_but_not_listed_is_no_delivery(
    write_series: Write, spec: Any, archive: Archive, pacs: PacsSettings
) -> None:
    archive.hidden = 100
    with pytest.raises(DeliveryError, match=r"took instance .* and does not list it \(6 in all\)"):
        deliver(write_series(spec), pacs)


def test_a_full_archive_is_not_one_that_refuses(
    write_series: Write, spec: Any, archive: Archive, pacs: PacsSettings
) -> None:
    files = write_series(spec)
    archive.statuses = [0x0000, 0xA700]
    with pytest.raises(PeerTroubleError, match=r"no room for .*0xA700"):
        deliver(files, pacs)
    archive.statuses = [0xC000]
    with pytest.raises(DeliveryError, match="0xC000"):
        deliver(files, pacs)


def test_an_archive_without_query_is_named(write_series: Write, spec: Any, archive: Archive) -> None:
    entity = AE(ae_title="ARCHIVE")
    entity.add_supported_context(VERIFICATION)
    server = entity.start_server(("127.0.0.1", 0), block=False)
    pacs = PacsSettings(ae_title="ARCHIVE", port=server.server_address[1], timeout_s=5)
    try:
        with pytest.raises(UnsupportedError, match="supports nothing of what was proposed"):
            deliver(write_series(spec), pacs)
    finally:
        server.shutdown()


@refused
@pytest.mark.dcmtk
def test_storescp_takes_the_result_unchanged(
    write_series: Write,
    spec: Any,
    make_case: Any,
    save: Callable[[Dataset, str], Path],
    tmp_path: Path,
    require_tool: Callable[[str], str],
    free_port: Callable[[], int],
) -> None:
    case = make_case(write_series(spec))
    segmentation = write_segmentation(case.result, case.volume, case.sources, case.uids)
    path = save(segmentation, "seg.dcm")
    folder = tmp_path / "received"
    folder.mkdir()
    port = free_port()
    command = [require_tool("storescp"), "-od", str(folder), "-aet", "STORESCP", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    pacs = PacsSettings(ae_title="STORESCP", port=port, timeout_s=5)
    try:
        _wait_for(pacs, process)
        store([path], pacs)
    finally:
        process.terminate()
        process.wait(timeout=10)
    (received,) = folder.iterdir()
    read = read_segmentation(received, case.volume)
    np.testing.assert_array_equal(read.label_map == 1, case.result.label_map == 1)


def _wait_for(pacs: PacsSettings, process: subprocess.Popen[bytes]) -> None:
    for _ in range(100):
        try:
            echo(pacs)
        except PeerUnavailableError:
            try:
                process.wait(timeout=0.1)
            except subprocess.TimeoutExpired:
                continue
            break
        return
    pytest.fail("storescp did not start")


@pytest.mark.orthanc
def test_orthanc_keeps_lists_and_gives_back_the_results(
    write_series: Write, spec: Any, make_case: Any, save: Callable[[Dataset, str], Path], orthanc: Any
) -> None:
    case = make_case(write_series(spec))
    segmentation = write_segmentation(case.result, case.volume, case.sources, case.uids)
    report = write_report(case.result, case.volume, case.sources, case.uids, segmentation)
    paths = [save(segmentation, "seg.dcm"), save(report, "sr.dcm")]
    pacs = PacsSettings(ae_title=orthanc.aet, port=orthanc.dicom_port, timeout_s=10)
    echo(pacs)
    references = [read_reference(path) for path in paths]
    assert len(missing_instances(references, pacs)) == 2

    deliver([*case.files, *paths], pacs)

    assert missing_instances(references, pacs) == ()
    listed = {item.modality: item for item in list_series(case.volume.study_instance_uid, pacs)}
    assert set(listed) == {"CT", "SEG", "SR"}
    assert listed["SEG"].description == "AI abdomen rev 3 segmentation"
    study = case.volume.study_instance_uid
    (seg,) = fetch_series(study, listed["SEG"].series_instance_uid, pacs)
    np.testing.assert_array_equal(read_segmentation(seg, case.volume).label_map == 2, case.result.label_map == 7)
    (sr,) = fetch_series(study, listed["SR"].series_instance_uid, pacs)
    assert sorted(finding.found for finding in read_report(sr)) == [False, True, True]
    assert len(fetch_series(study, case.volume.series_instance_uid, pacs)) == 6
    with pytest.raises(DeliveryError, match=r"lists no series 1\.2\.3"):
        fetch_series(study, "1.2.3", pacs)


@pytest.mark.orthanc
def test_orthanc_gives_back_compressed_images(write_series: Write, spec: Any, orthanc: Any) -> None:
    identity = {"StudyInstanceUID": "1.2.826.0.1.3680043.8.498.78.1", "SeriesInstanceUID": "1.2.826.0.1.2"}
    files = write_series(spec, slices=2, rows=64, columns=64, changes=identity)
    for number, path in enumerate(files):
        dataset = pydicom.dcmread(path)
        dataset.SOPInstanceUID = f"1.2.826.0.1.2.{number}"
        dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.save_as(path)
    pacs = PacsSettings(ae_title=orthanc.aet, port=orthanc.dicom_port, timeout_s=10)
    deliver(files, pacs)
    fetched = fetch_series(identity["StudyInstanceUID"], identity["SeriesInstanceUID"], pacs)
    for path, dataset in zip(files, fetched, strict=True):
        np.testing.assert_array_equal(dataset.pixel_array, pydicom.dcmread(path).pixel_array)
