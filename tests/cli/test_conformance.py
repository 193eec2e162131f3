"""The conformance statement on the command line, and in a file between its markers."""

from collections.abc import Callable
from pathlib import Path

from fewshot_node.cli.conformance import BEGIN, END
from tests.cli.conftest import Printed

Run = Callable[..., Printed]
README = Path(__file__).parents[2] / "README.md"


def test_what_is_printed_is_what_the_readme_has(run: Run) -> None:
    printed = run("conformance")
    assert printed.status == 0
    assert f"{BEGIN}\n{printed.out.rstrip()}\n{END}" in README.read_text(encoding="utf-8")


def test_only_the_part_between_the_markers_is_replaced(run: Run, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before äöü\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    assert run("conformance", "--into", page).out == ""
    once = page.read_text(encoding="utf-8")
    assert once.startswith(f"before äöü\n{BEGIN}\n## DICOM conformance statement\n")
    assert once.endswith(f"\n{END}\nafter\n")
    assert "old" not in once.splitlines()
    run("conformance", "--into", page)
    assert page.read_text(encoding="utf-8") == once


def test_a_page_without_markers_is_left_alone(run: Run, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{END}\n{BEGIN}\n")
    refused = run("conformance", "--into", page)
    assert refused.status == 78
    assert "lacks the markers" in refused.error
    assert page.read_text() == f"{END}\n{BEGIN}\n"


def test_a_page_that_is_absent_is_named(run: Run, tmp_path: Path) -> None:
    refused = run("conformance", "--into", tmp_path / "absent.md")
    assert refused.status == 1
    assert "absent.md" in refused.error
