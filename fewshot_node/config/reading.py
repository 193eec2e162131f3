"""Reading the settings, and saying in words what is wrong with them."""

import difflib
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from fewshot_node.config.node import NodeSettings
from fewshot_node.config.section import Section
from fewshot_node.errors import ConfigurationError

SectionT = TypeVar("SectionT", bound=Section)


def load_settings(path: Path | None) -> NodeSettings:
    """Read settings from a TOML file; None gives the defaults.

    Relative paths are taken from the file's own folder.

    Raises
    ------
    ConfigurationError
        The file is absent, no TOML, or has an unknown or unacceptable key; the message names it.
    """
    if path is None:
        return NodeSettings()
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        message = f"settings file {path} cannot be read ({error.strerror}): check the path"
        raise ConfigurationError(message) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"settings file {path} is no TOML: {error}") from error
    return _from_folder(parse_settings(data, source=str(path)), path.parent)


def _from_folder(section: SectionT, folder: Path) -> SectionT:
    """Take relative paths from the folder of the settings file."""
    return section.model_copy(update={name: _placed(value, folder) for name, value in section})


def _placed(value: Any, folder: Path) -> Any:
    if isinstance(value, Path):
        return (folder / value).resolve()
    if isinstance(value, tuple):
        return tuple(_placed(inner, folder) for inner in value)
    if isinstance(value, dict):
        return {key: _placed(inner, folder) for key, inner in value.items()}
    return _from_folder(value, folder) if isinstance(value, Section) else value


def parse_settings(data: dict[str, Any], source: str) -> NodeSettings:
    """Turn a parsed document into settings; `source` names it in the error.

    Raises
    ------
    ConfigurationError
        It has an unknown or unacceptable key; the message names each.
    """
    try:
        return NodeSettings.model_validate(data)
    except ValidationError as error:
        problems = "; ".join(_explain(detail) for detail in error.errors())
        raise ConfigurationError(f"{source}: {problems}") from error


def _explain(detail: ErrorDetails) -> str:
    key = ".".join(str(part) for part in detail["loc"])
    if detail["type"] != "extra_forbidden":
        return f"{key}: {detail['msg']}"
    known = _keys_beside(detail["loc"])
    close = difflib.get_close_matches(str(detail["loc"][-1]), known, n=1)
    hint = f"did you mean {close[0]}?" if close else "known keys: " + ", ".join(known)
    return f"unknown key {key}; {hint}"


def _keys_beside(location: tuple[int | str, ...]) -> list[str]:
    """Return the keys of the section that an unknown key stands in."""
    section: type[BaseModel] = NodeSettings
    choices = [section]
    for part in location[:-1]:
        field = section.model_fields.get(str(part))
        if field is not None:  # else the name of one of several like sections, or its kind
            choices = list(_sections(field.annotation))
            section = choices[0]
        section = next((one for one in choices if part in _kinds(one)), section)
    return list(section.model_fields)


def _kinds(section: type[BaseModel]) -> tuple[Any, ...]:
    """Return what the key `kind` may be in a section; nothing where there is no such key."""
    field = section.model_fields.get("kind")
    return () if field is None else get_args(field.annotation)


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    """Give the sections that an annotation names, `Section | None` and `dict[..., Section]` included."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _sections(inner)
