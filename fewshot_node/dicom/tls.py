"""TLS of the receiver and towards peers: BCP 195 as PS3.15 B.12 wants it, certificates checked on both sides."""

import os
import ssl
from pathlib import Path

from fewshot_node.config import ClientTlsSettings, TlsSettings
from fewshot_node.errors import ConfigurationError

KEY_PASSWORD_VARIABLE = "FEWSHOT_NODE_TLS_KEY_PASSWORD"  # noqa: S105  the name of a variable
MINIMUM_TLS = ssl.TLSVersion.TLSv1_2
TLS_1_2_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Forward secrecy and authenticated encryption only (RFC 9325 4.2)."""


def client_context(settings: ClientTlsSettings) -> ssl.SSLContext:
    """Return the context of a client that checks who it talks to, host name included.

    Raises
    ------
    ConfigurationError
        A file cannot be read, or key and certificate do not belong together.
    """
    context = _context(ssl.PROTOCOL_TLS_CLIENT)
    _trust(context, settings.authority, "tls.authority", "the peer")
    if settings.certificate is not None and settings.key is not None:
        _identify(context, settings.certificate, settings.key, "tls")
    return context


def server_context(settings: TlsSettings) -> ssl.SSLContext:
    """Return the context of a server that asks its clients for a certificate.

    Raises
    ------
    ConfigurationError
        A file cannot be read, or key and certificate do not belong together.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    _identify(context, settings.certificate, settings.key, "receive.tls")
    _trust(context, settings.client_authority, "receive.tls.client_authority", "your scanners")
    return context


def _context(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = MINIMUM_TLS
    context.set_ciphers(TLS_1_2_CIPHERS)
    return context


def _identify(context: ssl.SSLContext, certificate: Path, key: Path, section: str) -> None:
    """Load what this side shows; `section` of the settings names the files."""
    try:
        context.load_cert_chain(certificate, key, password=_key_password)
    except (OSError, ValueError) as error:
        files = f"{section}.certificate {certificate} and {section}.key {key}"
        hint = f"give PEM files that belong together, an encrypted key's password in {KEY_PASSWORD_VARIABLE}"
        raise ConfigurationError(f"{files} cannot be used ({_reason(error)}): {hint}") from error


def _trust(context: ssl.SSLContext, authority: Path, setting: str, whom: str) -> None:
    """Load the certificates of those who sign for the other side."""
    try:
        context.load_verify_locations(authority)
    except OSError as error:
        message = f"{setting} {authority} cannot be used ({_reason(error)})"
        raise ConfigurationError(f"{message}: give the PEM certificates of who signs for {whom}") from error


def _key_password() -> str:
    """Return the password of an encrypted key; without a function OpenSSL would ask on the terminal, and wait."""
    return os.environ.get(KEY_PASSWORD_VARIABLE, "")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__
