"""What a process keeps between flow runs.

Prefect calls flows by name, in a process that it does not let us hand objects to; so the node of this
process is opened on first use from the settings file that ``FEWSHOT_NODE_CONFIG`` names. Nothing here
imports torch: the dispatcher and the operators' deployments need none.
"""

import os
import socket
import threading
from functools import cache
from pathlib import Path

from fewshot_node.config import load_settings
from fewshot_node.node import Node, open_node
from fewshot_node.supervise import answers
from flows.environment import CONFIG_VARIABLE


@cache
def this_node() -> Node:
    """Return the node that this process works for."""
    path = os.environ.get(CONFIG_VARIABLE)
    return open_node(load_settings(Path(path) if path else None))


def worker_name() -> str:
    """Return the name under which this process claims series."""
    return f"{socket.gethostname()}:{os.getpid()}"


def wait_for_server(api_url: str, stop: threading.Event, poll_s: float = 0.5) -> bool:
    """Wait for the Prefect server; True when it answers, False when `stop` was set first."""
    while not stop.is_set():
        if answers(f"{api_url}/health"):
            return True
        stop.wait(poll_s)
    return False
