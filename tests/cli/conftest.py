"""Running the command line as a person would, and reading what it prints."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fewshot_node.cli.main import main


@dataclass(frozen=True)
class Printed:
    """What a command printed, and its exit status."""

    status: int
    out: str
    error: str


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A settings file of a node with no PACS and no Prefect in reach."""
    config = tmp_path / "node.toml"
    config.write_text(
        'home = "home"\n[receive]\nhost = "127.0.0.1"\nport = 1\n'
        '[pacs]\nport = 1\ntimeout_s = 2\n[prefect]\napi_url = "http://127.0.0.1:1/api"\n'
    )
    return config


@pytest.fixture(autouse=True)
def quiet_logging() -> Iterator[None]:
    """Put the loggers back that the program configures."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    names = ("pynetdicom", "pydicom", "httpx", "httpcore", "fewshot_node")
    named = {name: logging.getLogger(name).level for name in names}
    yield
    root.handlers[:], root.level = handlers, level
    for name, before in named.items():
        logging.getLogger(name).setLevel(before)


@pytest.fixture
def run(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Printed]:
    """Run ``fewshot-node --config node.toml ARGUMENTS``."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")

    def call(*arguments: object) -> Printed:
        monkeypatch.setattr("sys.argv", ["fewshot-node", "--config", str(home), *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return Printed(int(ended.value.code or 0), printed.out, printed.err)

    return call
