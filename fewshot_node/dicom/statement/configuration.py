"""The settings with their defaults, from the models that read them (PS3.2 Annex N: configuration)."""

from collections.abc import Iterator, Mapping
from typing import Any

from fewshot_node.config import NodeSettings
from fewshot_node.dicom.statement.markdown import table

_NOT_DICOM = frozenset({"home", "prefect", "worker"})
_BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "more than",
    "maximum": "at most",
    "exclusiveMaximum": "less than",
}
_FORMATS = {"path": "file", "ipvanynetwork": "network address"}

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
    section = _section(schema)
    if section is None:
        yield f"`{prefix}`", _values(schema), _default(schema)
        return
    if any(_by_ae_title(schema)):
        prefix += ".<AE title>"
    for key, inner in definitions[section]["properties"].items():
        yield from _keys(f"{prefix}.{key}", inner, definitions)


def _section(schema: Schema) -> str | None:
    """Return the name of the section that a key stands for, if it does; `peers` hold one for each AE title."""
    choices = [schema, *schema.get("anyOf", ()), *_by_ae_title(schema)]
    names = [str(choice["$ref"]) for choice in choices if "$ref" in choice]
    return names[0].rpartition("/")[2] if names else None


def _by_ae_title(schema: Schema) -> Iterator[Schema]:
    """Give what stands under each AE title, which pydantic tells by its pattern."""
    yield from schema.get("patternProperties", {}).values()


def _values(schema: Schema) -> str:
    """Say in words what a key may be."""
    if "anyOf" in schema:
        return " or ".join(_values(choice) for choice in schema["anyOf"] if choice.get("type") != "null")
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list: {_values(schema['items'])}"
    if schema.get("type") == "object":
        return "for each AE title: " + "".join(_values(value) for value in _by_ae_title(schema))
    return ", ".join((_kind(schema), *_bounds(schema)))


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
