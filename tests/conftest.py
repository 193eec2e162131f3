"""What every room's tests share: real peers, real data, and a reason where one is absent."""

import json
import os
import shutil
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fewshot_node.config import PacsSettings
from fewshot_node.demo.deployment import orthanc_document

ORTHANC_START_S = 30.0
SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


def pytest_configure() -> None:
    """Let the programs that tests start be interrupted, even where a shell started the tests in the background.

    Such a shell has them ignore SIGINT, and a child inherits that.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True)
class OrthancServer:
    """A running Orthanc that nobody else uses."""

    dicom_port: int
    http_port: int
    aet: str
    folder: Path
    host: str = "127.0.0.1"

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.http_port}"


@pytest.fixture(scope="session")
def require_tool() -> Callable[[str], str]:
    """Give the path of a command line tool, or skip the test and say which tool is missing."""

    def find(name: str) -> str:
        path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
        if path is None:
            pytest.skip(f"{name} is not installed: apt-get install orthanc dcmtk dicom3tools")
        return path

    return find


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Give a TCP port that was free a moment ago, for peers that cannot listen on port 0."""

    return unused_port


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real data beside the checkout; it holds dicom/, series/ and suites/."""
    folder = Path(os.environ.get("FEWSHOT_SHARED_DATA", SHARED_DATA))
    if not folder.is_dir():
        pytest.skip(f"no folder of real data at {folder}")
    return folder


@pytest.fixture(scope="session")
def orthanc(
    tmp_path_factory: pytest.TempPathFactory,
    require_tool: Callable[[str], str],
    free_port: Callable[[], int],
) -> Iterator[OrthancServer]:
    """Start a real Orthanc on free loopback ports; it ends with the session."""
    binary = require_tool("Orthanc")
    folder = tmp_path_factory.mktemp("orthanc")
    for _ in range(3):  # somebody may take a free port before Orthanc does
        server = OrthancServer(free_port(), free_port(), "ORTHANC", folder)
        process = start_orthanc(binary, server)
        if orthanc_answers(server, process):
            break
        end_process(process)
    else:
        pytest.fail("Orthanc did not start:\n" + (folder / "orthanc.log").read_text(errors="replace")[-2000:])
    yield server
    end_process(process)


@pytest.fixture(scope="session")
def sam_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SAM of random weights, as small as the architecture allows, in the released format."""
    import torch
    from transformers import SamConfig, SamModel

    torch.manual_seed(0)
    vision = {
        "image_size": 64,
        "patch_size": 8,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "mlp_dim": 32,
        "output_channels": 32,
        "window_size": 4,
        "global_attn_indexes": [1],
        "num_pos_feats": 16,
    }
    prompt = {"hidden_size": 32, "image_size": 64, "patch_size": 8, "image_embedding_size": 8, "mask_input_channels": 4}
    decoder = {
        "hidden_size": 32,
        "mlp_dim": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "iou_head_hidden_dim": 16,
    }
    config = SamConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)
    folder = tmp_path_factory.mktemp("sam")
    SamModel(config).save_pretrained(folder)
    return folder


def unused_port() -> int:
    """A TCP port that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def start_orthanc(binary: str, server: OrthancServer) -> subprocess.Popen[bytes]:
    pacs = PacsSettings(ae_title=server.aet, port=server.dicom_port)
    configuration = orthanc_document(server.folder, pacs, server.http_port) | {"Name": "test", "StableAge": 1}
    path = server.folder / "orthanc.json"
    path.write_text(json.dumps(configuration, indent=2))
    with (server.folder / "orthanc.log").open("wb") as log:
        return subprocess.Popen([binary, str(path)], stdout=log, stderr=subprocess.STDOUT, cwd=server.folder)


def orthanc_answers(server: OrthancServer, process: subprocess.Popen[bytes]) -> bool:
    for _ in range(int(ORTHANC_START_S / 0.1)):
        try:
            with urllib.request.urlopen(f"{server.url}/system", timeout=2):
                return True
        except (urllib.error.URLError, OSError):
            pass
        try:
            process.wait(timeout=0.1)
        except subprocess.TimeoutExpired:
            continue
        return False
    return False


def end_process(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
