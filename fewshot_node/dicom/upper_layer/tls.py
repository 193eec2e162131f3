"""TLS for the receiver: BCP 195 as PS3.15 B.12 wants it, clients with certificates."""

import os
import ssl

from fewshot_node.config import TlsSettings
from fewshot_node.errors import ConfigurationError

KEY_PASSWORD_VARIABLE = "FEWSHOT_NODE_TLS_KEY_PASSWORD"  # noqa: S105  the name of a variable
MINIMUM_TLS = ssl.TLSVersion.TLSv1_2
TLS_1_2_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Forward secrecy and authenticated encryption only (RFC 9325 4.2)."""


def server_context(settings: TlsSettings) -> ssl.SSLContext:
    """Return the context of a server that asks its clients for a certificate.

    Raises
    ------
    ConfigurationError
        A file cannot be read, or key and certificate do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = MINIMUM_TLS
    context.set_ciphers(TLS_1_2_CIPHERS)
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_cert_chain(settings.certificate, settings.key, password=_key_password)
    except (OSError, ValueError) as error:
        files = f"receive.tls.certificate {settings.certificate} and receive.tls.key {settings.key}"
        hint = f"give PEM files that belong together, an encrypted key's password in {KEY_PASSWORD_VARIABLE}"
        raise ConfigurationError(f"{files} cannot be used ({_reason(error)}): {hint}") from error
    try:
        context.load_verify_locations(settings.client_authority)
    except OSError as error:
        message = f"receive.tls.client_authority {settings.client_authority} cannot be used ({_reason(error)})"
        raise ConfigurationError(f"{message}: give the PEM certificates of who signs for your scanners") from error
    return context


def _key_password() -> str:
    # Without a function OpenSSL would ask on the terminal, and wait.
    return os.environ.get(KEY_PASSWORD_VARIABLE, "")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__
