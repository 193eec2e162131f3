"""Carriers against real destinations: a folder, Orthanc's DICOMweb, a DICOMweb of the test, the sender, TLS."""

import base64
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pydicom
import pytest
import trustme
from pydantic import ValidationError

from fewshot_node.config import DeliverySettings, FolderDestination, NodeSettings, StowDestination
from fewshot_node.dicom.deliver.address import carrier_to, destinations_of
from fewshot_node.dicom.deliver.dicom import DicomCarrier
from fewshot_node.dicom.deliver.folder import FolderCarrier
from fewshot_node.dicom.deliver.web import WebCarrier, secret_variable
from fewshot_node.dicom.ledger import Confirmation
from fewshot_node.errors import ConfigurationError, DeliveryError, PeerTroubleError, PeerUnavailableError


@pytest.fixture
def files(office: Any) -> tuple[Path, ...]:
    found: tuple[Path, ...] = office.files(office.post("1.2.80"))
    return found


def uids(files: tuple[Path, ...]) -> list[str]:
    return sorted(str(pydicom.dcmread(path).SOPInstanceUID) for path in files)


# -- folder


def test_a_folder_gets_the_same_bytes_once(files: tuple[Path, ...], tmp_path: Path) -> None:
    share = tmp_path / "share"
    share.mkdir()
    assert FolderCarrier(share).carry(files, None).confirmed_by is Confirmation.READ_BACK
    written = {path.name: path.stat().st_mtime_ns for path in share.iterdir()}
    assert sorted(written) == [f"{uid}.dcm" for uid in uids(files)]
    assert {path.read_bytes() for path in share.iterdir()} == {path.read_bytes() for path in files}
    FolderCarrier(share).carry(files, None)
    assert {path.name: path.stat().st_mtime_ns for path in share.iterdir()} == written


def test_a_damaged_copy_is_put_right(files: tuple[Path, ...], tmp_path: Path) -> None:
    FolderCarrier(tmp_path).carry(files, None)
    damaged = tmp_path / f"{uids(files)[0]}.dcm"
    damaged.write_bytes(b"half")
    FolderCarrier(tmp_path).carry(files, None)
    assert damaged.read_bytes() in {path.read_bytes() for path in files}


def test_a_share_that_is_not_mounted_is_not_made(files: tuple[Path, ...], tmp_path: Path) -> None:
    with pytest.raises(PeerUnavailableError, match="is not there: mount or make it"):
        FolderCarrier(tmp_path / "absent").carry(files, None)
    assert not (tmp_path / "absent").exists()


def test_a_full_folder_is_trouble_and_leaves_nothing_half(
    files: tuple[Path, ...], tiny_disk: Callable[[str], Path]
) -> None:
    share = tiny_disk("8k")
    (share / "other").write_bytes(bytes(6000))
    with pytest.raises(PeerTroubleError, match="free space there"):
        FolderCarrier(share).carry(files, None)
    assert not any(path.name.startswith(".tmp") for path in share.iterdir())


# -- DICOMweb


