"""TLS: who may connect, with what, and what wrong files are told."""

import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
import trustme

from fewshot_node.config import TlsSettings
from fewshot_node.dicom.tls import KEY_PASSWORD_VARIABLE, server_context
from fewshot_node.errors import ConfigurationError
from tests.dicom.wire import WireSender, associate_rq

SERIES = "1.2.826.0.1.3680043.8.498.2"


class Authority:
    """A certificate authority, and files of what it has signed."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._authority = trustme.CA()
        self._folder = folder
        self.certificate = folder / "authority.pem"
        self._authority.cert_pem.write_to_path(str(self.certificate))

    def issue(self, name: str) -> tuple[Path, Path]:
        """Give certificate and key files of a host."""
        issued = self._authority.issue_cert(name, "127.0.0.1", "localhost")
        certificate, key = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        issued.cert_chain_pems[0].write_to_path(str(certificate))
        issued.private_key_pem.write_to_path(str(key))
        return certificate, key


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "ours")


@pytest.fixture(scope="module")
def settings(authority: Authority) -> TlsSettings:
    certificate, key = authority.issue("node")
    return TlsSettings(certificate=certificate, key=key, client_authority=authority.certificate)


@pytest.fixture
def intake(start_intake: Any, settings: TlsSettings) -> Any:
    return start_intake(tls=settings, request_timeout_s=1.0)


@pytest.mark.dcmtk
def test_dcmtk_stores_over_tls(
    intake: Any, authority: Authority, make_instance: Any, require_tool: Any, tmp_path: Path
) -> None:
    certificate, key = authority.issue("scanner")
    for number in range(1, 6):
        path = tmp_path / f"{number}.dcm"
        make_instance(number, pixel_bytes=300_000).save_as(path, enforce_file_format=True)
    secure = ["+tls", str(key), str(certificate), "+cf", str(authority.certificate)]
    address = ["-aec", "FEWSHOT", "127.0.0.1", str(intake.receiver.port)]
    sent = subprocess.run(
        [require_tool("storescu"), *secure, *address, *map(str, sorted(tmp_path.glob("*.dcm")))],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert sent.returncode == 0, sent.stderr
    assert len(intake.spool.series_files(SERIES)) == 5
    echo = [require_tool("echoscu"), *secure, *address]
    assert subprocess.run(echo, capture_output=True, timeout=60).returncode == 0


def client_context(authority: Authority, **versions: ssl.TLSVersion) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.certificate))
    for name, version in versions.items():
        setattr(context, name, version)
    return context


def is_answered(port: int, context: ssl.SSLContext | None) -> bool:
    """Tell whether an association request gets an A-ASSOCIATE-AC."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        try:
            connection = context.wrap_socket(plain, server_hostname="localhost") if context else plain
        except OSError:
            return False
        with connection:
            try:
                connection.sendall(associate_rq())
                return connection.recv(1) == b"\x02"
            except OSError:
                return False


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_with_our_authoritys_certificate_is_served(
    intake: Any, authority: Authority, version: ssl.TLSVersion
) -> None:
    context = client_context(authority, minimum_version=version, maximum_version=version)
    context.load_cert_chain(*authority.issue("modality"))
    assert is_answered(intake.receiver.port, context)


def test_nobody_else_is_served(intake: Any, authority: Authority, tmp_path: Path) -> None:
    stranger = Authority(tmp_path / "stranger")
    without_certificate = client_context(authority)
    with_anothers = client_context(authority)
    with_anothers.load_cert_chain(*stranger.issue("modality"))
    for context in (None, without_certificate, with_anothers):
        assert not is_answered(intake.receiver.port, context)
    assert intake.entries() == ()


@pytest.mark.parametrize("cipher", ["AES128-SHA", "ECDHE-RSA-AES128-SHA256", "DHE-RSA-AES256-SHA"])
def test_old_ciphers_are_refused(intake: Any, authority: Authority, cipher: str) -> None:
    context = client_context(authority, maximum_version=ssl.TLSVersion.TLSv1_2)
    context.set_ciphers(cipher)
    context.load_cert_chain(*authority.issue("modality"))
    assert not is_answered(intake.receiver.port, context)


def test_a_client_that_stalls_in_the_handshake_holds_up_nobody(intake: Any, authority: Authority) -> None:
    context = client_context(authority)
    context.load_cert_chain(*authority.issue("modality"))
    stalled = [socket.create_connection(("127.0.0.1", intake.receiver.port), timeout=10) for _ in range(20)]
    for connection in stalled:
        connection.sendall(b"\x16\x03\x01")
    assert is_answered(intake.receiver.port, context)
    for connection in stalled:
        connection.settimeout(10)
        assert connection.recv(100) in {b"", b"\x15\x03\x01\x00\x02\x02\x32"}  # closed, after an alert or without
        connection.close()


def test_a_plain_receiver_survives_a_tls_hello(start_intake: Any, authority: Authority) -> None:
    intake = start_intake()
    assert not is_answered(intake.receiver.port, client_context(authority))
    with WireSender(intake.receiver.port) as sender:
        assert sender.echo() == 0


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"certificate": "absent.pem"}, r"receive\.tls\.certificate .*absent\.pem.*No such file.*belong together"),
        ({"key": "other.key"}, r"receive\.tls\.key .*other\.key cannot be used"),
        ({"key": "encrypted.key"}, rf"encrypted\.key cannot be used.*{KEY_PASSWORD_VARIABLE}"),
        ({"client_authority": "absent.pem"}, r"receive\.tls\.client_authority .*absent\.pem.*signs for your scanners"),
    ],
)
def test_files_that_cannot_be_used_are_named(
    authority: Authority, settings: TlsSettings, tmp_path: Path, changes: dict[str, str], says: str
) -> None:
    authority.issue("other")[1].rename(tmp_path / "other.key")
    command = ["openssl", "pkey", "-aes256", "-passout", "pass:right", "-in", str(authority.issue("locked")[1])]
    encrypted = subprocess.run([*command, "-out", str(tmp_path / "encrypted.key")], capture_output=True, check=False)
    if encrypted.returncode and "encrypted.key" in changes.values():
        pytest.skip("no openssl command to encrypt a key with")
    changed = settings.model_copy(update={name: tmp_path / file for name, file in changes.items()})
    with pytest.raises(ConfigurationError, match=says):
        server_context(changed)
