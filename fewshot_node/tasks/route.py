"""Which tasks take a received series."""

from collections.abc import Iterator, Sequence

from fewshot_node.dicom.objects.headers import holds_images, read_header
from fewshot_node.errors import RuleError
from fewshot_node.records import ReceivedSeries
from fewshot_node.tasks.attributes import SeriesFacts
from fewshot_node.tasks.candidates import Candidate, LiveTask
from fewshot_node.tasks.rule_groups import takes


def route(received: ReceivedSeries, among: Sequence[Candidate]) -> tuple[LiveTask, ...]:
    """Return the tasks whose rules all hold for this series; objects that are no images match none.

    A task whose rules cannot be read, or come to no verdict, may have been meant: it is taken to match and is
    broken, so that the series does not end as *no task* for the wrong reason.
    """
    if not among or not holds_images(received.files):
        return ()
    return tuple(_matching(SeriesFacts(read_header(received.files), received.calling_ae_title), among))


def _matching(facts: SeriesFacts, among: Sequence[Candidate]) -> Iterator[LiveTask]:
    for candidate in among:
        try:
            if candidate.rules is None or takes(candidate.rules, facts):
                yield candidate.load()
        except RuleError as error:
            yield candidate.broken(str(error))
