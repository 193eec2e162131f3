"""Deterministic unique identifiers for everything that this node creates.

Every UID is a ``2.25`` UID (PS3.5 Annex B.2) made from a name-based UUID (RFC 9562, version 5), so the
same inputs give the same UID on every machine and any changed input gives another one.
"""

import hashlib
import uuid
from collections.abc import Iterable
from dataclasses import dataclass

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://fewshot-node.invalid/uids/1")


def derive_uid(role: str, *parts: str) -> str:
    """Return the UID that belongs to `role` and `parts`.

    Parts are joined with their lengths, so ("ab", "c") and ("a", "bc") differ.
    """
    name = "".join(f"{len(part)}:{part}" for part in (role, *parts))
    return f"2.25.{uuid.uuid5(_NAMESPACE, name).int}"


def digest_parts(parts: Iterable[bytes]) -> str:
    """Return the SHA-256 hex digest of length-prefixed byte strings."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class ResultUids:
    """One method for each UID role of a result, all derived from what produced the result.

    Attributes
    ----------
    source_instance_uids
        SOP Instance UIDs of the frames really used, in any order.
    source_digest
        Digest of the pixels and the geometry of the source volume: the same UIDs with other pixels
        are another input.
    task_name, task_digest
        Name and content digest of the published task revision (templates, weights, settings).
    weights_digest
        Digest of the encoder's and the refiner's weights.
    code_version
        Version of this package.
    """

    source_instance_uids: tuple[str, ...]
    source_digest: str
    task_name: str
    task_digest: str
    weights_digest: str
    code_version: str

    def segmentation_series(self, kind: str = "binary") -> str:
        """Series Instance UID of the segmentation; each kind (`OutputSettings.segmentation`) has its own."""
        return self._derive("segmentation-series", *(() if kind == "binary" else (kind,)))

    def segmentation_instance(self, content_digest: str) -> str:
        """SOP Instance UID of the segmentation with this content, its header included."""
        return self._derive("segmentation-instance", content_digest)

    def report_series(self) -> str:
        """Series Instance UID of the structured report."""
        return self._derive("report-series")

    def report_instance(self, content_digest: str) -> str:
        """SOP Instance UID of the structured report with this content, its header included."""
        return self._derive("report-instance", content_digest)

    def structure_set_series(self) -> str:
        """Series Instance UID of the RT Structure Set."""
        return self._derive("structure-set-series")

    def structure_set_instance(self, content_digest: str) -> str:
        """SOP Instance UID of the RT Structure Set with this content, its header included."""
        return self._derive("structure-set-instance", content_digest)

    def overlay_series(self) -> str:
        """Series Instance UID of the pictures with the masks drawn in."""
        return self._derive("overlay-series")

    def overlay_instance(self, content_digest: str) -> str:
        """SOP Instance UID of one picture with this content, its header included."""
        return self._derive("overlay-instance", content_digest)

    def presentation_series(self) -> str:
        """Series Instance UID of the presentation states."""
        return self._derive("presentation-series")

    def presentation_instance(self, content_digest: str) -> str:
        """SOP Instance UID of one presentation state with this content, its header included."""
        return self._derive("presentation-instance", content_digest)

    def tracking(self, label_name: str) -> str:
        """Tracking UID (112040, DCM) shared by a structure's segment and its measurement group."""
        return self._derive("tracking", label_name)

    def dimension_organization(self) -> str:
        """Dimension Organization UID of the segmentation."""
        return self._derive("dimension-organization")

    def device_observer(self) -> str:
        """Device Observer UID (TID 1004): this software with these weights."""
        return derive_uid("device-observer", self.code_version, self.weights_digest)

    def model(self) -> str:
        """Device UID of the model: another one whenever it was changed, for example by fitting the task again."""
        return derive_uid("model", self.code_version, self.weights_digest, self.task_name, self.task_digest)

    def _derive(self, role: str, *extra: str) -> str:
        return derive_uid(
            role,
            *sorted(self.source_instance_uids),
            self.source_digest,
            self.task_name,
            self.task_digest,
            self.weights_digest,
            self.code_version,
            *extra,
        )


def fallback_frame_of_reference(series_instance_uid: str) -> str:
    """Frame of Reference UID for a series that states none.

    Derived from the series, because positions of one series share one coordinate system while those
    of two series without a stated frame need not (PS3.3 C.7.4.1).
    """
    return derive_uid("frame-of-reference", series_instance_uid)
