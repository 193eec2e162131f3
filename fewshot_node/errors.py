"""Every error that this package raises, in one tree.

The tree is split by what the caller does next::

    FewshotNodeError
    ├── ConfigurationError      a setting is wrong: stop, name the key, exit
    ├── PermanentError          the same input fails again: record the reason, go on
    │   ├── NotDicomError           bytes that are no DICOM object
    │   ├── ProtocolError           a peer that breaks the rules of an association
    │   ├── SeriesError             a series that cannot become a volume
    │   │   ├── GeometryError           mixed, irregular or absent geometry, missing slices
    │   │   └── PixelDataError          truncated or undecodable pixels
    │   ├── TaskError               a task that is unknown, unfinished or contradictory
    │   │   ├── UnknownTaskError        no such task or revision
    │   │   ├── AmbiguousLabelError     a name that stands for several concepts, or for none
    │   │   └── RuleError               a routing rule that cannot be evaluated
    │   ├── TemplateError           an annotated example that cannot be used
    │   ├── ArchiveError            an exported task that must not be imported
    │   ├── EvaluationError         a suite that cannot be scored
    │   ├── CheckpointError         a model folder that cannot be loaded
    │   ├── ConformanceError        a result object that must not leave
    │   └── InternalError           a fault of this program, stripped of what it quoted
    ├── RetryableError          the same call may succeed later: wait, try again
    │   ├── PeerUnavailableError    PACS or another peer does not answer
    │   │   └── PeerTroubleError        it did, and then broke off, or is full or overloaded
    │   ├── DeliveryError           a peer answered but did not take or keep an object
    │   │   └── UnsupportedError        it does not offer the service or the SOP class at all
    │   ├── OrchestratorError       the Prefect server does not answer
    │   └── LostClaimError          another worker has the series now
    └── RefusedError            this node cannot take more now
        ├── DiskFullError           the spool's file system has no room
        └── PortInUseError          a listening address is taken

A message says what happened, names the thing (UID, path, key) and the remedy. It never holds a
patient's name, identifier or birth date.
"""


class FewshotNodeError(Exception):
    """Root of every error that the package raises on purpose."""


class ConfigurationError(FewshotNodeError):
    """A setting is missing, misspelt or contradictory."""


class PermanentError(FewshotNodeError):
    """The same input will fail in the same way; retrying is pointless."""


class NotDicomError(PermanentError):
    """A file or a stream that is not a DICOM object."""


class ProtocolError(PermanentError):
    """A peer that breaks the rules of an association (PS3.7, PS3.8)."""


class SeriesError(PermanentError):
    """A series that cannot be turned into a volume."""


class GeometryError(SeriesError):
    """Mixed, irregular or absent slice geometry, or missing slices."""


class PixelDataError(SeriesError):
    """Pixel data that are truncated, undecodable or of an unsupported kind."""


class TaskError(PermanentError):
    """A task that is unfinished or contradictory."""


class UnknownTaskError(TaskError):
    """No task, or no revision, of that name is registered."""


class AmbiguousLabelError(TaskError):
    """A label's name that stands for several coded concepts, or for none; somebody has to choose.

    Attributes
    ----------
    value, name
        The label.
    candidates
        Concepts (`fewshot_node.records.Code`) that it may stand for, the likeliest first; possibly none.
    """

    def __init__(self, message: str, value: int, name: str, candidates: tuple[object, ...]) -> None:
        super().__init__(message)
        self.value = value
        self.name = name
        self.candidates = candidates


class RuleError(TaskError):
    """A routing rule that cannot be evaluated, for example a misspelt attribute."""


class EvaluationError(PermanentError):
    """A suite that cannot be read, or cannot be scored as asked."""


class TemplateError(PermanentError):
    """An annotated example that cannot be used."""


class ArchiveError(PermanentError):
    """A file with an exported task that is damaged, altered, hostile or not trusted."""


class CheckpointError(PermanentError):
    """A model folder or hub name that cannot be loaded."""


class ConformanceError(PermanentError):
    """A result object that breaks the standard or points at the wrong thing."""


class InternalError(PermanentError):
    """A fault of this program; the message names the kind of error only."""


class RetryableError(FewshotNodeError):
    """A call that may succeed when it is made again later."""


class PeerUnavailableError(RetryableError):
    """A DICOM peer does not answer or rejects the association."""


class PeerTroubleError(PeerUnavailableError):
    """A peer that answers, but broke off this exchange, or is full or overloaded."""


class DeliveryError(RetryableError):
    """A peer answered, but an object was not taken or is not there afterwards."""


class UnsupportedError(DeliveryError):
    """A peer that does not offer a service, a SOP class or a transfer syntax."""


class OrchestratorError(RetryableError):
    """The Prefect server does not answer."""


class LostClaimError(RetryableError):
    """A worker's claim on a series passed to another worker; this one stops."""


class RefusedError(FewshotNodeError):
    """The node cannot take more at the moment."""


class DiskFullError(RefusedError):
    """The file system that holds the spool has no room."""


class PortInUseError(RefusedError):
    """A listening address is taken by another process."""
