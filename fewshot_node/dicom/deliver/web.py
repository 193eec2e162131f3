"""Results to a DICOMweb server: STOW-RS, confirmed by QIDO-RS (PS3.18 10.5, 10.6)."""

import logging
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pydicom
import requests
from dicomweb_client.web import DICOMwebClient
from requests.adapters import HTTPAdapter

from fewshot_node.config import ClientTlsSettings, StowDestination
from fewshot_node.dicom.deliver.carrier import Receipt, not_listed
from fewshot_node.dicom.ledger import Confirmation
from fewshot_node.dicom.query import InstanceReference, read_reference
from fewshot_node.dicom.tls import client_context
from fewshot_node.errors import DeliveryError, PeerTroubleError, PeerUnavailableError

logging.getLogger("dicomweb_client").setLevel(logging.ERROR)  # it logs every request

T = TypeVar("T")

_SECRET_PREFIX = "FEWSHOT_NODE_SECRET_"  # noqa: S105  of the names of variables
_SOP_INSTANCE_UID = "00080018"
_BUSY = {408, 425, 429}
_WHOLE_BYTES = 2**31
"""Below this a request goes out in one piece: some servers refuse chunked uploads."""


class WebCarrier:
    """Stores files on a DICOMweb server; `name` is the destination's, which its secret goes by.

    Raises
    ------
    ConfigurationError
        A TLS file cannot be used.
    """

    def __init__(self, name: str, settings: StowDestination) -> None:
        self._name = f"DICOMweb server {name} at {_without_secrets(settings)}"
        self._client = DICOMwebClient(
            str(settings.url).rstrip("/"),
            session=web_session(name, settings),
            chunk_size=_WHOLE_BYTES,
            timeout=settings.timeout_s,
        )
        self._client.set_http_retry_params(retry=False)  # the courier decides when

    def carry(self, paths: Sequence[Path], transaction_uid: str | None) -> Receipt:
        """Store what the server does not list yet, and look again; see `Carrier`."""
        del transaction_uid
        references = {read_reference(path): path for path in paths}
        absent = self._missing(list(references))
        if absent:
            # Read from the outbox each time: what pydicom has not decoded it writes as it was.
            datasets = [pydicom.dcmread(path) for one, path in references.items() if one.sop_instance_uid in absent]
            self._ask("STOW-RS", lambda: self._client.store_instances(datasets))
            absent = self._missing(list(references))
        if absent:
            raise not_listed(self._name, absent)
        return Receipt(Confirmation.QIDO)

    def _missing(self, references: Sequence[InstanceReference]) -> set[str]:
        return {one.sop_instance_uid for one in references if not self._lists(one)}

    def _lists(self, reference: InstanceReference) -> bool:
        """Ask for one instance: a list may come in pages, and a server that pages wrongly never ends it."""
        uid = reference.sop_instance_uid

        def search() -> list[dict[str, Any]]:
            try:
                return self._client.search_for_instances(
                    reference.study_instance_uid,
                    reference.series_instance_uid,
                    search_filters={"SOPInstanceUID": uid},
                )
            except requests.HTTPError as error:
                if _status(error) == requests.codes.not_found:
                    return []  # some servers answer so of a study that they do not have
                raise

        return self._ask(
            "QIDO-RS", lambda: any(uid in one.get(_SOP_INSTANCE_UID, {}).get("Value", ()) for one in search())
        )

    def _ask(self, service: str, request: Callable[[], T]) -> T:
        """Make a request; what the library raises may quote what it sent, so only its kind is told."""
        try:
            return request()
        except requests.HTTPError as error:
            raise self._refusal(service, _status(error)) from None
        except (requests.ReadTimeout, requests.exceptions.ChunkedEncodingError):
            raise PeerTroubleError(f"{self._name} gave no whole answer to {service}: try again") from None
        except requests.RequestException as error:
            kind = type(error).__name__
            message = f"{self._name} does not answer {service} ({kind}): check that it runs, and its url and tls"
            raise PeerUnavailableError(message) from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            kind = type(error).__name__
            raise DeliveryError(f"{self._name} answers {service} with what is no DICOMweb ({kind})") from None

    def _refusal(self, service: str, status: int) -> PeerUnavailableError | DeliveryError:
        message = f"{self._name} answers {service} with HTTP status {status}"
        if status >= 500 or status in _BUSY:
            return PeerTroubleError(f"{message}: look at its log")
        if status in {401, 403}:
            return DeliveryError(f"{message}: check the user, and the secret in the environment")
        return DeliveryError(f"{message}: look at its log")


class _TlsAdapter(HTTPAdapter):
    """Speaks TLS as the settings say."""

    def __init__(self, settings: ClientTlsSettings) -> None:
        self._context = client_context(settings)
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options, ssl_context=self._context)


def _status(error: requests.HTTPError) -> int:
    return 0 if error.response is None else error.response.status_code


def web_session(name: str, settings: StowDestination) -> requests.Session:
    """Return a session that shows a server who this node is, as its settings and the environment say."""
    session = requests.Session()
    secret = os.environ.get(secret_variable(name))
    if settings.user is not None:
        session.auth = (settings.user, secret or "")
    elif secret:
        session.headers["Authorization"] = f"Bearer {secret}"
    if settings.tls is not None:
        session.mount("https://", _TlsAdapter(settings.tls))
    return session


def secret_variable(name: str) -> str:
    """Return the name of the environment variable with a destination's password or token."""
    return _SECRET_PREFIX + re.sub("[^A-Z0-9]", "_", name.upper())


def _without_secrets(settings: StowDestination) -> str:
    return f"{settings.url.scheme}://{settings.url.host}:{settings.url.port}{settings.url.path or ''}"
