"""A progress bar on standard error, and where features are kept meanwhile."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from fewshot_node.config import NodeSettings

if TYPE_CHECKING:
    from fewshot_node.tasks.progress import Watch
    from fewshot_node.vision.feature_cache import FeatureCache


@contextmanager
def watched() -> Iterator["Watch"]:
    """Show a bar on a terminal; its stages replace each other, and it goes when all is done.

    A line a stage is for a node's log: meanwhile it would come some hundred times.
    """
    logger = logging.getLogger("fewshot_node")
    level = logger.level
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    # Elsewhere it would leave an empty line behind.
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=None)

        def show(stage: str, done: int, total: int) -> None:
            progress.update(bar, description=stage, completed=done, total=total)

        logger.setLevel(logging.WARNING)
        try:
            yield show
        finally:
            logger.setLevel(level)


def feature_cache(settings: NodeSettings) -> "FeatureCache | None":
    """Return the node's cache of templates' features; None where it is switched off."""
    from fewshot_node.vision.feature_cache import FolderCache

    limit = settings.worker.feature_cache_mb * 2**20
    return FolderCache(settings.features, limit) if limit else None
