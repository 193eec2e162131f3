"""``template``: where images come from, what is refused in which words, what is kept of the history."""

import json
import shutil
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest

from fewshot_node.config import ReceiveSettings, load_settings
from fewshot_node.dicom.objects.volume import read_volume
from fewshot_node.dicom.receive.receiver import Receiver
from fewshot_node.evaluation.phantom_series import PhantomSeries, write_labels_nifti, write_series
from fewshot_node.evaluation.phantoms import Phantom, PhantomSettings, torso_ct
from fewshot_node.node import open_node
from fewshot_node.tasks.registry import Registry
from tests.cli.conftest import Printed
from tests.conftest import OrthancServer
from tests.dicom.archive import Archive, archive

Run = Callable[..., Printed]
SMALL = PhantomSettings(slices=12, rows=64, columns=64, slice_mm=16.0, pixel_mm=6.0)


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return torso_ct(5, SMALL)


@pytest.fixture(scope="module")
def series(phantom: Phantom, tmp_path_factory: pytest.TempPathFactory) -> PhantomSeries:
    return write_series(phantom, tmp_path_factory.mktemp("series"), patient_index=5)


@pytest.fixture(scope="module")
def labels(phantom: Phantom, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("labels") / "labels.nii.gz"
    write_labels_nifti(phantom, path)
    return path


@pytest.fixture
def add(run: Run, series: PhantomSeries, labels: Path) -> Callable[..., Printed]:
    """Add a template to the task ``organs``, liver and spleen; None leaves an option out."""
    run("task", "add", "organs", "--label", "1=Liver", "--label", "2=Spleen")

    def call(*more: object, **changes: object) -> Printed:
        options = {"--series": series.folder, "--labels": labels} | {f"--{key}": one for key, one in changes.items()}
        given = [part for key, value in options.items() if value is not None for part in (key, value)]
        return run("template", "add", "organs", *given, "--ignore-others", *more)

    return call


def save_nifti(
    path: Path, array: np.ndarray, phantom: Phantom, shift_mm: tuple[float, float, float] = (0, 0, 0)
) -> Path:
    affine = np.diag([-1.0, -1, 1, 1]) @ phantom.affine[:, [2, 1, 0, 3]]
    affine[:3, 3] += shift_mm
    nibabel.save(nibabel.Nifti1Image(array.transpose(2, 1, 0), affine), path)
    return path


def refused(printed: Printed, *texts: str) -> None:
    """The message says all of this, and nothing of how the program is made."""
    assert printed.status in (1, 78), printed
    for text in texts:
        assert text in printed.error
    assert "Traceback" not in printed.error


def test_a_wrong_grid(add: Callable[..., Printed], phantom: Phantom, tmp_path: Path) -> None:
    moved = save_nifti(tmp_path / "moved.nii", phantom.label_map, phantom, (0, 0, 4.5))
    refused(add(labels=moved), "moved.nii", "another grid", "corners lie up to 4.5 mm apart", "give --resample")
    added = add("--resample", labels=moved)
    assert added.status == 0, added.error
    assert "resampled from 6 x 6 x 16 mm (nearest neighbour)" in added.out


def test_labels_outside_the_image(add: Callable[..., Printed], phantom: Phantom, tmp_path: Path) -> None:
    away = save_nifti(tmp_path / "away.nii", phantom.label_map, phantom, (0, 0, 2000))
    refused(add(labels=away), "nothing of it lies in the series: give the series that it was drawn on")
    refused(add("--resample", labels=away), "lies outside series", "which spans x", "mm (LPS)")


def test_empty_labels(add: Callable[..., Printed], phantom: Phantom, tmp_path: Path) -> None:
    empty = save_nifti(tmp_path / "empty.nii", np.zeros_like(phantom.label_map), phantom)
    refused(add(labels=empty), "marks nothing of 1=Liver, 2=Spleen", "added with --negative")


def test_a_duplicate(add: Callable[..., Printed], series: PhantomSeries) -> None:
    assert add("--name", "first").status == 0
    refused(add("--name", "second"), "template second repeats first", series.series_instance_uid, "other slices")
    refused(add("--name", "second", "--deidentify"), "template second repeats first")
    refused(add("--name", "first", "--slices", "3"), "has a template first", "template remove")


def test_a_mixed_modality(add: Callable[..., Printed], phantom: Phantom, tmp_path: Path) -> None:
    assert add("--name", "first").status == 0
    other = replace(phantom, modality="MR", array=phantom.array + 1024)
    folder = write_series(other, tmp_path / "mr", patient_index=6, salt="mr").folder
    refused(add("--name", "mr", series=folder), "template mr is MR", "first of task organs is CT", "one task for each")


def test_objects_that_are_no_images(add: Callable[..., Printed], series: PhantomSeries, tmp_path: Path) -> None:
    refused(add(labels=series.files[0]), "is CT Image Storage, no annotation: give a DICOM SEG, RTSTRUCT")
    dataset = pydicom.dcmread(series.files[0])
    for keyword in ("Rows", "Columns", "PixelData"):
        delattr(dataset, keyword)
    (tmp_path / "report").mkdir()
    dataset.save_as(tmp_path / "report" / "x.dcm")
    refused(add(series=tmp_path / "report"), "holds no DICOM image: give the folder that holds the images")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is of no known format: give a DICOM SEG"),
        (bytes(128) + b"DICM" + b"\xff" * 64, "is damaged DICOM"),
        (b"\x1f\x8b" + b"\x00" * 30, "is damaged gzip: copy it again"),
        (b"NRRD0005\ntype: uint8\n", "cannot be read as NRRD"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "is one picture and series"),
        (b"label,x\nLiver,1\n", "has the columns label, x: write a first line label,x,y,z"),
        (b'{"markups": 3}', "holds no list of markups"),
        (b'{"slices": []}', "lists no slices"),
        (b"\x00\x01\x02\x03" * 99, "is of no known format"),
    ],
)
def test_a_broken_file(add: Callable[..., Printed], tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "labels.bin").write_bytes(content)
    refused(add(labels=tmp_path / "labels.bin"), "labels.bin", says)


