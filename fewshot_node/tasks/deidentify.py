"""Templates without a way back to the patient, after the basic profile of PS3.15 Annex E.

A template holds pixels, labels, spacing, orientation, modality and UIDs, and no other attribute of its series: a
de-identifier of DICOM files would find nothing to do. Of what is held, the profile's table E.1-1 replaces the UIDs
(action U): consistently, so that two templates of one series still show that they are. They are made with a secret
of the site (HMAC), because a bare digest could be recomputed by anybody who knows the original UIDs.

Pixels are left as they are. Series whose headers admit burned-in annotations are refused; a face can be made out in
slices of a head, which no profile removes without the option for recognizable visual features.
"""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fewshot_node.dicom.objects.headers import image_headers
from fewshot_node.disk import whole_file
from fewshot_node.errors import TemplateError
from fewshot_node.tasks.templates import Template
from fewshot_node.uids import derive_uid

_KEY_FILE = ".deidentification-key"
_KEY_BYTES = 32


def site_key(root: Path) -> bytes:
    """Return the site's secret, below the folder of its tasks; it is made when first asked for."""
    path = root / _KEY_FILE
    if not path.is_file():
        root.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as temporary:
            temporary.touch(mode=0o600)
            temporary.write_bytes(secrets.token_bytes(_KEY_BYTES))
    return path.read_bytes()


def deidentified(template: Template, key: bytes) -> Template:
    """Return the template under UIDs that only the holder of `key` can trace; its name and pixels stay."""
    origin = template.origin
    if origin is not None:
        notes = (*origin.notes, "de-identified: UIDs replaced (PS3.15 E, basic profile)")
        origin = replace(origin, study_instance_uid="", notes=notes)
    return replace(
        template,
        series_instance_uid=_replaced(template.series_instance_uid, key),
        instance_uids=tuple(_replaced(uid, key) for uid in template.instance_uids),
        origin=origin,
    )


def require_clean_pixels(files: Sequence[Path]) -> None:
    """Refuse images that say that somebody's name may stand in their pixels (Burned In Annotation, PS3.3 C.7.6.1).

    Raises
    ------
    TemplateError
        One does.
    """
    for header in image_headers(files, tags=["BurnedInAnnotation", *_IDENTIFYING]):
        if str(header.dataset.get("BurnedInAnnotation", "")).upper() == "YES":
            raise TemplateError(
                f"instance {header.dataset.SOPInstanceUID} states burned-in annotation: a name may stand in its "
                "pixels, which are not cleaned; give other images, or keep the template as it is (without --deidentify)"
            )


_IDENTIFYING = [
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "Rows",
    "Columns",
    "BitsAllocated",
]
"""What `image_headers` needs to tell images and their series."""


def _replaced(uid: str, key: bytes) -> str:
    return derive_uid("deidentified", hmac.new(key, uid.encode(), hashlib.sha256).hexdigest())
