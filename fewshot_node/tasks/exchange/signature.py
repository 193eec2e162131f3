"""Signatures over an archive's manifest: Ed25519 (RFC 8032) with keys in PEM files, as OpenSSL makes them."""

import base64
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from pydantic import BaseModel, ConfigDict, ValidationError

from fewshot_node.errors import ArchiveError, ConfigurationError

PASSWORD_VARIABLE = "FEWSHOT_NODE_SIGNING_KEY_PASSWORD"  # noqa: S105  the variable's name, not a password
_CONTEXT = b"fewshot-node task manifest\0"
"""Goes before the manifest: the same key may sign other things."""
_MAKE = "make one with `fewshot-node task keygen`, or `openssl genpkey -algorithm ed25519`"


class _Document(BaseModel):
    """The form of ``signature.json``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    algorithm: Literal["Ed25519"]
    public_key: str
    signature: str


@dataclass(frozen=True, slots=True, eq=False)
class SigningKey:
    """A private key that signs exports."""

    private: Ed25519PrivateKey

    @property
    def fingerprint(self) -> str:
        """What people compare to know the key by."""
        return fingerprint(self.private.public_key())

    def sign(self, manifest: bytes) -> bytes:
        """Return ``signature.json`` for a manifest."""
        public = self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        document = {
            "algorithm": "Ed25519",
            "public_key": base64.b64encode(public).decode(),
            "signature": base64.b64encode(self.private.sign(_CONTEXT + manifest)).decode(),
        }
        return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"


def fingerprint(key: Ed25519PublicKey) -> str:
    """Return the SHA-256 of a public key, short enough to be read out on the telephone."""
    digest = hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:32]
    return ":".join(digest[at : at + 4] for at in range(0, len(digest), 4))


def make_key(path: Path) -> tuple[Path, str]:
    """Write a new private key, and its public half beside it; return the latter's path and the fingerprint.

    The private key is encrypted where the environment gives a password.

    Raises
    ------
    ConfigurationError
        One of the files is there already.
    """
    key, public_path = Ed25519PrivateKey.generate(), path.with_name(f"{path.stem}.pub{path.suffix}")
    password = os.environ.get(PASSWORD_VARIABLE)
    protection: KeySerializationEncryption = NoEncryption()
    if password:
        protection = BestAvailableEncryption(password.encode())
    _write_new(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection), 0o600)
    public = key.public_key()
    _write_new(public_path, public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), 0o644)
    return public_path, fingerprint(public)


def read_signing_key(path: Path) -> SigningKey:
    """Read a private key; the password of an encrypted one comes from the environment.

    Raises
    ------
    ConfigurationError
        The file cannot be read, holds no Ed25519 key, or the password is absent or wrong.
    """
    password = os.environ.get(PASSWORD_VARIABLE)
    try:
        key = load_pem_private_key(_content(path), password.encode() if password else None)
    except TypeError as error:  # encrypted without a password, or the other way round
        what = "is not encrypted, but a password is given" if password else "is encrypted"
        raise ConfigurationError(
            f"signing key {path} {what}: see the environment variable {PASSWORD_VARIABLE}"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        what = f"or the password in {PASSWORD_VARIABLE} is wrong" if password else "in PEM"
        raise ConfigurationError(f"signing key {path} is no private key {what}: {_MAKE}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationError(f"signing key {path} is of another kind than Ed25519: {_MAKE}")
    return SigningKey(key)


def read_trusted(paths: Sequence[Path]) -> tuple[Ed25519PublicKey, ...]:
    """Read the public keys whose signatures count.

    Raises
    ------
    ConfigurationError
        A file cannot be read or holds no public Ed25519 key.
    """
    return tuple(_read_public(path) for path in paths)


def signer(manifest: bytes, document: bytes, source: str) -> Ed25519PublicKey:
    """Return the key that signed a manifest, whoever it belongs to.

    Raises
    ------
    ArchiveError
        The signature is not one over this manifest.
    """
    try:
        parts = _Document.model_validate_json(document)
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(parts.public_key, validate=True))
        key.verify(base64.b64decode(parts.signature, validate=True), _CONTEXT + manifest)
    except (ValidationError, ValueError, RecursionError, InvalidSignature) as error:
        raise ArchiveError(
            f"{source}: its signature does not belong to its contents: it was altered, or damaged on its way; "
            "ask the sender for it again"
        ) from error
    return key


def same_key(one: Ed25519PublicKey, other: Ed25519PublicKey) -> bool:
    """Tell whether two public keys are the same."""
    return one.public_bytes(Encoding.Raw, PublicFormat.Raw) == other.public_bytes(Encoding.Raw, PublicFormat.Raw)


def _read_public(path: Path) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(_content(path))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(f"trusted key {path} is no public key in PEM: give the sender's *.pub.pem") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigurationError(f"trusted key {path} is of another kind than Ed25519: ask the sender for that one")
    return key


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"key {path} cannot be read ({error.strerror}): check the path") from error


def _write_new(path: Path, content: bytes, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError as error:
        raise ConfigurationError(f"{path} is there already: choose another name, keys are never replaced") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