def test_a_file_that_is_not_there(add: Callable[..., Printed], tmp_path: Path) -> None:
    refused(add(labels=tmp_path / "none.nii"), "none.nii cannot be read (No such file or directory): check the path")
    refused(add(labels=tmp_path), "is a folder: give one file")


def test_an_unknown_label_value(run: Run, series: PhantomSeries, labels: Path) -> None:
    run("task", "add", "organs", "--label", "1=Liver", "--label", "2=Spleen")
    printed = run("template", "add", "organs", "--series", series.folder, "--labels", labels)
    refused(printed, "holds the values 3", "it knows 1=Liver, 2=Spleen", "--map 3=1", "--map 3=0 (drops it)")


def test_points_outside_the_volume(run: Run, series: PhantomSeries, phantom: Phantom, tmp_path: Path) -> None:
    run("task", "add", "poles", "--kind", "landmarks", "--label", "1=KPB")
    centre = phantom.affine @ [3, 8.0, 40.0, 1]
    for place, says in (
        (centre[:3] * np.array([1, 1, 50]), "lies outside series"),
        (centre[:3] + np.array([0, 0, 900]), "Give the series that it was placed on, in LPS mm"),
    ):
        (tmp_path / "p.json").write_text(json.dumps({"KPB": place.tolist()}))
        refused(
            run("template", "add", "poles", "--series", series.folder, "--labels", tmp_path / "p.json"),
            says,
            "mm (LPS)",
        )


def test_a_name_that_the_file_does_not_hold(add: Callable[..., Printed]) -> None:
    refused(add("--map", "Leber=1"), "has nothing called 'Leber': it has no names, only values")
    assert add("--map", "Leber").status == 2


def test_negatives_named_slices_and_counts(add: Callable[..., Printed], run: Run, phantom: Phantom) -> None:
    named = add("--slices", "4-6,8", "--name", "named")
    assert "4, 5, 6, 8" in named.out
    assert "slices named" in named.out
    spread = add("--count", "2", "--name", "two")
    assert "slices spread over the labelled content" in spread.out
    chosen = add("--count", "4", "--name", "four", "--choose", "diversity")
    assert "slices chosen by feature diversity" in chosen.out
    assert run("template", "show", "organs", "four").out.count(" Liver") >= 3
    none = add("--negative", "--name", "none", labels=None)
    assert none.status == 0, none.error
    assert "(3 without a label)" in none.out
    listed = run("template", "list", "organs").out
    assert "none (negative)" in listed
    assert add("--negative").status == 2
    assert add(labels=None).status == 2


def test_without_an_encoder_slices_are_spread(add: Callable[..., Printed], home: Path) -> None:
    home.write_text(home.read_text() + f'[worker]\nencoder = "{home.parent}"\n')
    added = add("--choose", "diversity")
    assert added.status == 0, added.error
    assert "slices are chosen without an encoder" in added.error
    assert "slices spread over the labelled content" in added.out


