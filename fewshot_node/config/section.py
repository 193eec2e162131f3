"""What sections of the settings are made of, and the kinds of values that several have."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

AETitle = Annotated[str, Field(min_length=1, max_length=16, pattern=r"^[ -\[\]-~]*[!-\[\]-~][ -\[\]-~]*$")]
"""An AE title: 1 to 16 printable characters without backslash, not all spaces (PS3.5 6.2)."""
Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0)]
Uid = Annotated[str, Field(max_length=64, pattern=r"^[0-9]+(\.[0-9]+)*$")]


class Section(BaseModel):
    """Part of the settings; a key that it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PeerAddress(Section):
    """Where a peer listens."""

    host: str
    port: Port
