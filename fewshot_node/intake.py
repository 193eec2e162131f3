"""Everything that takes images in, composed: one process, no torch, no Prefect."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from fewshot_node.dicom.commitment.desk import CommitmentDesk
from fewshot_node.dicom.deliver.attempts import Attempts
from fewshot_node.dicom.monitor.health import intake_checks
from fewshot_node.dicom.monitor.node_state import NodeState
from fewshot_node.dicom.monitor.server import MonitorServer
from fewshot_node.dicom.receive.completion import completion_loop
from fewshot_node.dicom.receive.expected import ExpectedCounts
from fewshot_node.dicom.receive.receiver import Receiver
from fewshot_node.dicom.receive.retention import retention_loop
from fewshot_node.node import Node


@contextmanager
def running_intake(node: Node) -> Iterator[Receiver]:
    """Receive, close series, tell commitments, remove what may go and show how it is, within the context.

    Raises
    ------
    PortInUseError, ConfigurationError
        The receiver or the monitor cannot listen, or another receiver uses the spool.
    """
    settings = node.settings
    receive = settings.receive
    desk = CommitmentDesk(settings.commitments, node.spool, settings.commitment, receive.ae_title)
    take_report = Attempts(node.ledger, settings).take_report
    with ExitStack() as running:
        running.enter_context(desk)
        receiver = running.enter_context(Receiver(receive, node.spool, node.ledger, desk, take_report=take_report))
        running.enter_context(completion_loop(node.ledger, receive, receiver.busy_series))
        running.enter_context(retention_loop(node.spool, node.ledger, settings.retention))
        if receive.ask_pacs_for_count:
            running.enter_context(ExpectedCounts(node.ledger, settings.pacs))
        receiver.metrics.add(NodeState(node.spool, node.ledger, receiver.notes.unflushed))
        checks = intake_checks(lambda: receiver.is_listening, node.spool, node.ledger, receive.min_free_mb)
        running.enter_context(MonitorServer(settings.monitor, receiver.metrics, checks))
        yield receiver
