"""Which published tasks take a received series."""

from collections.abc import Sequence

from fewshot_node.dicom.headers import holds_images, read_header
from fewshot_node.records import ReceivedSeries
from fewshot_node.tasks.rules import evaluate
from fewshot_node.tasks.task import PublishedTask


def route(received: ReceivedSeries, tasks: Sequence[PublishedTask]) -> tuple[PublishedTask, ...]:
    """Return the tasks whose rules all hold for this series; objects that are no images match none."""
    if not holds_images(received.files):
        return ()
    header = read_header(received.files)
    return tuple(task for task in tasks if evaluate(task.definition.rules, header, received.calling_ae_title).matches)
