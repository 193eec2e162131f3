"""Prefect's settings for this node, as environment variables; imports nothing of Prefect.

Prefect reads its settings when it is imported, so they are put in place before.
"""

import os
from pathlib import Path
from urllib.parse import urlsplit

from fewshot_node.config import NodeSettings

CONFIG_VARIABLE = "FEWSHOT_NODE_CONFIG"


def prefect_environment(settings: NodeSettings) -> dict[str, str]:
    """Return the variables that every process that talks to Prefect needs.

    A hospital has no way out, so Prefect's telemetry is off; the UI is told its own address, because
    it would otherwise look for the API on its default port.
    """
    return {
        "PREFECT_API_URL": settings.prefect.api_url,
        "PREFECT_SERVER_UI_API_URL": settings.prefect.api_url,
        "PREFECT_HOME": str(settings.home / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "fewshot_node",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        "PREFECT_CLI_PROMPT": "false",
    }


def use_prefect(settings: NodeSettings, config: Path | None) -> None:
    """Put Prefect's settings, and the path of ours, into this process's environment."""
    os.environ.update(prefect_environment(settings))
    if config is not None:
        os.environ[CONFIG_VARIABLE] = str(config.resolve())


def server_address(settings: NodeSettings) -> tuple[str, int]:
    """Host and port that the Prefect server listens on."""
    parts = urlsplit(settings.prefect.api_url)
    return parts.hostname or "127.0.0.1", parts.port or 4200
