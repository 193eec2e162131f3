"""Every refusal says what is wrong, names the thing, and tells the remedy."""

import errno
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
from safetensors import SafetensorError

from fewshot_node.cli.trouble import describe_os_error
from fewshot_node.config import NodeSettings, PrefectSettings, ReceiveSettings, WorkerSettings, load_settings
from fewshot_node.dicom.receive.receiver import Receiver
from fewshot_node.errors import CheckpointError
from fewshot_node.evaluation.phantom_series import PhantomSeries, write_labels_nifti, write_series
from fewshot_node.evaluation.phantoms import Phantom, PhantomSettings, torso_ct
from fewshot_node.models import load_models
from fewshot_node.node import open_node
from fewshot_node.selftest import checks
from tests.cli.conftest import Printed

Run = Callable[..., Printed]
SMALL = PhantomSettings(slices=12, rows=64, columns=64, slice_mm=16.0, pixel_mm=6.0)


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return torso_ct(5, SMALL)


@pytest.fixture(scope="module")
def series(phantom: Phantom, tmp_path_factory: pytest.TempPathFactory) -> PhantomSeries:
    return write_series(phantom, tmp_path_factory.mktemp("series"), patient_index=5)


@pytest.fixture
def organs(run: Run) -> str:
    assert run("task", "add", "organs", "--label", "1=Liver", "--rule", "Modality=CT").status == 0
    return "organs"


def test_help_names_every_command(run: Run) -> None:
    text = run("--help").out
    for command in (
        "serve",
        "receive",
        "worker",
        "run",
        "demo",
        "doctor",
        "task",
        "template",
        "series",
        "route",
        "pacs",
        "pull",
        "conformance",
    ):
        assert f" {command} " in text


def test_no_arguments_is_help(run: Run) -> None:
    printed = run()
    assert "Usage" in printed.out + printed.error


def test_an_unknown_task_is_named_with_the_known_ones(run: Run, organs: str) -> None:
    printed = run("task", "show", "livr")
    assert printed.status == 1
    assert "livr" in printed.error
    assert "organs" in printed.error
    assert "Traceback" not in printed.error


def test_a_misspelt_attribute_is_refused_with_the_right_one(run: Run) -> None:
    printed = run("task", "add", "t", "--label", "1=Liver", "--rule", "BodyPartExamind=LIVER")
    assert (printed.status, "BodyPartExamined" in printed.error) == (1, True)


def test_a_rule_on_a_patient_is_refused(run: Run) -> None:
    printed = run("task", "add", "t", "--label", "1=Liver", "--rule", "PatientName=Doe")
    assert (printed.status, "PatientName" in printed.error) == (1, True)


def test_an_unknown_structure_is_refused_and_the_explicit_form_shown(run: Run) -> None:
    printed = run("task", "add", "t", "--label", "1=Liwer")
    assert printed.status == 1
    assert "Liwer" in printed.error
    assert ":SCT:" in printed.error


def test_an_unknown_adapter_is_refused_with_the_known_ones(run: Run) -> None:
    printed = run("task", "add", "t", "--label", "1=Liver", "--adapter", "magic")
    assert printed.status == 1
    assert "contrastive" in printed.error


def test_publishing_too_early_says_what_comes_first(run: Run, organs: str) -> None:
    printed = run("task", "publish", organs)
    assert (printed.status, "template add" in printed.error) == (1, True)


