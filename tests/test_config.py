"""Settings: defaults, the example file, and what a wrong file says."""

import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel

from fewshot_node.config import NodeSettings, load_settings
from fewshot_node.errors import ConfigurationError

EXAMPLE = Path(__file__).parents[1] / "deploy" / "node.example.toml"


def write(folder: Path, text: str) -> Path:
    path = folder / "node.toml"
    path.write_text(text)
    return path


def test_the_example_states_every_key_with_its_default() -> None:
    document = tomllib.loads(EXAMPLE.read_text())
    stated = NodeSettings.model_validate(document)
    assert stated == NodeSettings()
    text = EXAMPLE.read_text()
    for name, section in NodeSettings.model_fields.items():
        keys = section.annotation.model_fields if _is_section(section.annotation) else {name: section}
        missing = [key for key in keys if f"{key} =" not in text and f".{key}]" not in text]
        assert not missing, f"{name}: {missing} not explained in the example"


def _is_section(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def test_a_relative_home_lies_beside_the_file(tmp_path: Path) -> None:
    assert load_settings(write(tmp_path, 'home = "here"')).home == tmp_path / "here"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[recieve]\nport = 1", "unknown key recieve; did you mean receive?"),
        ("[receive]\nprot = 1", "unknown key receive.prot; did you mean port?"),
        ("[receive]\nzzz = 1", "unknown key receive.zzz; known keys: ae_title, host"),
        ("[receive]\nport = 70000", "receive.port"),
        ('[receive]\nae_title = "SEVENTEEN_LETTERS"', "receive.ae_title"),
        ('[receive]\nae_title = "back\\\\slash"', "receive.ae_title"),
        ('[receive]\nae_title = "   "', "receive.ae_title"),
        ("[receive\n", "is no TOML"),
    ],
)
def test_a_wrong_file_is_refused_and_the_key_named(tmp_path: Path, text: str, says: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigurationError) as refused:
        load_settings(path)
    assert says in str(refused.value)
    assert str(path) in str(refused.value)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"absent\.toml cannot be read"):
        load_settings(tmp_path / "absent.toml")


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        NodeSettings().receive.port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('to = ["archive"]', "destination archive is not described: add [delivery.destinations.archive]"),
        ('tasks = { liver = ["nowhere"] }', "destination nowhere is not described"),
        ("to = []", "delivery.to"),
        ('destinations = { pacs = { kind = "folder", path = "x" } }', "belongs to the section [pacs]"),
        ('destinations = { a = { kind = "ftp" } }', "delivery.destinations.a"),
        ('destinations = { a = { kind = "stow", url = "no url" } }', "delivery.destinations.a.stow.url"),
        ('destinations = { a = { kind = "stow", url = "http://h", usr = "u" } }', "did you mean user?"),
        ('destinations = { a = { kind = "folder", path = "x", usr = "u" } }', "known keys: kind, path"),
        ('destinations = { "A b" = { kind = "folder", path = "x" } }', "delivery.destinations"),
    ],
)
def test_a_wrong_destination_is_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load_settings(write(tmp_path, f"[delivery]\n{text}"))
    assert says in str(refused.value)


def test_files_of_every_section_lie_beside_the_settings(tmp_path: Path) -> None:
    folder = 'destinations = { share = { kind = "folder", path = "out" } }'
    text = f'[pacs.tls]\nauthority = "ca.pem"\n[delivery]\n{folder}\n'
    settings = load_settings(write(tmp_path, text))
    assert settings.pacs.tls is not None
    assert settings.pacs.tls.authority == tmp_path / "ca.pem"
    assert settings.delivery.destinations["share"].path == tmp_path / "out"  # type: ignore[union-attr]


def test_half_a_key_pair_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="certificate and key belong together"):
        load_settings(write(tmp_path, '[pacs.tls]\nauthority = "ca.pem"\nkey = "node.key"\n'))


def test_a_task_goes_where_it_is_sent_and_once() -> None:
    data = {"to": ["pacs"], "tasks": {"liver": ["share", "pacs", "share"]}}
    data["destinations"] = {"share": {"kind": "folder", "path": "out"}}  # type: ignore[assignment]
    delivery = NodeSettings.model_validate({"delivery": data}).delivery
    assert (delivery.of_task("liver"), delivery.of_task("knee")) == (("share", "pacs"), ("pacs",))
