"""Is the demo a data set like the real one: whole, repeatable, learnable by its songs and by nothing else?"""

import ast
import csv
import json
import os
import re
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import soundfile

from dataloader import demo
from dataloader.demo import is_there, main, make_demo
from dataloader.metadata import class_labels, read_sources
from dataloader.synthetic import birds as synthetic
from dataloader.synthetic.birds import SAMPLE_RATE, make_species, sing
from dataloader.synthetic.layouts import LAYOUTS
from dataloader.synthetic.ogg_writer import with_serial
from utils.errors import DataError
from utils.settings import Config, Data, Paths

SMALL = {"species": 2, "recordings": 1}


@pytest.fixture(scope="module")
def birds(tmp_path_factory):
    return make_demo(tmp_path_factory.mktemp("demo") / "birds", species=5, recordings=8)


@pytest.fixture
def quick(monkeypatch):
    """Short soundscapes and noises, for tests that are not about them."""
    monkeypatch.setattr(demo, "SOUNDSCAPE_S", 3.0)
    monkeypatch.setattr(synthetic, "NOISE_S", 0.5)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def real_birds() -> Path:
    return Path(os.environ.get("BIRDS_DIR") or Path(__file__).parents[3] / "shared" / "birds")


def test_the_table_has_the_columns_of_birdclef_2024(birds):
    header = (birds / "train_metadata.csv").read_text(encoding="utf-8").splitlines()[0]
    assert header == (
        "primary_label,secondary_labels,type,latitude,longitude,scientific_name,common_name,author,license,rating,"
        "url,filename"
    )
    if not real_birds().is_dir():
        pytest.skip("no real recordings to compare with: set BIRDS_DIR")
    real = (real_birds() / "train_metadata.csv").read_text(encoding="utf-8").splitlines()[0]
    assert real.startswith(header)


def test_every_cell_has_the_form_of_a_real_one(birds):
    rows = table(birds / "train_metadata.csv")
    assert len(rows) == 5 * 8
    labels = {row["primary_label"] for row in rows}
    for row in rows:
        assert re.fullmatch(rf"{row['primary_label']}/XC\d+\.ogg", row["filename"])
        assert set(ast.literal_eval(row["secondary_labels"])) <= labels - {row["primary_label"]}
        assert isinstance(ast.literal_eval(row["type"]), list)
        assert -90 <= float(row["latitude"]) <= 90
        assert -180 <= float(row["longitude"]) <= 180
        assert 0 <= float(row["rating"]) <= 5
        assert row["license"] == "CC0 1.0"
    assert any(ast.literal_eval(row["secondary_labels"]) for row in rows)


def test_the_table_and_the_folder_hold_the_same_recordings(birds):
    listed = [row["filename"] for row in table(birds / "train_metadata.csv")]
    found = [str(path.relative_to(birds / "train_audio")) for path in (birds / "train_audio").rglob("*.*")]
    assert sorted(listed) == sorted(found)
    assert len(set(listed)) == len(listed)


def test_recordings_are_mono_vorbis_at_32_khz_and_neither_silent_nor_clipped(birds):
    for path in birds.rglob("*.ogg"):
        info = soundfile.info(path)
        assert (info.format, info.subtype, info.channels, info.samplerate) == ("OGG", "VORBIS", 1, SAMPLE_RATE)
        waveform, _ = soundfile.read(path)
        assert len(waveform) == info.frames
        assert 1e-3 < np.abs(waveform).max() < 1.0, path


def test_a_soundscape_is_a_minute_of_several_species_whose_songs_are_listed(birds):
    present = defaultdict(set)
    for row in table(birds / "soundscape_labels.csv"):
        assert 0 <= float(row["start_s"]) < float(row["end_s"]) <= 60
        present[row["filename"]].add(row["label"])
    assert sorted(present) == sorted(path.name for path in (birds / "test_soundscapes").iterdir())
    for name, labels in present.items():
        assert soundfile.info(birds / "test_soundscapes" / name).duration == 60.0
        assert len(labels) == 4


def test_a_recordist_has_one_place_and_records_several_species_up_to_three_times_each(birds):
    places, recorded = defaultdict(set), defaultdict(lambda: defaultdict(int))
    for row in table(birds / "train_metadata.csv"):
        places[row["author"]].add((row["latitude"], row["longitude"]))
        recorded[row["author"]][row["primary_label"]] += 1
    assert all(len(place) == 1 for place in places.values())
    assert max(count for species in recorded.values() for count in species.values()) <= 3
    assert np.mean([len(species) for species in recorded.values()]) > 1.2
    for label in make_labels(5):  # else a split by recordist would leave a species out
        assert sum(label in species for species in recorded.values()) >= 3


