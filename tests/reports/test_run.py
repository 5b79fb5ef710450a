"""Does the page of a run show curves, classes, confusions and the recordings to listen to again?"""

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from evaluation.table import ScoreTable
from reports.charts import line_chart
from reports.run import write_run_page
from utils.settings import DataProcess

RATE = 32_000
LABELS = ("wren", "owl", "tit")
EPOCHS = [
    {"epoch": epoch, "train_loss": 1 / epoch, "val_loss": 0.5, "val_macro_auc": 0.7 if epoch != 2 else None}
    for epoch in (1, 2, 3)
]


def table(folder, swapped=("r3.wav",), n=12) -> ScoreTable:
    """Recordings of three species in turn, scored well; of those that are swapped the label is another one."""
    truth = np.arange(n) % 3
    names = tuple(f"r{row}.wav" for row in range(n))
    given = [(kind + 1) % 3 if name in swapped else kind for name, kind in zip(names, truth, strict=True)]
    for name in names:
        sf.write(folder / name, np.random.default_rng(1).normal(0, 0.1, RATE), RATE)
    scores = np.where(np.eye(3)[truth] > 0, 0.8, 0.1) + np.random.default_rng(2).normal(0, 0.02, (n, 3))
    return ScoreTable(
        LABELS, scores, np.eye(3, dtype=np.int8)[given], names, np.arange(n), tuple(f"g{row}" for row in range(n)),
        np.zeros(n), timed=False,
    )  # fmt: skip


@pytest.fixture
def write(tmp_path):
    def write(scored=None, **changes):
        classes = [
            {"label": label, "recordings": n, "groups": n, "hours": n / 100, "splits": {"test": n}}
            for label, n in zip(LABELS, (20, 3, 100), strict=True)
        ]
        given = {
            "name": "<i>run", "facts": [("Model", "a & b")], "epochs": EPOCHS, "kept_epoch": 3, "table": scored,
            "names": {"wren": "<b>Wren", "owl": "Owl", "tit": "Tit"}, "thresholds": None, "threshold_name": "",
            "paths": {f"r{row}.wav": str(tmp_path / f"r{row}.wav") for row in range(12)}, "classes": classes,
            "settings": [("[trainer] n_epochs", "3", "24")], "process": DataProcess(), "out_of_fold": True,
        }  # fmt: skip
        write_run_page(tmp_path / "report.html", **(given | changes))
        return (tmp_path / "report.html").read_text()

    return write


def test_the_page_needs_nothing_beside_it_and_names_are_never_html(write, tmp_path):
    text = write(table(tmp_path))
    assert "http" not in text.replace("http://www.w3.org", "")
    assert "<b>Wren" not in text
    assert "&lt;b&gt;Wren" in text
    assert "a &amp; b" in text


def test_a_swapped_label_heads_the_recordings_to_listen_to_again(write, tmp_path):
    text = write(table(tmp_path, swapped=("r3.wav", "r7.wav")))
    listed = pd.read_csv(tmp_path / "doubts.csv")
    assert set(listed["filename"][:2]) == {"r3.wav", "r7.wav"}
    assert (listed["doubt"][:2] > 0).all()
    assert (listed["doubt"][2:] < 0).all()
    assert len(listed) == 12
    first = listed.iloc[0]
    expected = {"r3.wav": ("owl", "wren"), "r7.wav": ("tit", "owl")}
    assert (first["label"], first["sounds_like"]) == expected[first["filename"]]
    assert text.index("r3.wav") < text.index("r5.wav")
    assert text.count("<audio") == 12


def test_fitted_thresholds_are_applied_to_windows_and_named(write, tmp_path):
    scored = table(tmp_path, swapped=())
    windows = ScoreTable(
        LABELS, np.repeat(scored.scores, 2, axis=0), np.repeat(scored.targets, 2, axis=0), scored.recordings,
        np.repeat(scored.recording, 2), scored.group, np.full(24, 5.0), timed=False,
    )  # fmt: skip
    assert "No thresholds were fitted yet" in write(scored)
    text = write(windows, thresholds=np.array([0.05, 0.5, np.nan]), threshold_name="the thresholds for precision=0.9")
    assert "those of windows, as predict.py gives them, at\nthe thresholds for precision=0.9" in text
    rows = [row.split("<td")[1:] for row in text.partition("<tbody>")[2].partition("</tbody>")[0].split("<tr>")[1:]]
    _, _, precision, recall, threshold, *_ = zip(*rows, strict=True)
    assert [cell.partition(">")[2].strip()[:4] for cell in precision] == ["0.33", "1.00", "-</t"]
    assert [cell.partition(">")[2].strip()[:4] for cell in recall] == ["1.00", "1.00", "0.00"]
    assert [cell.partition(">")[2].partition("<")[0] for cell in threshold] == ["0.05", "0.50", "none"]
    assert len(pd.read_csv(tmp_path / "doubts.csv")) == 12  # of recordings all the same


def test_the_doubts_of_labels_with_times_are_those_of_recordings(write, tmp_path):
    scored = table(tmp_path)
    write(ScoreTable(**(vars(scored) | {"timed": True, "recording": np.repeat(np.arange(6), 2),
                                        "recordings": scored.recordings[:6], "group": scored.group[:6]})))  # fmt: skip
    assert len(pd.read_csv(tmp_path / "doubts.csv")) == 6


def test_a_recording_that_is_gone_is_listed_without_picture_and_sound(write, tmp_path):
    scored = table(tmp_path)
    (tmp_path / "r3.wav").unlink()
    text = write(scored)
    assert text.count("<audio") == 11
    assert "r3.wav" in text


def test_without_scores_the_page_has_no_scores_and_no_curves(write, tmp_path):
    text = write(None, epochs=[], kept_epoch=None)
    assert "there are no scores" in text
    assert "Curves" not in text
    assert not (tmp_path / "doubts.csv").exists()


def test_the_epoch_that_is_kept_is_marked():
    chart = line_chart([1, 2, 3], {"a": [1.0, None, 3.0]}, x_name="epoch", y_name="loss", marked=2)
    assert chart["marked"] == (chart["left"] + chart["right"]) / 2
    assert [len(curve["dots"]) for curve in chart["curves"]] == [2]
    assert len(chart["curves"][0]["pieces"]) == 2  # a gap where there is no value
    assert line_chart([1], {"a": [None]}, x_name="x", y_name="y") is None


# In a browser


@pytest.mark.parametrize(("width", "dark"), [(400, True), (1280, False)])
def test_the_page_fits_its_table_sorts_and_a_player_plays(write, tmp_path, browser, console, width, dark):
    write(table(tmp_path))
    browser.open(tmp_path / "report.html", width=width, dark=dark)
    assert not browser.is_too_wide()
    first = "return [...document.querySelectorAll('#table tbody tr')].map(row => row.cells[6].textContent)"
    assert browser.ask(first) == ["20", "3", "100"]
    click = "document.querySelectorAll('#table th button')[6].click()"
    browser.ask(click)
    assert browser.ask(first) == ["100", "20", "3"]
    browser.ask(click)
    assert browser.ask(first) == ["3", "20", "100"]
    browser.ask("document.querySelector('audio').play()")
    browser.wait("return document.querySelector('audio').currentTime > 0.05")
