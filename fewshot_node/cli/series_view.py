"""How ``series show`` shows a series."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from fewshot_node.cli.deliveries import next_step
from fewshot_node.cli.printing import plain_console
from fewshot_node.dicom.deliver.parcels import result_folder
from fewshot_node.dicom.ledger import CorrectionLink, Delivery, SeriesEntry, ShadowOutcome, ShadowState, TaskOutcome
from fewshot_node.dicom.objects.rejected import rejected_folder
from fewshot_node.records import MadeReport


def counted(entry: SeriesEntry) -> str:
    """Return how many instances have come, of how many where that is known."""
    return str(entry.instances) if entry.expected is None else f"{entry.instances}/{entry.expected}"


def print_entry(
    entry: SeriesEntry, deliveries: Sequence[Delivery], outbox: Path, reports: Sequence[MadeReport]
) -> None:
    """Print where a series comes from and stands, its results by task, and its warnings."""
    console = plain_console()
    console.print(f"series    {entry.key.series_instance_uid} revision {entry.key.revision}")
    console.print(f"study     {entry.study_instance_uid}")
    console.print(f"from      {entry.calling_ae_title}, {counted(entry)} instances")
    if entry.removed_at is not None:
        console.print(f"removed   {entry.removed_at:%Y-%m-%d %H:%M:%S}: its instances are no longer in the spool")
    console.print(f"state     {entry.state.value}{f': {entry.reason}' if entry.reason else ''}")
    for outcome in entry.outcomes:
        console.print(f"task      {outcome.task_name} revision {outcome.task_revision}: {outcome.state.value}")
        kept = rejected_folder(result_folder(outbox, entry.key, outcome.task_name))
        own = [one for one in deliveries if one.task_name == outcome.task_name]
        for line in _outcome_lines(outcome, reports, kept, own):
            console.print(f"          {line}")
    for warning in entry.warnings:
        console.print(f"warning   {warning.time:%Y-%m-%d %H:%M:%S} {warning.text}")


def _outcome_lines(
    outcome: TaskOutcome, reports: Iterable[MadeReport], kept: Path, deliveries: Iterable[Delivery]
) -> Iterator[str]:
    yield f"SEG {outcome.segmentation_instance_uid or 'none'}"
    yield f"SR  {outcome.report_instance_uid or 'none'}"
    for one in reports:
        if one.predecessor is not None and one.reference.sop_instance_uid == outcome.report_instance_uid:
            yield f"it replaces SR {one.predecessor.sop_instance_uid}"
    yield ", ".join(f"{name} {seconds:.1f} s" for name, seconds in outcome.seconds.items())
    if kept.is_dir():
        yield f"not let out by the checks, kept for a look: {kept}"
    for delivery in deliveries:
        details = ", ".join(filter(None, (next_step(delivery), delivery.reason)))
        yield f"to {delivery.destination}: {delivery.state.value}, {delivery.tries} tries, {details}"


def print_shadows(entry: SeriesEntry, kept: Path) -> None:
    """Print what shadow revisions came to; `kept` is the folder of their objects."""
    console = plain_console()
    for shadow in entry.shadows:
        console.print(f"shadow    {shadow.task_name} revision {shadow.task_revision}: {_shadow_text(shadow)}")
        console.print(f"          SEG {shadow.segmentation_instance_uid or 'none'}")
        console.print(f"          SR  {shadow.report_instance_uid or 'none'}")
        if shadow.state is ShadowState.KEPT:
            console.print(f"          not sent; kept in {result_folder(kept, entry.key, shadow.task_name)}")


def _shadow_text(shadow: ShadowOutcome) -> str:
    return f"{shadow.state.value}{f': {shadow.reason}' if shadow.reason else ''}"


def print_corrections(links: Sequence[CorrectionLink], series_instance_uid: str) -> None:
    """Print what a series corrects, and what corrects it."""
    console = plain_console()
    for one in links:
        what = f"task {one.task_name} revision {one.task_revision}, labels {', '.join(map(str, one.labels))}"
        if one.series_instance_uid == series_instance_uid:
            console.print(f"corrects  {what} on series {one.source} ({one.result_instance_uid})")
        else:
            console.print(f"corrected {what} by series {one.series_instance_uid} ({one.instance_uid})")