def make_labels(species: int) -> list[str]:
    return [make_species(index, seed=1).label for index in range(species)]


@pytest.mark.parametrize("seed", [1, 2])
def test_species_have_labels_names_and_songs_of_their_own(seed):
    many = [make_species(index, seed) for index in range(60)]
    for attribute in ("label", "scientific_name", "common_name", "song"):
        assert len({getattr(bird, attribute) for bird in many}) == 60
    assert all(re.fullmatch(r"[a-z]{5}\d", bird.label) for bird in many)


def test_songs_stay_between_1_and_12_khz():
    rng = np.random.default_rng(0)
    for index in range(40):
        song = sing(make_species(index, seed=1), rng)
        power = np.abs(np.fft.rfft(song)) ** 2
        hz = np.fft.rfftfreq(len(song), 1 / SAMPLE_RATE)
        assert power[(hz >= 1_000) & (hz <= 12_000)].sum() > 0.98 * power.sum(), index


def test_loudness_does_not_show_the_species():
    rng = np.random.default_rng(0)
    for index in range(8):
        song = sing(make_species(index, seed=1), rng)
        assert np.sqrt(np.mean(song[song != 0] ** 2)) == pytest.approx(1.0)


def held_out_auc(birds: Path, features) -> float:
    """Macro ROC-AUC of a ridge regression on recordings of recordists that it was not trained on."""
    rows = table(birds / "train_metadata.csv")
    x = np.stack([features(soundfile.read(birds / "train_audio" / row["filename"])[0]) for row in rows])
    labels = sorted({row["primary_label"] for row in rows})
    y = np.array([[row["primary_label"] == label for label in labels] for row in rows])
    scores = []
    for held_out in (0, 1):
        test = np.array([int(row["author"].split()[-1]) % 2 == held_out for row in rows])
        z = (x - x[~test].mean(axis=0)) / (x[~test].std(axis=0) + 1e-9)
        kernel = z @ z[~test].T / z.shape[1]
        weights = np.linalg.solve(kernel[~test] + 0.1 * np.eye((~test).sum()), y[~test] - y[~test].mean(axis=0))
        for truth, score in zip(y[test].T, (kernel[test] @ weights).T, strict=True):
            if truth.any():  # ROC-AUC: how often one of the species is above one that is not
                scores.append(np.mean(score[truth][:, None] > score[~truth]))
    return float(np.mean(scores))


def band_levels_db(waveform: np.ndarray) -> np.ndarray:
    """Level of 64 bands of 250 Hz, ``(64, frames)``."""
    frames = waveform[: len(waveform) // 1024 * 1024].reshape(-1, 1024) * np.hanning(1024)
    power = np.abs(np.fft.rfft(frames))[:, :512].reshape(len(frames), 64, 8) ** 2
    return 10 * np.log10(power.sum(axis=2).T + 1e-10)


def test_the_songs_show_the_species_whoever_records_them(birds):
    def loud_moments(waveform):
        levels = band_levels_db(waveform)
        return np.quantile(levels, 0.95, axis=1) - np.median(levels, axis=1)

    assert held_out_auc(birds, loud_moments) > 0.85


def test_gain_noise_and_length_do_not_show_the_species(birds):
    def recorder(waveform):
        quiet = np.quantile(band_levels_db(waveform), 0.05, axis=1)
        return np.array([len(waveform), quiet[0], quiet[1], quiet[-16:].mean(), quiet.mean()])

    assert held_out_auc(birds, recorder) < 0.70


def test_the_same_arguments_give_the_same_bytes(tmp_path, quick):
    first = files(make_demo(tmp_path / "a", **SMALL, seed=3))
    assert first == files(make_demo(tmp_path / "b", **SMALL, seed=3))
    other = files(make_demo(tmp_path / "c", **SMALL, seed=4))
    assert {name for name in first if first[name] == other.get(name)} == set()


def test_more_species_leave_the_song_of_the_first_as_it_was(birds):
    assert {row["primary_label"] for row in table(birds / "train_metadata.csv")} == set(make_labels(5))
    assert make_labels(3) == make_labels(5)[:3]


def test_a_serial_number_changes_no_sample(tmp_path):
    waveform = 0.1 * np.random.default_rng(0).standard_normal(3 * SAMPLE_RATE)
    path, changed = tmp_path / "a.ogg", tmp_path / "b.ogg"
    soundfile.write(path, waveform, SAMPLE_RATE, format="OGG", subtype="VORBIS")
    changed.write_bytes(with_serial(path.read_bytes(), 123_456_789))
    assert changed.read_bytes()[14:18] == (123_456_789).to_bytes(4, "little")
    np.testing.assert_array_equal(soundfile.read(path)[0], soundfile.read(changed)[0])
    # libsndfile's own checksum is found again for its own serial number
    own = int.from_bytes(path.read_bytes()[14:18], "little")
    assert with_serial(changed.read_bytes(), own) == path.read_bytes()


def test_a_demo_that_is_there_is_left_alone(tmp_path, quick, monkeypatch):
    folder = make_demo(tmp_path / "demo", **SMALL)
    monkeypatch.setattr(demo, "_write_all", lambda *_: pytest.fail("made again"))
    assert make_demo(tmp_path / "demo", **SMALL) == folder


def test_a_demo_made_with_other_arguments_is_replaced(tmp_path, quick):
    make_demo(tmp_path / "demo", **SMALL, seed=1)
    make_demo(tmp_path / "demo", **SMALL, seed=2)
    assert json.loads((tmp_path / "demo" / "demo.json").read_text(encoding="utf-8"))["seed"] == 2
    assert files(tmp_path / "demo") == files(make_demo(tmp_path / "new", **SMALL, seed=2))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo", "new"]


def test_an_empty_folder_is_filled(tmp_path, quick):
    (tmp_path / "demo").mkdir()
    assert (make_demo(tmp_path / "demo", **SMALL) / "train_metadata.csv").is_file()


@pytest.mark.parametrize("with_demo", [False, True])
def test_a_folder_with_something_else_in_it_is_refused_and_kept(tmp_path, quick, with_demo):
    folder = tmp_path / "demo"
    if with_demo:
        make_demo(folder, **SMALL)
    folder.mkdir(exist_ok=True)
    (folder / "thesis.txt").write_text("three years", encoding="utf-8")
    with pytest.raises(DataError, match=r"demo: has a file that is not part of a demo, 'thesis.txt'"):
        make_demo(folder, **SMALL, seed=5)
    assert (folder / "thesis.txt").read_text(encoding="utf-8") == "three years"


def test_what_a_desktop_leaves_in_a_folder_is_passed_over(tmp_path, quick):
    folder = make_demo(tmp_path / "demo", **SMALL)
    (folder / ".DS_Store").touch()
    assert make_demo(folder, **SMALL) == folder
    assert is_there(folder)
    assert not is_there(tmp_path)


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "demo").write_text("", encoding="utf-8")
    with pytest.raises(DataError, match="is a file, not a folder"):
        make_demo(tmp_path / "demo")


