"""Fetching one series from a DICOMweb server: QIDO-RS to list, WADO-RS to retrieve (PS3.18 10.4, 10.6)."""

import logging

import requests
from dicomweb_client.web import DICOMwebClient
from pydicom.dataset import Dataset

from fewshot_node.config import StowDestination
from fewshot_node.dicom.deliver.web import web_session
from fewshot_node.dicom.identity import is_uid
from fewshot_node.dicom.query import RemoteSeries
from fewshot_node.errors import DeliveryError, PeerUnavailableError

logging.getLogger("dicomweb_client").setLevel(logging.ERROR)  # it logs every request

_SERIES_INSTANCE_UID, _MODALITY, _DESCRIPTION = "0020000E", "00080060", "0008103E"
_AS_STORED = (("application/dicom", "*"),)


class WebArchive:
    """A DICOMweb server to fetch from; `name` is its destination's in the settings."""

    def __init__(self, name: str, settings: StowDestination) -> None:
        self._name = f"DICOMweb server {name} at {settings.url.host}"
        session = web_session(name, settings)
        self._client = DICOMwebClient(str(settings.url).rstrip("/"), session=session, timeout=settings.timeout_s)
        self._client.set_http_retry_params(retry=False)

    def list_series(self, study_instance_uid: str) -> tuple[RemoteSeries, ...]:
        """List the series of a study.

        Raises
        ------
        PeerUnavailableError, DeliveryError
            The server does not answer, or refuses.
        """
        fields = [_MODALITY, _DESCRIPTION]
        try:
            found = self._client.search_for_series(study_instance_uid, fields=fields)
        except (requests.RequestException, ValueError, KeyError, TypeError) as error:
            raise self._trouble("QIDO-RS", error) from None
        listed = (RemoteSeries(*(_text(one, tag) for tag in (_SERIES_INSTANCE_UID, *fields))) for one in found)
        return tuple(series for series in listed if is_uid(series.series_instance_uid))

    def fetch_series(self, study_instance_uid: str, series_instance_uid: str) -> list[Dataset]:
        """Fetch the instances of a series as they are stored.

        Raises
        ------
        PeerUnavailableError, DeliveryError
            The server does not answer, refuses, or has no such series.
        """
        try:
            return self._client.retrieve_series(study_instance_uid, series_instance_uid, media_types=_AS_STORED)
        except (requests.RequestException, ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._trouble("WADO-RS", error) from None

    def _trouble(self, service: str, error: Exception) -> DeliveryError | PeerUnavailableError:
        """Describe an error; what the library raises may quote what it read, so only its kind is told."""
        if isinstance(error, requests.HTTPError) and error.response is not None:
            status = error.response.status_code
            return DeliveryError(
                f"{self._name} answers {service} with HTTP status {status}: check the UIDs, look at its log"
            )
        if isinstance(error, requests.RequestException):
            kind = type(error).__name__
            return PeerUnavailableError(
                f"{self._name} does not answer {service} ({kind}): check that it runs, and its url"
            )
        return DeliveryError(f"{self._name} answers {service} with what is no DICOMweb ({type(error).__name__})")


def _text(item: dict[str, dict[str, list[object]]], tag: str) -> str:
    values = item.get(tag, {}).get("Value") or [""]
    return str(values[0])
