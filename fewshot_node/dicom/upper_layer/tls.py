"""TLS for the receiver: BCP 195 as PS3.15 B.12 wants it, clients with certificates."""

import ssl

from fewshot_node.config import TlsSettings
from fewshot_node.dicom.client_tls import (
    KEY_PASSWORD_VARIABLE,
    MINIMUM_TLS,
    TLS_1_2_CIPHERS,
    key_password,
    tls_reason,
)
from fewshot_node.errors import ConfigurationError

__all__ = ["KEY_PASSWORD_VARIABLE", "MINIMUM_TLS", "TLS_1_2_CIPHERS", "server_context"]


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
        context.load_cert_chain(settings.certificate, settings.key, password=key_password)
    except (OSError, ValueError) as error:
        files = f"receive.tls.certificate {settings.certificate} and receive.tls.key {settings.key}"
        hint = f"give PEM files that belong together, an encrypted key's password in {KEY_PASSWORD_VARIABLE}"
        raise ConfigurationError(f"{files} cannot be used ({tls_reason(error)}): {hint}") from error
    try:
        context.load_verify_locations(settings.client_authority)
    except OSError as error:
        message = f"receive.tls.client_authority {settings.client_authority} cannot be used ({tls_reason(error)})"
        raise ConfigurationError(f"{message}: give the PEM certificates of who signs for your scanners") from error
    return context