def test_a_damaged_sidecar_is_named(tmp_path):
    (tmp_path / "demo.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match=r"demo\.json: damaged"):
        make_demo(tmp_path)


@pytest.mark.parametrize(("name", "low"), [("species", 1), ("recordings", 1), ("seed", 0)])
def test_an_argument_out_of_range_is_named(tmp_path, name, low):
    with pytest.raises(DataError, match=f"demo: {name} = {low - 1}: must be at least {low}"):
        make_demo(tmp_path / "demo", **{name: low - 1})
    assert not (tmp_path / "demo").exists()


def test_an_interrupted_demo_leaves_nothing_behind(tmp_path, quick, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "_write_soundscape", interrupt)
    with pytest.raises(KeyboardInterrupt):
        make_demo(tmp_path / "demo", **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_one_species_alone_has_no_second_in_the_background(tmp_path, quick):
    rows = table(make_demo(tmp_path / "demo", species=1, recordings=5) / "train_metadata.csv")
    assert {row["secondary_labels"] for row in rows} == {"[]"}


def test_the_last_line_of_the_command_is_the_path_of_the_demo(tmp_path, quick, capsys):
    main(["--output", str(tmp_path / "demo"), "--species", "2", "--recordings", "1", "--seed", "3"])
    assert capsys.readouterr().out.splitlines()[-1] == f"demo: {tmp_path / 'demo'}"
    assert len(table(tmp_path / "demo" / "train_metadata.csv")) == 2


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_written_so_that_it_is_found_out(tmp_path, quick, layout):
    made = demo.make_demo(tmp_path / "demo", species=3, recordings=2, layout=layout)
    table = read_sources(Config(paths=Paths(data_dir=made), data=Data(output_dir=tmp_path / "cache")))
    assert len(class_labels(table)) == 3
    assert all(Path(path).is_file() for path in table["path"])
    long = 3 if layout in ("table", "raven", "audacity", "birdclef-2021", "birdclef-2026") else 0
    annotated = table["annotations"].notna() if "annotations" in table else table["path"].isna()
    assert annotated.sum() == long
    assert (~annotated).sum() == (0 if layout in ("raven", "audacity") else 6)
    assert demo.make_demo(tmp_path / "demo", species=3, recordings=2, layout=layout) == made  # it is there
    (made / "mine.txt").touch()
    with pytest.raises(DataError, match=r"has a file that is not part of a demo, 'mine\.txt'"):
        make_demo(tmp_path / "demo", **SMALL)
