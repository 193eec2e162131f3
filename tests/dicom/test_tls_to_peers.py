"""TLS towards peers: who is believed, and what wrong files are told."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from pynetdicom import AE

from fewshot_node.config import ClientTlsSettings, PacsSettings
from fewshot_node.dicom.send import echo
from fewshot_node.dicom.tls import client_context
from fewshot_node.errors import ConfigurationError, PeerUnavailableError

Files = tuple[Path, Path, Path]


def write_files(folder: Path) -> Files:
    """Give the files of an authority: its certificate, and one that it has issued with its key."""
    folder.mkdir()
    authority, names = trustme.CA(), ("authority.pem", "host.pem", "host.key")
    issued = authority.issue_cert("127.0.0.1", "localhost")
    paths = [folder / name for name in names]
    for blob, path in zip((authority.cert_pem, issued.cert_chain_pems[0], issued.private_key_pem), paths, strict=True):
        blob.write_to_path(str(path))
    return paths[0], paths[1], paths[2]


@pytest.fixture
def ours(tmp_path: Path) -> Files:
    return write_files(tmp_path / "ours")


@pytest.fixture
def pacs(ours: Files) -> Iterator[PacsSettings]:
    """A PACS that wants a certificate of its clients."""
    authority, certificate, key = ours
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(authority)
    context.verify_mode = ssl.CERT_REQUIRED
    entity = AE(ae_title="SAFE")
    entity.add_supported_context("1.2.840.10008.1.1")
    server = entity.start_server(("127.0.0.1", 0), block=False, ssl_context=context)
    tls = ClientTlsSettings(authority=authority, certificate=certificate, key=key)
    yield PacsSettings(ae_title="SAFE", port=server.server_address[1], timeout_s=5, tls=tls)
    server.shutdown()


def with_tls(pacs: PacsSettings, tls: ClientTlsSettings) -> PacsSettings:
    return pacs.model_copy(update={"tls": tls})


def test_both_sides_know_each_other(pacs: PacsSettings) -> None:
    echo(pacs)


@pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")
@pytest.mark.filterwarnings("ignore:Exception ignored in. <s:pytest.PytestUnraisableExceptionWarning")
def test_a_pacs_that_another_authority_signs_for_is_not_believed(pacs: PacsSettings, tmp_path: Path) -> None:
    theirs, certificate, key = write_files(tmp_path / "theirs")
    with pytest.raises(PeerUnavailableError):
        echo(with_tls(pacs, ClientTlsSettings(authority=theirs, certificate=certificate, key=key)))


def test_a_host_of_another_name_is_not_believed(ours: Files) -> None:
    context = client_context(ClientTlsSettings(authority=ours[0]))
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("wrong", ["authority", "certificate", "key"])
def test_a_wrong_file_is_named(ours: Files, tmp_path: Path, wrong: str) -> None:
    files = dict(zip(("authority", "certificate", "key"), ours, strict=True))
    (tmp_path / "wrong.pem").write_text("no certificate")
    with pytest.raises(ConfigurationError, match=r"wrong\.pem.*cannot be used"):
        client_context(ClientTlsSettings(**(files | {wrong: tmp_path / "wrong.pem"})))


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"absent\.pem cannot be used \(No such file"):
        client_context(ClientTlsSettings(authority=tmp_path / "absent.pem"))