class Web:
    """A DICOMweb server that keeps bodies; what it answers can be made up."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.stored: dict[str, bytes] = {}
        self.status: dict[str, int] = {}
        self.answer: bytes | None = None
        self.forgets = False
        self.url = ""

    def take(self, body: bytes, content_type: str) -> None:
        self.bodies.append(body)
        boundary = content_type.partition('boundary="')[2].rstrip('"').encode()
        for part in body.split(b"--" + boundary)[1:-1]:
            blob = part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")
            dataset = pydicom.dcmread(pydicom.filebase.DicomBytesIO(blob))
            self.stored[str(dataset.SOPInstanceUID)] = blob


@contextmanager
def serving(web: Web, context: ssl.SSLContext | None = None) -> Iterator[Web]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            listed = [] if web.forgets else [{"00080018": {"vr": "UI", "Value": [uid]}} for uid in web.stored]
            self.respond("GET", json.dumps(listed).encode())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if web.status.get("POST", 200) == 200:
                web.take(body, self.headers["Content-Type"])
            self.respond("POST", b"{}")

        def respond(self, method: str, body: bytes) -> None:
            web.headers.append(dict(self.headers))
            body = body if web.answer is None else web.answer
            self.send_response(web.status.get(method, 200))
            self.send_header("Content-Type", "application/dicom+json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    web.url = f"{'https' if context else 'http'}://127.0.0.1:{server.server_port}/dicom-web"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def web() -> Iterator[Web]:
    with serving(Web()) as found:
        yield found


def stow(url: str, name: str = "archive", **changes: Any) -> WebCarrier:
    return WebCarrier(name, StowDestination.model_validate({"kind": "stow", "url": url, "timeout_s": 5, **changes}))


def test_a_server_gets_the_bytes_of_the_outbox_once(files: tuple[Path, ...], web: Web) -> None:
    assert stow(web.url).carry(files, None).confirmed_by is Confirmation.QIDO
    assert sorted(web.stored) == uids(files)
    assert set(web.stored.values()) == {path.read_bytes() for path in files}
    stow(web.url).carry(files, None)
    assert len(web.bodies) == 1


def test_only_what_is_absent_is_sent(files: tuple[Path, ...], web: Web) -> None:
    stow(web.url).carry(files[:1], None)
    stow(web.url).carry(files, None)
    assert len(web.bodies[1]) < sum(path.stat().st_size for path in files)
    assert sorted(web.stored) == uids(files)


@pytest.mark.parametrize(
    ("status", "kind", "says"),
    [
        (503, PeerTroubleError, "HTTP status 503"),
        (507, PeerTroubleError, "HTTP status 507"),
        (429, PeerTroubleError, "HTTP status 429"),
        (401, DeliveryError, "check the user, and the secret in the environment"),
        (409, DeliveryError, "STOW-RS with HTTP status 409"),
        (413, DeliveryError, "HTTP status 413"),
    ],
)
def test_what_a_server_answers_is_told_apart(
    files: tuple[Path, ...], web: Web, status: int, kind: type[Exception], says: str
) -> None:
    web.status["POST"] = status
    with pytest.raises(kind, match=says) as refused:
        stow(web.url).carry(files, None)
    assert type(refused.value) is kind
    assert len(web.headers) == 3, "one question an instance and one try"


def test_a_server_that_takes_and_does_not_keep_is_found_out(files: tuple[Path, ...], web: Web) -> None:
    web.forgets = True
    with pytest.raises(DeliveryError, match=r"took instance .* and does not list it \(2 in all\)"):
        stow(web.url).carry(files, None)


def test_a_study_that_the_server_does_not_know_is_no_failure(files: tuple[Path, ...], web: Web) -> None:
    web.status["GET"] = 404
    with pytest.raises(DeliveryError, match="does not list it"):
        stow(web.url).carry(files, None)
    assert sorted(web.stored) == uids(files)


def test_an_answer_that_is_no_dicomweb_is_not_quoted(files: tuple[Path, ...], web: Web) -> None:
    web.answer = b'["SECRET^PERSON"'
    with pytest.raises((DeliveryError, PeerUnavailableError), match="QIDO-RS") as refused:
        stow(web.url).carry(files, None)
    assert "SECRET" not in str(refused.value)


def test_a_server_that_is_away_is_away(files: tuple[Path, ...], free_port: Callable[[], int]) -> None:
    with pytest.raises(PeerUnavailableError, match=r"does not answer QIDO-RS \(ConnectionError\)") as refused:
        stow(f"http://user:hidden@127.0.0.1:{free_port()}/x").carry(files, None)
    assert not isinstance(refused.value, PeerTroubleError)
    assert "hidden" not in str(refused.value)


def test_secrets_come_from_the_environment(files: tuple[Path, ...], web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    assert secret_variable("my-archive") == "FEWSHOT_NODE_SECRET_MY_ARCHIVE"
    monkeypatch.setenv("FEWSHOT_NODE_SECRET_MY_ARCHIVE", "word")
    stow(web.url, "my-archive").carry(files, None)
    assert web.headers[-1]["Authorization"] == "Bearer word"
    stow(web.url, "my-archive", user="node").carry(files, None)
    assert web.headers[-1]["Authorization"] == "Basic " + base64.b64encode(b"node:word").decode()


def test_a_server_of_another_authority_is_not_believed(files: tuple[Path, ...], tmp_path: Path) -> None:
    ours, theirs = trustme.CA(), trustme.CA()
    for name, authority in (("ours", ours), ("theirs", theirs)):
        authority.cert_pem.write_to_path(str(tmp_path / f"{name}.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.issue_cert("127.0.0.1").configure_cert(context)
    with serving(Web(), context) as web:
        stow(web.url, tls={"authority": tmp_path / "ours.pem"}).carry(files, None)
        assert sorted(web.stored) == uids(files)
        with pytest.raises(PeerUnavailableError, match="SSLError"):
            stow(web.url, tls={"authority": tmp_path / "theirs.pem"}).carry(files, None)


@pytest.mark.orthanc
def test_orthanc_takes_results_over_the_web(files: tuple[Path, ...], orthanc: Any) -> None:
    carrier = stow(f"{orthanc.url}/dicom-web")
    for _ in range(2):
        assert carrier.carry(files, None).confirmed_by is Confirmation.QIDO
    found = httpx.post(
        f"{orthanc.url}/tools/find", json={"Level": "Instance", "Query": {"StudyInstanceUID": "1.2.80.1"}}
    )
    assert len(found.json()) == 2
    stored = {httpx.get(f"{orthanc.url}/instances/{one}/file").content for one in found.json()}
    assert stored == {path.read_bytes() for path in files}


# -- addresses

SENDER = {"kind": "sender", "peers": {"CT1": {"host": "10.0.0.5", "port": 104}}}


def node(**delivery: Any) -> NodeSettings:
    return NodeSettings.model_validate({"delivery": delivery})


def test_results_go_back_to_whoever_sent_the_series() -> None:
    settings = node(to=["pacs", "back"], destinations={"back": SENDER})
    assert destinations_of("liver", "CT1", settings) == ("pacs", "back/CT1")
    carrier = carrier_to("back/CT1", settings)
    assert isinstance(carrier, DicomCarrier)
    assert (carrier._peer.ae_title, carrier._peer.host, carrier._peer.port) == ("CT1", "10.0.0.5", 104)
    with pytest.raises(ConfigurationError, match=r"sender MR2 has no address: add delivery\.destinations\.back"):
        carrier_to("back/MR2", settings)


def test_an_address_for_commitments_serves_for_results_too() -> None:
    data = {"commitment": {"peers": {"MR2": {"host": "h", "port": 5}}}, "delivery": {"destinations": {"back": SENDER}}}
    carrier = carrier_to("back/MR2", NodeSettings.model_validate(data))
    assert isinstance(carrier, DicomCarrier)
    assert carrier._peer.port == 5


def test_a_destination_that_was_taken_out_of_the_settings_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"destination gone is not described: add \[delivery"):
        carrier_to("gone", node())


def test_every_kind_has_its_carrier(tmp_path: Path) -> None:
    kinds = {
        "dicom": {"kind": "dicom", "ae_title": "WS"},
        "web": {"kind": "stow", "url": "http://h/x"},
        "share": {"kind": "folder", "path": str(tmp_path)},
    }
    settings = node(destinations=kinds)
    found = [type(carrier_to(name, settings)) for name in ("pacs", *kinds)]
    assert found == [DicomCarrier, DicomCarrier, WebCarrier, FolderCarrier]


def test_a_destination_needs_a_kind() -> None:
    with pytest.raises(ValidationError):
        DeliverySettings.model_validate({"destinations": {"x": {"path": "y"}}})
    assert FolderDestination(kind="folder", path=Path("x")).kind == "folder"
