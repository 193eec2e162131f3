"""Who made a file: signed, checked, trusted or not."""

import json
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from fewshot_node.config import ExchangeSettings, load_settings, parse_settings
from fewshot_node.errors import ConfigurationError
from fewshot_node.tasks.exchange import export_task, import_task, make_key, read_signing_key
from fewshot_node.tasks.exchange.signature import PASSWORD_VARIABLE
from fewshot_node.tasks.registry import Registry
from tests.tasks.exchange.conftest import refused_whole


@pytest.fixture
def private(tmp_path: Path) -> Path:
    make_key(tmp_path / "site.pem")
    return tmp_path / "site.pem"


@pytest.fixture
def public(private: Path) -> Path:
    return private.with_name("site.pub.pem")


@pytest.fixture
def signed(origin: Registry, private: Path, tmp_path: Path) -> Path:
    export_task(origin, "organs", tmp_path / "signed.task", key=read_signing_key(private))
    return tmp_path / "signed.task"


def trusting(*keys: Path, require: bool = True) -> ExchangeSettings:
    return ExchangeSettings(trusted_keys=keys, require_signature=require)


def rewritten(path: Path, name: str, change: Callable[[bytes], bytes]) -> Path:
    target = path.with_name("rewritten.task")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for member in old.namelist():
            content = old.read(member)
            new.writestr(member, change(content) if member == name else content)
    return target


def test_a_trusted_signature(site: Registry, signed: Path, private: Path, public: Path) -> None:
    done = import_task(site, signed, trusting(public))
    assert (done.trusted, done.signed_by) == (True, read_signing_key(private).fingerprint)


def test_signing_is_deterministic(origin: Registry, signed: Path, private: Path, tmp_path: Path) -> None:
    export_task(origin, "organs", tmp_path / "again.task", key=read_signing_key(private))
    assert (tmp_path / "again.task").read_bytes() == signed.read_bytes()


def test_an_unsigned_file_where_signatures_are_required(site: Registry, exported: Path, public: Path) -> None:
    refused_whole(site, exported, r"is not signed, and exchange\.require_signature asks for it", trusting(public))
    assert import_task(site, exported, trusting(public, require=False)).signed_by is None


@pytest.mark.parametrize("require", [True, False])
def test_a_key_that_nobody_trusts(site: Registry, signed: Path, private: Path, tmp_path: Path, require: bool) -> None:
    make_key(tmp_path / "other.pem")
    ours = read_signing_key(private).fingerprint
    settings = trusting(tmp_path / "other.pub.pem", require=require)
    refused_whole(site, signed, rf"signed with key {ours}, which is none of exchange\.trusted_keys", settings)


def test_without_trusted_keys_a_signature_is_shown_and_not_believed(site: Registry, signed: Path) -> None:
    done = import_task(site, signed, ExchangeSettings())
    assert done.signed_by is not None
    assert not done.trusted


def test_a_signature_over_something_else(site: Registry, signed: Path, public: Path) -> None:
    altered = rewritten(signed, "manifest.json", lambda content: content.replace(b'"revision": 1', b'"revision":  1'))
    for settings in (trusting(public), ExchangeSettings()):
        refused_whole(site, altered, "its signature does not belong to its contents", settings)


@pytest.mark.parametrize("damage", [b"{}", b"", b"\xff", b'{"algorithm": "none", "public_key": "", "signature": ""}'])
def test_a_damaged_signature(site: Registry, signed: Path, damage: bytes) -> None:
    refused_whole(site, rewritten(signed, "signature.json", lambda _: damage), "its signature does not belong")


def test_a_key_that_was_put_in_the_place_of_the_right_one(
    site: Registry, signed: Path, public: Path, tmp_path: Path
) -> None:
    """The file names its own key: that must count for nothing."""
    make_key(tmp_path / "evil.pem")
    with zipfile.ZipFile(signed) as archive:
        forged = read_signing_key(tmp_path / "evil.pem").sign(archive.read("manifest.json"))
        honest = json.loads(archive.read("signature.json"))["public_key"]
    mixed = json.dumps(json.loads(forged) | {"public_key": honest}).encode()
    refused_whole(site, rewritten(signed, "signature.json", lambda _: mixed), "does not belong", trusting(public))
    refused_whole(site, rewritten(signed, "signature.json", lambda _: forged), "none of exchange", trusting(public))


def test_keys_that_openssl_made(
    origin: Registry, site: Registry, tmp_path: Path, require_tool: Callable[[str], str]
) -> None:
    openssl, key, public = require_tool("openssl"), tmp_path / "o.pem", tmp_path / "o.pub.pem"
    subprocess.run([openssl, "genpkey", "-algorithm", "ed25519", "-out", key], check=True, capture_output=True)
    subprocess.run([openssl, "pkey", "-in", key, "-pubout", "-out", public], check=True, capture_output=True)
    export_task(origin, "organs", tmp_path / "signed.task", key=read_signing_key(key))
    assert import_task(site, tmp_path / "signed.task", trusting(public)).trusted


def test_the_password_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, "secret")
    make_key(tmp_path / "site.pem")
    assert b"ENCRYPTED" in (tmp_path / "site.pem").read_bytes()
    assert read_signing_key(tmp_path / "site.pem").fingerprint
    monkeypatch.setenv(PASSWORD_VARIABLE, "wrong")
    with pytest.raises(ConfigurationError, match=f"the password in {PASSWORD_VARIABLE} is wrong"):
        read_signing_key(tmp_path / "site.pem")
    monkeypatch.delenv(PASSWORD_VARIABLE)
    with pytest.raises(ConfigurationError, match=f"is encrypted: see the environment variable {PASSWORD_VARIABLE}"):
        read_signing_key(tmp_path / "site.pem")


def test_keys_of_other_kinds(tmp_path: Path, site: Registry, signed: Path, require_tool: Callable[[str], str]) -> None:
    rsa = tmp_path / "rsa.pem"
    subprocess.run([require_tool("openssl"), "genrsa", "-out", rsa, "2048"], check=True, capture_output=True)
    with pytest.raises(ConfigurationError, match=r"rsa\.pem is of another kind than Ed25519: make one with"):
        read_signing_key(rsa)
    (tmp_path / "text.pem").write_text("no key")
    with pytest.raises(ConfigurationError, match=r"text\.pem is no private key in PEM"):
        read_signing_key(tmp_path / "text.pem")
    with pytest.raises(ConfigurationError, match=r"text\.pem is no public key in PEM"):
        import_task(site, signed, trusting(tmp_path / "text.pem"))
    with pytest.raises(ConfigurationError, match=r"absent\.pem cannot be read"):
        read_signing_key(tmp_path / "absent.pem")


def test_keys_are_private_and_never_replaced(private: Path) -> None:
    assert private.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigurationError, match="is there already"):
        make_key(private)


def test_requiring_signatures_of_nobody_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="require_signature needs trusted_keys"):
        parse_settings({"exchange": {"require_signature": True}}, "node.toml")


def test_trusted_keys_lie_beside_the_settings(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text('[exchange]\ntrusted_keys = ["keys/west.pub.pem"]\n')
    assert load_settings(tmp_path / "node.toml").exchange.trusted_keys == (tmp_path / "keys" / "west.pub.pem",)