def test_a_folder_without_dicom(run: Run, organs: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no image")
    printed = run("template", "add", organs, "--series", tmp_path / "empty", "--labels", tmp_path / "x.nii.gz")
    assert (printed.status, "holds no DICOM image" in printed.error) == (1, True)
    printed = run("route", "explain", tmp_path / "absent")
    assert (printed.status, "is no folder" in printed.error) == (1, True)


def test_a_folder_of_two_series(run: Run, phantom: Phantom, tmp_path: Path) -> None:
    for salt in ("one", "two"):
        write_series(phantom, tmp_path / "both" / salt, patient_index=5, salt=salt)
    printed = run("route", "explain", tmp_path / "both")
    assert (printed.status, "holds 2 series" in printed.error) == (1, True)


def test_labels_on_another_grid(run: Run, organs: str, series: PhantomSeries, tmp_path: Path) -> None:
    other = tmp_path / "other.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.ones((4, 4, 4), np.uint8), np.eye(4)), other)
    printed = run("template", "add", organs, "--series", series.folder, "--labels", other)
    assert printed.status == 1
    assert "other.nii.gz" in printed.error
    assert "4 x 4 x 4" in printed.error


def test_labels_that_the_task_does_not_have(
    run: Run, organs: str, series: PhantomSeries, phantom: Phantom, tmp_path: Path
) -> None:
    labels = tmp_path / "labels.nii.gz"
    write_labels_nifti(phantom, labels)
    printed = run("template", "add", organs, "--series", series.folder, "--labels", labels)
    assert printed.status == 1
    assert "--ignore-others" in printed.error
    assert run("template", "add", organs, "--series", series.folder, "--labels", labels, "--ignore-others").status == 0
    assert run("task", "list").out.count("organs") == 1


def test_a_label_file_that_is_none(run: Run, organs: str, series: PhantomSeries, tmp_path: Path) -> None:
    labels = tmp_path / "labels.nii.gz"
    labels.write_bytes(b"no NIfTI at all")
    printed = run("template", "add", organs, "--series", series.folder, "--labels", labels)
    assert (printed.status, "labels.nii.gz" in printed.error) == (1, True)


def test_route_explain_without_a_published_task_says_so(run: Run, organs: str, series: PhantomSeries) -> None:
    assert "no task takes series: publish one" in run("route", "explain", series.folder).out


def test_route_replay_and_check_tell_what_they_asked(run: Run, organs: str) -> None:
    printed = run("route", "replay", "--task", organs, "--rule", "Modality=MR")
    assert "no series to ask about: none came in lately" in printed.out
    assert "task organs: takes 0 of 0 series now, would take 0" in printed.out
    assert "no task takes series: publish one" in run("route", "check").out


def test_route_replay_of_what_is_no_rule(run: Run, organs: str) -> None:
    printed = run("route", "replay", "--task", organs, "--rule", "Modalty=MR")
    assert (printed.status, "Modality" in printed.error) == (1, True)
    assert "known tasks: organs" in run("route", "replay", "--task", "liver").error


def test_route_explain_of_a_series_that_never_came(run: Run) -> None:
    printed = run("route", "explain", "1.2.3.4")
    assert (printed.status, "series 1.2.3.4 is not in the ledger" in printed.error) == (1, True)


def test_the_pacs_is_not_there(run: Run) -> None:
    printed = run("pacs", "echo")
    assert printed.status == 1
    assert "127.0.0.1:1" in printed.error


def test_a_taken_port(run: Run, home: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        home.write_text(home.read_text().replace("port = 1\n[pacs]", f"port = {port}\n[pacs]"))
        printed = run("serve")
    assert printed.status == 78
    assert f"127.0.0.1:{port}" in printed.error
    assert "receive.port" in printed.error


def test_a_misspelt_setting(run: Run, home: Path) -> None:
    home.write_text("[receive]\nprot = 1\n")
    printed = run("series", "list")
    assert printed.status == 78
    assert "did you mean port?" in printed.error


def test_a_series_that_nobody_sent(run: Run) -> None:
    assert "no series" in run("series", "list").out
    for command in ("show", "retry", "close"):
        printed = run("series", command, "1.2.3")
        assert (printed.status, "series 1.2.3 is not in the ledger" in printed.error) == (1, True)


def test_retry_wants_either_a_series_or_a_state(run: Run) -> None:
    for arguments in ((), ("1.2.3", "--state", "failed"), ("--state", "complete")):
        assert run("series", "retry", *arguments).status == 2
    assert "no series is failed" in run("series", "retry", "--state", "failed").out


def test_a_home_that_cannot_be_made(run: Run, home: Path) -> None:
    home.write_text(f'home = "{home}/inside-a-file"\n')
    for command in (("series", "list"), ("task", "add", "t", "--label", "1=Liver")):
        printed = run(*command)
        assert printed.status == 1
        assert f"{home}/inside-a-file" in printed.error
        assert "`home`" in printed.error
        assert "Traceback" not in printed.error


@pytest.mark.parametrize(
    ("error", "texts"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/srv/node/tasks"), ("/srv/node/tasks", "give this user")),
        (OSError(errno.EROFS, "Read-only file system", "/srv/node"), ("/srv/node: Read-only", "set `home`")),
        (OSError(errno.ENOSPC, "No space left on device"), ("/home/of/node: No space", "free space there")),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "/a/b"), ("/a/b: No such", "check that path")),
        (TimeoutError("timed out"), ("timed out", "--verbose")),
    ],
)
def test_what_the_file_system_refuses_has_a_remedy(error: OSError, texts: tuple[str, ...]) -> None:
    message = describe_os_error(error, Path("/home/of/node"))
    for text in texts:
        assert text in message


