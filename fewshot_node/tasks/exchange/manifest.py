"""What an archive says about itself."""

import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fewshot_node.errors import ArchiveError

_SCHEMA_VERSION = 1


class Member(BaseModel):
    """Length and SHA-256 hex digest of a member."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Manifest(BaseModel):
    """The members of an archive, and which revision of which task they are.

    Attributes
    ----------
    digest
        Of the revision: over its labels, rules, settings, templates and weights.
    templates
        Whether the annotated examples are in it: slices of patients' images.
    made_by
        Program and version that exported it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["fewshot-node task"] = "fewshot-node task"
    schema_version: Literal[1] = 1
    task: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")
    revision: int = Field(ge=1, le=999_999)
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    templates: bool
    made_by: str = Field(max_length=100)
    files: dict[str, Member]

    def encode(self) -> bytes:
        """Return the manifest as it stands in the archive and is signed."""
        text = json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True, ensure_ascii=True)
        return text.encode() + b"\n"


def decode_manifest(content: bytes, source: str) -> Manifest:
    """Read a manifest; `source` names the archive in the error.

    Raises
    ------
    ArchiveError
        It is no manifest, or another version of this program wrote it.
    """
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ArchiveError(f"{source}: its manifest is no JSON: copy or export the file again") from error
    version = data.get("schema_version") if isinstance(data, dict) else None
    if isinstance(version, int) and version != _SCHEMA_VERSION:
        raise ArchiveError(
            f"{source} is of schema version {version}, this program reads {_SCHEMA_VERSION}: "
            "update fewshot-node, or export it with the version that is here"
        )
    try:
        return Manifest.model_validate(data)
    except ValidationError as error:
        key = ".".join(str(part) for part in error.errors()[0]["loc"]) or "content"
        raise ArchiveError(f"{source}: its manifest is not acceptable ({key}): export the task again") from error
