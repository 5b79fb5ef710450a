"""Does any data set go all the way from the command line: understood, trained on, scored, predicted with?"""

import csv
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

import evaluate
import predict
import train_classifier
from dataloader import demo, metadata
from dataloader.synthetic.layouts import LAYOUTS, arrange

ROOT = Path(__file__).parents[1]
SMALL = {
    "testing.testing": "false",
    "model.type": "test_efficientnet",
    "model.transfer_learning": "false",
    "data_process.sample_rate": "16000",
    "data_process.f_max": "7500",
    "data_process.n_mels": "16",
    "data_process.max_length_s": "3",
    "data.num_workers": "1",
    "data.multi_threading": "true",
    "data.min_samples_in_class": "1",
    "trainer.num_workers": "0",
    "trainer.n_epochs": "1",
    "trainer.batch_size_train": "8",
}
ANNOTATED = ("table", "raven", "audacity", "birdclef-2021", "birdclef-2026")  # some labels have times


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The demo that all layouts are made of: five recordings of each of three species, and five long ones."""
    patch = pytest.MonkeyPatch()
    patch.setattr(demo, "SOUNDSCAPE_S", 20.0)
    patch.setattr(demo, "SOUNDSCAPES", 5)
    made = demo.make_demo(tmp_path_factory.mktemp("plain") / "demo", species=3, recordings=5)
    patch.undo()
    (made / "demo.json").unlink()
    return made


@pytest.fixture(autouse=True)
def without_a_page(monkeypatch):
    """The page of a run is tested in tests/reports, and takes as long as the rest."""
    monkeypatch.setattr(train_classifier, "write_page", lambda *_: None)


def settings(place, **more):
    folders = {
        "paths.data_dir": place / "data",
        "paths.runs_dir": place / "runs",
        "data.output_dir": place / "cache",
        "data.hash_path": place / "last_key",
    }
    return [f"--set={name}={value}" for name, value in (folders | SMALL | more).items()]


def goes_all_the_way(place, capsys, config=ROOT / "config.ini", inputs=None, sample=None, **more):
    """Check, train, score and predict; the summary of the run, and the rows of the prediction."""
    line = ["--config", str(config), *settings(place, **more)]
    assert metadata.main(["--check", *line]) == 0
    assert "warnings:" in capsys.readouterr().out
    assert train_classifier.main(line) == 0
    run = capsys.readouterr().out.splitlines()[-1].removeprefix("run: ")
    assert evaluate.main(["--run", run, "--backend", "torch"]) == 0  # an export of each run would cost seconds
    assert "macro AUC" in capsys.readouterr().out
    output = place / "out.csv"
    kind = ["--format", "submission", "--sample-submission", str(sample)] if sample else ["--format", "csv"]
    what = ["--run", run, "--input", str(inputs or place / "data"), "--output", str(output), "--backend", "torch"]
    assert predict.main([*what, *kind]) == 0
    with open(f"{run}/summary.json") as file, open(output, newline="") as table:
        return json.load(file), list(csv.DictReader(table))


@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if layout != "birdclef-2024"])  # which is that of 2023
def test_every_layout_goes_all_the_way(plain, tmp_path, capsys, layout):
    """Those of BirdCLEF from 2023 on end in the submission of their year."""
    data = shutil.copytree(plain, tmp_path / "data")
    arrange(data, layout)
    sample, inputs = data / "sample_submission.csv", None
    year = int(layout.partition("-")[2] or 0)
    if year < 2023:
        sample = None
    else:
        inputs = data / ("test_soundscapes" if year < 2025 else "train_soundscapes")
    summary, rows = goes_all_the_way(tmp_path, capsys, inputs=inputs, sample=sample)
    assert summary["n_classes"] == 3
    assert summary["n_test"] > 0
    assert layout in ANNOTATED or "test_window_macro_auc" not in summary
    if layout in ("raven", "audacity"):  # the others may test on recordings without times
        assert summary["test_n_labelled_windows"] > 0
    if sample:
        assert [list(row) for row in rows[:1]] == [list(pd.read_csv(sample, nrows=0).columns)]
        assert [row["row_id"] for row in rows] == pd.read_csv(sample)["row_id"].tolist()
    else:
        assert {row["label"] for row in rows} == set(demo_labels(plain))


def demo_labels(folder):
    return sorted(path.name for path in (folder / "train_audio").iterdir())


def test_two_sources_with_a_label_map_go_all_the_way(plain, tmp_path, capsys):
    arrange(shutil.copytree(plain, tmp_path / "clips"), "folders")
    arrange(shutil.copytree(plain, tmp_path / "nights"), "raven")
    first, *others = demo_labels(plain)
    (tmp_path / "map.csv").write_text(f"old,new\n{others[0]},other\n{others[1]},other\n")
    sources = "[source.clips]\ndata_dir = clips\nlabel_map = map.csv\n[source.nights]\ndata_dir = nights\n"
    (tmp_path / "two.ini").write_text(sources + "label_map = map.csv\nweight = 2\n")
    one = next((tmp_path / "nights/long").glob("*.ogg"))
    summary, rows = goes_all_the_way(tmp_path, capsys, config=tmp_path / "two.ini", inputs=one)
    assert summary["n_classes"] == 2
    assert {row["label"] for row in rows} == {first, "other"}
