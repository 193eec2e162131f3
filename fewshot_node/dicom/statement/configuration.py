"""The settings with their defaults, from the models that read them (PS3.2 Annex N: configuration)."""

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from fewshot_node.config import DestinationName, NodeSettings
from fewshot_node.dicom.statement.markdown import table

_NOT_DICOM = frozenset({"exchange", "home", "prefect", "publish", "worker"})
_NAME_PATTERN = get_args(DestinationName)[1].metadata[0].pattern
_BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "more than",
    "maximum": "at most",
    "exclusiveMaximum": "less than",
}
_FORMATS = {"path": "file", "uri": "URL", "ipvanynetwork": "network address"}

Schema = Mapping[str, Any]


def sections() -> tuple[str, ...]:
    """Return the paragraphs of the section."""
    return (
        "All in one TOML file that is read at the start; `deploy/node.example.toml` explains every key. AE titles are "
        "mapped to addresses there and nowhere else; DHCP, DNS and the clock are the operating system's.",
        table(("Parameter", "Values", "Default"), _rows()),
    )


def _rows() -> Iterator[tuple[str, str, str]]:
    schema = NodeSettings.model_json_schema()
    for name, section in schema["properties"].items():
        if name not in _NOT_DICOM:
            yield from _keys(name, section, schema["$defs"])


def _keys(prefix: str, schema: Schema, definitions: Schema) -> Iterator[tuple[str, str, str]]:
    """Give a row for each key below a key."""
    sections = _sections(schema)
    if not sections:
        yield f"`{prefix}`", _values(schema), _default(schema)
        return
    for pattern in schema.get("patternProperties", {}):
        prefix += ".<name>" if pattern == _NAME_PATTERN else ".<AE title>"
    rows = [
        row
        for section in sections
        for key, inner in definitions[section]["properties"].items()
        for row in _keys(f"{prefix}.{key}", inner, definitions)
    ]
    yield from dict.fromkeys(rows)  # kinds of one thing have keys in common


def _sections(schema: Schema) -> tuple[str, ...]:
    """Return the names of the sections that a key stands for; `peers` hold one for each AE title."""
    named = [schema, *_by_name(schema)]
    choices = [choice for one in named for choice in (one, *one.get("anyOf", ()), *one.get("oneOf", ()))]
    return tuple(str(choice["$ref"]).rpartition("/")[2] for choice in choices if "$ref" in choice)


def _by_name(schema: Schema) -> Iterator[Schema]:
    """Give what stands under each AE title or name, which pydantic tells by its pattern."""
    yield from schema.get("patternProperties", {}).values()


def _values(schema: Schema) -> str:
    """Say in words what a key may be."""
    if "anyOf" in schema:
        return " or ".join(_values(choice) for choice in schema["anyOf"] if choice.get("type") != "null")
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list: {_values(schema['items'])}"
    if schema.get("type") == "object":
        return _values_by_name(schema)
    return ", ".join((_kind(schema), *_bounds(schema)))


def _values_by_name(schema: Schema) -> str:
    if "additionalProperties" in schema:
        return f"for each task: {_values(schema['additionalProperties'])}"
    return "for each AE title: " + "".join(_values(value) for value in _by_name(schema))


def _kind(schema: Schema) -> str:
    kind = {"string": "text", "boolean": "true or false", "integer": "whole number"}
    return _FORMATS.get(schema.get("format", "")) or kind.get(schema["type"], "number")


def _bounds(schema: Schema) -> Iterator[str]:
    for key, word in _BOUNDS.items():
        if key in schema:
            yield f"{word} {schema[key]:g}" if schema[key] < 10**6 else f"{word} {schema[key]}"
    if "maxLength" in schema:
        yield f"{schema.get('minLength', 0)} to {schema['maxLength']} characters"


def _default(schema: Schema) -> str:
    if "default" not in schema:
        return "required"
    value = schema["default"]
    if value is None:
        return "none"
    if isinstance(value, list | dict):
        return ", ".join(f"`{item}`" for item in value) or "empty"
    return f"`{str(value).lower()}`" if isinstance(value, bool) else f"`{value}`"
