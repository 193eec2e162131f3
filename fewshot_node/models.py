"""The networks that a worker holds in memory, loaded once."""

from dataclasses import dataclass

from fewshot_node.config import WorkerSettings
from fewshot_node.uids import digest_parts
from fewshot_node.vision.backbone import DenseEncoder, load_encoder
from fewshot_node.vision.sam import SamEngine, load_sam


@dataclass(frozen=True, slots=True)
class Models:
    """The encoder, and SAM when one is configured."""

    encoder: DenseEncoder
    sam: SamEngine | None = None

    @property
    def sam_digest(self) -> str | None:
        """Digest of SAM's weights; None without SAM."""
        return self.sam.weights_digest if self.sam else None

    @property
    def weights_digest(self) -> str:
        """Digest of all weights that take part in a result."""
        digests = [self.encoder.weights_digest, self.sam_digest or ""]
        return digest_parts(digest.encode() for digest in digests)


def load_models(settings: WorkerSettings) -> Models:
    """Load what the worker's settings name.

    Raises
    ------
    CheckpointError
        A folder or hub name is no usable checkpoint.
    """
    encoder = load_encoder(settings.encoder, offline=settings.offline)
    sam = load_sam(settings.sam, offline=settings.offline) if settings.sam else None
    return Models(encoder, sam)
