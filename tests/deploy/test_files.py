"""The files of deploy/: accepted by the programs they are for, and carried by the wheel."""

import json
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from fewshot_node.config import PacsSettings, load_settings
from fewshot_node.demo import deployment
from fewshot_node.errors import ConfigurationError

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


def compose_command() -> list[str]:
    """docker's own plug-in, else the older program; whichever runs here."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) and subprocess.run([*command, "version"], capture_output=True).returncode == 0:
            return command
    pytest.skip("neither `docker compose` nor docker-compose is installed: apt-get install docker-compose")


def test_compose_accepts_its_file() -> None:
    command = [*compose_command(), "-f", str(DEPLOY / "compose.yaml"), "config"]
    checked = subprocess.run(command, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    services = yaml.safe_load(checked.stdout)["services"]
    assert set(services) == {"pacs", "database", "prefect", "node"}
    json.loads(services["pacs"]["environment"]["ORTHANC_JSON"])


def test_the_node_of_compose_names_the_services_beside_it() -> None:
    settings = load_settings(DEPLOY / "node.compose.toml")
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    assert settings.pacs.host in services
    assert settings.prefect.api_url.split("//")[1].split(":")[0] in services
    assert not settings.prefect.start_server
    assert any(volume.endswith(f":{settings.home}") for volume in services["node"]["volumes"])


@pytest.mark.parametrize("name", ["node.example.toml", "node.demo.toml"])
def test_settings_load(name: str) -> None:
    settings = load_settings(DEPLOY / name)
    assert settings.home.parent == DEPLOY
    assert settings.receive.ae_title == settings.pacs.calling_ae_title == "FEWSHOT"


def test_prefect_finds_what_its_file_names() -> None:
    deployments = yaml.safe_load((DEPLOY / "prefect.yaml").read_text())["deployments"]
    assert deployments
    for deployment_ in deployments:
        path, name = deployment_["entrypoint"].split(":")
        assert (ROOT / path).is_file()
        flow = getattr(import_module(path.removesuffix(".py").replace("/", ".")), name)
        assert flow.name == deployment_["name"]


def test_the_demonstrations_settings_take_other_values(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    changes = {"receive": {"port": 1234, "calling_ae_titles": ['A"B', "C"]}, "pacs": {"timeout_s": 1.5}}
    settings = deployment.write_node_settings(path, changes)
    assert settings == load_settings(path)
    assert settings.home == tmp_path / "home"
    assert settings.receive.port == 1234
    assert settings.receive.calling_ae_titles == ('A"B', "C")
    assert settings.pacs.timeout_s == 1.5
    untouched = load_settings(DEPLOY / "node.demo.toml")
    assert (settings.worker, settings.prefect) == (untouched.worker, untouched.prefect)


@pytest.mark.parametrize("changes", [{"receive": {"prot": 1}}, {"pacs": {"port": "x"}}, {"nowhere": {"a": 1}}])
def test_a_wrong_value_is_named(changes: dict[str, dict[str, object]], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"prot|pacs\.port|nowhere"):
        deployment.write_node_settings(tmp_path / "node.toml", changes)  # type: ignore[arg-type]


def test_a_missing_file_is_named_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployment, "DEPLOY_FOLDERS", (tmp_path / "deploy",))
    with pytest.raises(ConfigurationError, match=r"orthanc\.json is not in .*deploy: install fewshot-node again"):
        deployment.orthanc_document(tmp_path, PacsSettings(), 8042)


def test_orthancs_document_is_the_file_with_ports_and_folders(tmp_path: Path) -> None:
    document = deployment.orthanc_document(tmp_path, PacsSettings(ae_title="PACS", port=11), 12)
    stated = json.loads((DEPLOY / "orthanc.json").read_text())
    changed = {key for key in document if document[key] != stated.get(key)}
    assert changed == {"DicomAet", "DicomPort", "HttpPort", "StorageDirectory", "IndexDirectory"}
    assert (document["DicomAet"], document["DicomPort"], document["HttpPort"]) == ("PACS", 11, 12)


def test_the_build_carries_the_folder_where_the_package_looks() -> None:
    targets = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]
    assert ROOT / targets["wheel"]["force-include"]["deploy"] in deployment.DEPLOY_FOLDERS


def test_a_wheel_holds_every_file_and_finds_it(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="hatchling, which builds the wheel, is not installed")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    built = subprocess.run([*build, str(ROOT)], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    carried = {path.name for path in (installed / "fewshot_node" / "deploy").iterdir()}
    assert carried == {path.name for path in DEPLOY.iterdir() if path.is_file()}
    code = "from fewshot_node.demo.deployment import deploy_file; print(deploy_file('orthanc.json'))"
    found = subprocess.run([sys.executable, "-c", code], cwd=installed, capture_output=True, text=True)
    assert found.stdout.strip() == str(installed / "fewshot_node" / "deploy" / "orthanc.json"), found.stderr