def test_the_history_of_a_template(add: Callable[..., Printed], run: Run, series: PhantomSeries, labels: Path) -> None:
    import hashlib

    add("--name", "first", "--by", "Dr. Reader", "--slices", "6,11")
    shown = run("template", "show", "organs", "first").out
    for text in (
        "by Dr. Reader",
        "fewshot-node ",
        "a folder",
        f"NIfTI, SHA-256 {hashlib.sha256(labels.read_bytes()).hexdigest()}",
        series.series_instance_uid,
        series.study_instance_uid,
        str(pydicom.dcmread(series.files[6]).SOPInstanceUID),
        "slice 11",
        "Liver",
    ):
        assert text in shown
    assert "labels.nii.gz" not in shown  # a file's name may be a patient's
    refused(run("template", "show", "organs", "other"), "no template 'other': it has first")


def test_a_draft_of_an_older_version_has_a_history(add: Callable[..., Printed], run: Run, home: Path) -> None:
    add("--name", "first")
    path = load_settings(home).tasks / "organs" / "draft" / "provenance.json"
    path.write_text('{"templates_added": {"first": "2026-01-02T03:04:05+00:00"}}')
    assert "added       2026-01-02T03:04:05+00:00" in run("template", "show", "organs", "first").out
    path.write_text('{"templates_added": 7}')
    refused(run("template", "show", "organs", "first"), "provenance.json was damaged: restore it")


def test_a_deidentified_template_leads_nowhere(
    add: Callable[..., Printed], run: Run, home: Path, series: PhantomSeries
) -> None:
    assert add("--name", "first", "--slices", "6").status == 0
    assert add("--name", "second", "--slices", "7", "--deidentify").status == 0
    assert add("--name", "third", "--slices", "5", "--deidentify").status == 0
    registry = Registry(load_settings(home).tasks)
    first, second, third = registry.templates("organs")
    assert first.series_instance_uid == series.series_instance_uid
    assert second.series_instance_uid == third.series_instance_uid != first.series_instance_uid
    stored = b"".join(path.read_bytes() for path in (registry.root / "organs").rglob("second*"))
    known = [series.series_instance_uid, series.study_instance_uid]
    known += [str(pydicom.dcmread(path).SOPInstanceUID) for path in series.files]
    assert not [uid for uid in known if uid.encode() in stored]
    assert series.study_instance_uid not in run("template", "show", "organs", "second").out
    assert (registry.root / ".deidentification-key").stat().st_mode & 0o077 == 0
    np.testing.assert_array_equal(second.array, read_volume(series.files).array[[7]])
    assert registry.names() == ("organs",)


def test_burned_in_names_cannot_be_deidentified(
    add: Callable[..., Printed], series: PhantomSeries, tmp_path: Path
) -> None:
    folder = tmp_path / "burned"
    shutil.copytree(series.folder, folder)
    path = next(folder.glob("*.dcm"))
    dataset = pydicom.dcmread(path)
    dataset.BurnedInAnnotation = "YES"
    dataset.save_as(path)
    refused(add("--deidentify", series=folder), "states burned-in annotation", "without --deidentify")
    assert add(series=folder).status == 0


def test_images_from_the_spool(add: Callable[..., Printed], run: Run, home: Path, series: PhantomSeries) -> None:
    refused(add("--series-uid", "1.2.3", series=None), "series 1.2.3 is not in the spool", "--study UID")
    spooled = load_settings(home).spool / "series" / series.series_instance_uid
    shutil.copytree(series.folder, spooled)
    added = add("--series-uid", series.series_instance_uid, "--name", "spooled", series=None)
    assert added.status == 0, added.error
    assert "images from the spool" in run("template", "show", "organs", "spooled").out


def test_one_of_several_series_in_a_folder(add: Callable[..., Printed], phantom: Phantom, tmp_path: Path) -> None:
    first = write_series(phantom, tmp_path / "both" / "one", patient_index=5, salt="one")
    write_series(phantom, tmp_path / "both" / "two", patient_index=5, salt="two")
    refused(add(series=tmp_path / "both"), "holds 2 series")
    assert add("--series-uid", first.series_instance_uid, series=tmp_path / "both").status == 0
    refused(add("--series-uid", "1.2.3", series=tmp_path / "both"), "does not hold series 1.2.3")


