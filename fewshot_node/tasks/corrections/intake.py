"""From a series that came in to proposals: what the worker does before it routes."""

import logging
from datetime import UTC, datetime
from pathlib import Path

from fewshot_node.dicom.ledger import CorrectionLink
from fewshot_node.dicom.objects.headers import holds_images, model_name
from fewshot_node.dicom.objects.provenance import MODEL_NAME
from fewshot_node.dicom.objects.volume import read_volume
from fewshot_node.errors import SeriesError
from fewshot_node.node import Node
from fewshot_node.records import ReceivedSeries, Volume
from fewshot_node.tasks.corrections.annotation import Annotation, read_annotation
from fewshot_node.tasks.corrections.proposals import Proposal, Proposals
from fewshot_node.tasks.corrections.recognise import Returned, recognise

logger = logging.getLogger(__name__)

_NAME_DIGITS = 8


def take_corrections(received: ReceivedSeries, node: Node) -> str | None:
    """Propose what a series corrects; say what it came to, or None when it holds nothing of ours.

    A series of images is never a correction, and a correction is never worked on by a task: what this node
    makes cannot start anything by coming back.

    Raises
    ------
    SeriesError
        The images that a correction belongs to are not in the spool.
    TemplateError
        A correction cannot be placed on its images.
    """
    if holds_images(received.files):
        # Overlays are images: a rule that looks at the body part alone would take them.
        return "our own pictures came back" if model_name(received.files[0]) == MODEL_NAME else None
    returned = recognise(received.files, node.ledger)
    return "; ".join(dict.fromkeys(_take(one, node) for one in returned)) if returned else None


def _take(returned: Returned, node: Node) -> str:
    nothing = returned.corrects_nothing
    if nothing:
        return nothing
    annotation = read_annotation(returned, _source_volume(returned, node), node.settings.outbox)
    if not annotation.labels:
        return f"our own result came back, stored as another object{_left_out(annotation)}"
    link = _link(returned, annotation)
    node.ledger.note_correction(link)
    what = f"correction of task {link.task_name} revision {link.task_revision} on series {link.source}"
    task_folder: Path = node.settings.tasks / link.task_name
    if not (task_folder / "draft").is_dir():
        return f"{what}; there is no such task any more"
    proposal = _proposal(link, annotation, node)
    is_new = Proposals(node.settings.tasks).propose(proposal, annotation.write)
    logger.info(
        "series %s: %s, proposal %s%s", link.series_instance_uid, what, proposal.name, "" if is_new else " again"
    )
    return f"{what}; proposed as template {proposal.name} (template proposed {link.task_name}){_left_out(annotation)}"


def _left_out(annotation: Annotation) -> str:
    """Say what a person may have deleted that counts as not corrected."""
    if not annotation.left_out:
        return ""
    labels = ", ".join(map(str, annotation.left_out))
    return (
        f"; it leaves out label {labels}, which counts as not corrected: to say that it is not there, send it as an "
        "empty segment, or add a template by hand (template add)"
    )


def _source_volume(returned: Returned, node: Node) -> Volume:
    source = returned.result.key
    files = node.spool.series_files(source.series_instance_uid)
    if not files:
        raise SeriesError(
            f"{returned.object.sop_instance_uid} corrects task {returned.result.task_name} on series "
            f"{source.series_instance_uid}, whose images are no longer in the spool: fetch them (fewshot-node pull), "
            "then retry this series"
        )
    return read_volume(files)


def _link(returned: Returned, annotation: Annotation) -> CorrectionLink:
    result = returned.result
    return CorrectionLink(
        instance_uid=returned.object.sop_instance_uid,
        series_instance_uid=returned.object.series_instance_uid,
        source=result.key,
        task_name=result.task_name,
        task_revision=result.task_revision,
        result_instance_uid=result.label.instance_uid,
        labels=annotation.labels,
    )


def _proposal(link: CorrectionLink, annotation: Annotation, node: Node) -> Proposal:
    source = node.ledger.entry(link.source)
    return Proposal(
        name=f"correction-{annotation.digest(link.source.series_instance_uid)[:_NAME_DIGITS]}",
        task=link.task_name,
        task_revision=link.task_revision,
        study_instance_uid="" if source is None else source.study_instance_uid,
        series_instance_uid=link.source.series_instance_uid,
        result_instance_uid=link.result_instance_uid,
        correction_instance_uid=link.instance_uid,
        labels=annotation.labels,
        slices=annotation.slices,
        proposed=datetime.now(UTC),
    )
