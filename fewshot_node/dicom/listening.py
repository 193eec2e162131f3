"""Saying what is wrong with an address that the settings want listened on."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from fewshot_node.errors import ConfigurationError, PortInUseError


@contextmanager
def listening_on(host: str, port: int, section: str) -> Iterator[None]:
    """Turn the system's refusal to listen into an error that names the address and its settings.

    Parameters
    ----------
    section
        Of the settings, with the keys `host` and `port`.

    Raises
    ------
    PortInUseError
        Another process listens on the port.
    ConfigurationError
        The address is not this machine's.
    """
    try:
        yield
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            message = f"{host}:{port} is in use by another process: stop it or set another {section}.port"
            raise PortInUseError(message) from error
        message = f"cannot listen on {host}:{port} ({error.strerror}): check {section}.host and {section}.port"
        raise ConfigurationError(message) from error
