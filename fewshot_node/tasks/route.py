"""Which live tasks take a received series."""

from collections.abc import Sequence

from fewshot_node.dicom.objects.headers import holds_images, read_header
from fewshot_node.records import ReceivedSeries
from fewshot_node.tasks.attributes import SeriesFacts
from fewshot_node.tasks.rule_groups import takes
from fewshot_node.tasks.task import BrokenTask, PublishedTask

LiveTask = PublishedTask | BrokenTask


def route(received: ReceivedSeries, tasks: Sequence[LiveTask]) -> tuple[LiveTask, ...]:
    """Return the tasks whose rules all hold for this series; objects that are no images match none.

    A broken task whose rules cannot be read either may have been meant: it is taken to match, so that
    the series does not end as *no task* for the wrong reason.
    """
    if not holds_images(received.files):
        return ()
    facts = SeriesFacts(read_header(received.files), received.calling_ae_title)
    return tuple(task for task in tasks if _takes(task, facts))


def _takes(task: LiveTask, facts: SeriesFacts) -> bool:
    rules = task.rules if isinstance(task, BrokenTask) else task.definition.rules
    return rules is None or takes(rules, facts)
