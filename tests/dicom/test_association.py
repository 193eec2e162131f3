"""Opening an association as requestor."""

from collections.abc import Callable
from typing import Any

import pytest
from pynetdicom import AE, build_context
from pynetdicom.acse import ACSE

from fewshot_node.config import PacsSettings
from fewshot_node.dicom.association import associate
from fewshot_node.errors import PeerUnavailableError

VERIFICATION = "1.2.840.10008.1.1"


def test_a_peer_that_rejects_at_once_is_told_from_one_that_hangs_up(
    monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., Any]
) -> None:
    """The answer is there, and the connection closed, before pynetdicom looks for either."""
    send = ACSE.send_request

    def look_late(acse: Any) -> None:
        send(acse)
        acse.socket._ready.wait(10)
        eventually(lambda: not acse.socket._is_connected)

    entity = AE("PICKY")
    entity.require_calling_aet = ["OTHER"]
    entity.add_supported_context(VERIFICATION)
    server: Any = entity.start_server(("127.0.0.1", 0), block=False)
    monkeypatch.setattr(ACSE, "send_request", look_late)
    pacs = PacsSettings(ae_title="PICKY", host="127.0.0.1", port=server.server_address[1])
    refused = pytest.raises(PeerUnavailableError, match="rejects the association: check the AE titles")
    with refused, associate(pacs, [build_context(VERIFICATION)]):
        pass
    server.shutdown()
