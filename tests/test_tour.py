"""Does the tour of docs/ run from its first cell to its last, and is it kept without outputs?"""

import json
import re

import pytest

from tests.forked import ROOT, run_forked

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


# Runs cells as a kernel does; its imports cost less in a fork of the tests' server than in a kernel.
RUN_CELLS = """
import json, sys
from pathlib import Path
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from dataloader import demo

demo.SOUNDSCAPE_S = 20.0


class Shell(InteractiveShell):
    def enable_gui(self, gui=None):  # %matplotlib inline asks for none
        assert gui is None


shell, shown = Shell.instance(), []
for cell in json.loads(sys.argv[1]):
    with capture_output() as captured:
        done = shell.run_cell(cell)
    done.raise_error()
    data = [output.data for output in captured.outputs]
    if done.result is not None:
        data.append(shell.display_formatter.format(done.result)[0])
    shown.append(f"{captured.stdout} {data}")
Path(sys.argv[2]).write_text(json.dumps(shown))
"""


SMALLER_RUN = '"model.type": "test_efficientnet", "data.num_workers": 1, "data.multi_threading": True'


def test_every_cell_shows_what_it_promises(tmp_path):
    pytest.importorskip("IPython", reason="ipython is not installed: requirements-dev.txt")
    sources = [cell.source for cell in cells(nbformat.read(TOUR, as_version=4))]
    smaller = [
        (0, 'Path("tour")', f"Path({str(tmp_path)!r})"),
        (1, "recordings=12", "recordings=6"),
        (4, '"trainer.n_epochs": 12', f'"trainer.n_epochs": 2, {SMALLER_RUN}'),
    ]
    for cell, usual, less in smaller:
        assert usual in sources[cell]
        sources[cell] = sources[cell].replace(usual, less)
    line = ["-c", RUN_CELLS, json.dumps(sources), tmp_path / "shown.json"]
    done = run_forked(line, tmp_path, cwd=TOUR.parent, environment={"IPYTHONDIR": str(tmp_path / "ipython")})
    assert done.returncode == 0, done.stderr
    shown = json.loads((tmp_path / "shown.json").read_text())
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