def test_images_from_the_pacs(add: Callable[..., Printed], run: Run, home: Path, series: PhantomSeries) -> None:
    peer = Archive([pydicom.dcmread(path) for path in series.files])
    study = ("--study", series.study_instance_uid)
    refused(
        add(*study, "--via", "move", series=None), "our receiver does not listen", "or fetch the series with --via get"
    )
    refused(add(*study, "--via", "web", series=None), "neither move, get nor a DICOMweb destination")
    refused(add(*study), "--series and --study are two places")
    refused(add(series=None), "no images: give a folder (--series DIR)")
    with archive(peer):
        home.write_text(home.read_text().replace("[pacs]\nport = 1", f"[pacs]\nport = {peer.port}"))
        added = add(*study, "--via", "get", "--name", "fetched", series=None)
        refused(add("--study", "1.2.3", "--via", "get", series=None), "lists no image series of study 1.2.3")
    assert added.status == 0, added.error
    assert "images from the PACS (C-GET)" in run("template", "show", "organs", "fetched").out


@pytest.fixture
def archived(series: PhantomSeries, orthanc: OrthancServer) -> OrthancServer:
    """Orthanc with the series."""
    for path in series.files:
        request = urllib.request.Request(f"{orthanc.url}/instances", path.read_bytes(), method="POST")
        urllib.request.urlopen(request, timeout=10).close()
    return orthanc


@pytest.mark.orthanc
def test_images_by_move(
    add: Callable[..., Printed], run: Run, home: Path, series: PhantomSeries, archived: OrthancServer
) -> None:
    receive = ReceiveSettings(ae_title="FEWSHOT", host="127.0.0.1", port=0, reject_below_free_mb=0, min_free_mb=0)
    node = open_node(load_settings(home))
    with Receiver(receive, node.spool, node.ledger) as receiver:
        text = home.read_text().replace('[receive]\nhost = "127.0.0.1"\nport = 1', "")
        text = text.replace("[pacs]\nport = 1\ntimeout_s = 2", f"[pacs]\nport = {archived.dicom_port}\ntimeout_s = 20")
        more = (
            f'[receive]\nae_title = "FEWSHOT"\nhost = "127.0.0.1"\nport = {receiver.port}\nreject_below_free_mb = 0\n'
        )
        home.write_text(f"{text}\n{more}min_free_mb = 0\n")
        body = json.dumps({"AET": "FEWSHOT", "Host": "127.0.0.1", "Port": receiver.port}).encode()
        request = urllib.request.Request(f"{archived.url}/modalities/FEWSHOT", body, method="PUT")
        urllib.request.urlopen(request, timeout=10).close()
        added = add("--study", series.study_instance_uid, "--via", "move", "--name", "moved", series=None)
        forget = urllib.request.Request(f"{archived.url}/modalities/FEWSHOT", method="DELETE")
        urllib.request.urlopen(forget, timeout=10).close()
    assert added.status == 0, added.error
    assert "images from the PACS (C-MOVE)" in run("template", "show", "organs", "moved").out
    assert len(node.spool.series_files(series.series_instance_uid)) == len(series.files)


@pytest.mark.orthanc
def test_images_by_dicomweb(
    add: Callable[..., Printed], run: Run, home: Path, series: PhantomSeries, archived: OrthancServer
) -> None:
    web = '[delivery.destinations.research]\nkind = "stow"\nurl = "%s"\ntimeout_s = 20\n'
    home.write_text(home.read_text() + web % f"{archived.url}/dicom-web")
    added = add("--study", series.study_instance_uid, "--via", "research", "--name", "web", series=None)
    assert added.status == 0, added.error
    shown = run("template", "show", "organs", "web").out
    assert "images from the DICOMweb server research" in shown
    assert series.series_instance_uid in shown
    refused(add("--study", "1.2.3", "--via", "research", series=None), "study 1.2.3")
    both = ("--study", "1.2.3", "--series-uid", "1.2.3.4", "--via", "research")
    refused(add(*both, series=None), "DICOMweb server research", "HTTP status 404: check the UIDs")
    home.write_text(home.read_text().replace(str(archived.http_port), "1"))
    refused(add(*both, series=None), "does not answer WADO-RS", "check that it runs, and its url")


def test_a_name_is_asked_about_on_a_terminal(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    refused(run("task", "add", "t", "--label", "1=Backrest"), "stands for several concepts", "468115008", "20406008")

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal("9\n2\n"))
    asked = run("task", "add", "t", "--label", "1=Backrest")
    assert asked.status == 0, asked.error
    assert "Which concept is 'Backrest'?" in asked.out
    assert "20406008" in run("task", "show", "t").out
    monkeypatch.setattr("sys.stdin", Terminal("0\n"))
    refused(run("task", "add", "u", "--label", "1=Backrest"), "stands for several concepts")