def test_weights_that_do_not_fit_on_the_disk(
    run: Run, organs: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("fewshot_node.tasks.registry.Registry.publish", full)
    printed = run("task", "publish", organs)
    assert printed.status == 1
    assert f"{home.parent}/home: No space left on device: free space there" in printed.error


@pytest.mark.parametrize("text", ["BodyPart Examined in [x, y, z]", "Study Description=~/[a-z]+/", "a[/x]b :smile:"])
def test_what_looks_like_markup_is_printed_as_it_is(run: Run, text: str) -> None:
    printed = run("task", "add", "t", "--label", "1=Liver", "--rule", f"{text} ?")
    assert printed.status == 1
    assert text in printed.error


def test_a_path_that_looks_like_markup(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "[red]" / "[" / "x]"
    printed = run("route", "explain", folder)
    assert (printed.status, str(folder) in printed.error) == (1, True)
    assert "[red]" in run("task", "fit", "[red][/x]").error


def test_a_task_is_changed_and_says_so(run: Run, organs: str) -> None:
    changed = run("task", "change", organs, "--rule", "SeriesDescription=~/[a-z]+/", "--description", "[/x] of [y]")
    assert "fit and publish it again" in changed.out
    shown = run("task", "show", organs).out
    assert "SeriesDescription=~/[a-z]+/" in shown
    assert "[/x] of [y]" in shown
    assert "Modality=CT" not in shown
    assert "Liver" in shown
    run("task", "change", organs, "--label", "1=Spleen", "--adapter", "basic", "--refine", "sam", "--rule", "")
    shown = run("task", "show", organs).out
    for text in ("Spleen", "adapter  basic", "refine   sam", "rule     none", "[/x] of [y]"):
        assert text in shown
    assert "Liver" not in shown


def test_a_change_of_nothing_and_a_task_that_exists(run: Run, organs: str) -> None:
    assert run("task", "change", organs).status == 2
    assert "task change" in run("task", "add", organs, "--label", "1=Liver").error


def test_templates_are_listed_and_removed(
    run: Run, organs: str, series: PhantomSeries, phantom: Phantom, tmp_path: Path
) -> None:
    labels = tmp_path / "labels.nii.gz"
    write_labels_nifti(phantom, labels)
    add = ("template", "add", organs, "--series", series.folder, "--labels", labels, "--ignore-others")
    assert run(*add, "--name", "first").status == 0
    assert "template remove" in run(*add, "--name", "first").error
    listed = run("template", "list", organs).out
    for text in ("first", "CT", "Liver", series.series_instance_uid):
        assert text in listed
    assert "template remove" in run("task", "change", organs, "--label", "2=Spleen").error
    assert "is removed" in run("template", "remove", organs, "first").out
    assert "has no template" in run("template", "list", organs).out
    again = run("template", "remove", organs, "first")
    assert (again.status, "first" in again.error) == (1, True)


def test_the_command_line_starts_without_torch_and_prefect() -> None:
    heavy = ("torch", "transformers", "prefect")
    program = f"import sys, fewshot_node.cli.main; print([name for name in {heavy} if name in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (ended.stdout.strip(), ended.stderr) == ("[]", "")


def test_a_checkpoint_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        load_models(WorkerSettings(encoder=str(tmp_path)))
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        load_models(WorkerSettings(sam=str(tmp_path)))


def test_a_worker_with_a_wrong_encoder_is_not_to_be_restarted(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_worker() -> None:
        load_models(load_settings(home).worker)

    monkeypatch.setattr("fewshot_node.cli.serve.use_prefect", lambda *_: None)
    monkeypatch.setitem(sys.modules, "flows.worker", SimpleNamespace(run_worker=run_worker))
    home.write_text(home.read_text() + f'[worker]\nencoder = "{home.parent}"\n')
    printed = run("worker")
    assert (printed.status, str(home.parent) in printed.error) == (78, True)


def test_doctor_asks_the_receiver_and_for_workers(home: Path, tmp_path: Path) -> None:
    workers: list[dict[str, str]] = []
    asked: list[str] = []

    class Prefect(BaseHTTPRequestHandler):
        def answer(self) -> None:
            asked.append(self.path)
            body = json.dumps(workers).encode()
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = answer  # noqa: N815  the names that http.server looks for

        def log_message(self, *_: object) -> None:
            pass

    receive = ReceiveSettings(host="127.0.0.1", port=0, calling_ae_titles=("CT1", "CT2"))
    node = open_node(NodeSettings(home=tmp_path / "home", receive=receive))
    with (
        Receiver(receive, node.spool, node.ledger) as receiver,
        HTTPServer(("127.0.0.1", 0), Prefect) as server,
    ):
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        serving.start()
        settings = NodeSettings(
            home=tmp_path / "home",
            receive=receive.model_copy(update={"port": receiver.port}),
            pacs=load_settings(home).pacs,
            prefect=PrefectSettings(api_url=f"http://127.0.0.1:{server.server_port}/api"),
        )
        before = {finding.name: finding for finding in checks(settings, loop=False)}
        workers.append({"identifier": "one"})
        after = {finding.name: finding for finding in checks(settings, loop=False)}
        server.shutdown()
        serving.join()
    assert before["receiver"].detail == f"FEWSHOT at 127.0.0.1:{receiver.port} answers CT1"
    assert before["worker"].problem == "no worker is subscribed: start `fewshot-node worker`"
    assert after["worker"].detail == "1 subscribed"
    assert "/api/task_workers/filter" in asked


def test_doctor_names_what_is_wrong_and_goes_on(run: Run, home: Path) -> None:
    home.write_text(home.read_text() + f'[worker]\nencoder = "{home.parent}"\n')
    printed = run("doctor")
    assert printed.status == 1
    assert "FAIL models" in printed.out
    assert "FAIL receiver" in printed.out
    assert "FAIL Prefect" in printed.out
    assert "worker:" not in printed.out
    assert "FAIL PACS" in printed.out
    assert "ok   home" in printed.out


def test_output_is_changed_by_key_and_shown(run: Run, organs: str) -> None:
    assert "output   segmentation=binary empty_frames=omit" in run("task", "show", organs).out
    assert run("task", "change", organs, "--output", "segmentation=fractional", "--output", "rtstruct=true").status == 0
    assert "output   segmentation=fractional empty_frames=omit overlay=none rtstruct=true presentation_state=false" in (
        run("task", "show", organs).out
    )


def test_an_unknown_output_lists_what_is_allowed(run: Run, organs: str) -> None:
    printed = run("task", "change", organs, "--output", "segmentation=surface")
    assert printed.status == 1
    assert "'surface' is unknown: give one of binary, fractional, labelmap" in printed.error
