"""TLS towards peers: BCP 195 as PS3.15 B.12 wants it, the peer's certificate always checked."""

import os
import ssl

from fewshot_node.config import ClientTlsSettings
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
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = MINIMUM_TLS
    context.set_ciphers(TLS_1_2_CIPHERS)
    try:
        context.load_verify_locations(settings.authority)
    except OSError as error:
        message = f"tls.authority {settings.authority} cannot be used ({tls_reason(error)})"
        raise ConfigurationError(f"{message}: give the PEM certificates of who signs for the peer") from error
    if settings.certificate is not None and settings.key is not None:
        try:
            context.load_cert_chain(settings.certificate, settings.key, password=key_password)
        except (OSError, ValueError) as error:
            files = f"tls.certificate {settings.certificate} and tls.key {settings.key}"
            hint = f"give PEM files that belong together, an encrypted key's password in {KEY_PASSWORD_VARIABLE}"
            raise ConfigurationError(f"{files} cannot be used ({tls_reason(error)}): {hint}") from error
    return context


def key_password() -> str:
    """Return the password of an encrypted key; without a function OpenSSL would ask on the terminal, and wait."""
    return os.environ.get(KEY_PASSWORD_VARIABLE, "")


def tls_reason(error: Exception) -> str:
    """Say why a file cannot be used."""
    return getattr(error, "strerror", None) or type(error).__name__
