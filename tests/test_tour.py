"""Does the tour of docs/ run from its first cell to its last, and is it kept without outputs?"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOUR = ROOT / "docs" / "tour.ipynb"
nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed: requirements-dev.txt")


def cells(notebook, kind="code"):
    return [cell for cell in notebook.cells if cell.cell_type == kind]


def test_it_has_ten_cells_and_is_kept_without_outputs_and_places_of_a_machine():
    notebook = nbformat.read(TOUR, as_version=4)
    nbformat.validate(notebook)
    assert len(cells(notebook)) == 10
    assert all(not cell.outputs and cell.execution_count is None for cell in cells(notebook))
    assert not re.search(r"/(home|root|work|Users|tmp)/", TOUR.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)#\s]+)", "".join(cell.source for cell in cells(notebook, "markdown"))):
        assert (TOUR.parent / target).exists(), target


def test_every_cell_shows_what_it_promises(tmp_path):
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed: requirements-dev.txt")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed: requirements-dev.txt")
    notebook = nbformat.read(TOUR, as_version=4)
    first = cells(notebook)[0]
    assert 'TOUR = Path("tour")' in first.source
    first.source = first.source.replace('Path("tour")', f"Path({str(tmp_path)!r})")
    smaller = [(1, "recordings=12", "recordings=6"), (4, '"trainer.n_epochs": 12', '"trainer.n_epochs": 2')]
    for cell, usual, less in smaller:
        assert usual in cells(notebook)[cell].source
        cells(notebook)[cell].source = cells(notebook)[cell].source.replace(usual, less)
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(TOUR.parent)}}).execute()
    shown = ["".join(str(output.get("data", output.get("text", ""))) for output in cell.outputs) for cell in
             cells(notebook)]  # fmt: skip
    recordings, sound, spectrogram, _, curves, scores, confusions, heard, pages = shown[1:]
    assert "train_audio" in recordings or ".ogg" in recordings
    assert "audio/wav" in sound or "<audio" in sound
    assert "image/png" in spectrogram
    assert "image/png" in curves
    assert "macro AUC" in scores
    assert "background-color" in confusions
    assert "start_s" in heard
    assert all(name in pages for name in ("report.html", "detections.html"))
    assert (tmp_path / "detections.html").stat().st_size > 100_000
