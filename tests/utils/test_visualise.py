"""What a picture shows: the right second, the right Hz, the unit; and what the command says when it cannot draw."""

import json
import os
import shutil
import stat
import subprocess
import sys
import types
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile

from utils import visualise
from utils.errors import ConfigError, DataError
from utils.visualise import draw_contest, draw_history, draw_recording, draw_sheet, main, save_png

ROOT = Path(__file__).parents[2]
BIRDS = Path(os.environ.get("BIRDS_DIR", ROOT / "../shared/birds"))
SAMPLE_RATE = 32_000  # Hz
FRAMES_PER_SECOND = 64.0
MEL_FREQUENCIES = np.geomspace(50.0, 14_000.0, 128)  # Hz; any rising values will do
N_EPOCHS = 3


def a_call(second: float, hz: float) -> np.ndarray:
    """Four seconds of silence with one loud point."""
    spectrogram = np.full((128, 256), -80.0, dtype=np.float32)
    spectrogram += np.random.default_rng(1).normal(0, 3, spectrogram.shape)
    spectrogram[np.abs(MEL_FREQUENCIES - hz).argmin(), round(second * FRAMES_PER_SECOND)] = -5.0
    return spectrogram


def draw(spectrogram: np.ndarray, title: str = ""):
    scales = {"frames_per_second": FRAMES_PER_SECOND, "mel_frequencies": MEL_FREQUENCIES}
    return draw_recording(spectrogram, spectrogram, title=title, **scales)


def rows() -> list[dict]:
    scores = {"val_macro_auc": 0.8, "val_top1": None, "val_cmap": None, "train_loss": 0.4}
    return [{"epoch": epoch, "val_loss": 0.5 if epoch != 2 else None, **scores} for epoch in range(1, N_EPOCHS + 1)]


# Figures


def test_a_call_is_drawn_at_its_second_and_its_frequency():
    axes = draw(a_call(second=3.0, hz=2000.0)).axes[0]
    image = axes.images[0]
    band, frame = np.unravel_index(np.asarray(image.get_array()).argmax(), (128, 256))
    left, right, bottom, top = image.get_extent()
    second = left + (frame + 0.5) * (right - left) / 256
    height = bottom + (band + 0.5) * (top - bottom) / 128
    tick = {label.get_text(): at for label, at in zip(axes.get_yticklabels(), axes.get_yticks(), strict=True)}
    assert image.origin == "lower"
    assert second == pytest.approx(3.0)
    assert height == pytest.approx(tick["2 000"], abs=0.5)  # within half a band


def test_axes_and_colours_carry_their_units():
    figure = draw(a_call(1.0, 1000.0), title=r"a$\b$c.ogg")
    above, below, *colour_bars = figure.axes
    assert below.get_xlabel() == "seconds"
    assert all("Hz" in axes.get_ylabel() for axes in (above, below))
    assert [bar.get_ylabel() for bar in colour_bars] == ["dB re full scale", "standard deviations of the band"]
    assert figure.get_suptitle() == r"a$\b$c.ogg"
    assert above.get_xlim() == below.get_xlim() == (0.0, 4.0)
    figure.draw_without_rendering()  # a name with dollars is no formula


def test_labels_of_the_frequencies_do_not_run_into_one_another():
    ticks = draw(a_call(1.0, 1000.0)).axes[0].get_yticks()
    assert len(ticks) >= 5
    assert np.diff(ticks).min() >= 128 / 14


def test_one_click_and_a_silent_band_do_not_wash_out_the_picture():
    spectrogram = a_call(1.0, 1000.0)
    spectrogram[100:] = -100.0  # nothing above the recorder's own limit
    spectrogram[0, 0] = 60.0
    low, high = draw(spectrogram).axes[0].images[0].get_clim()
    assert -90 < low < -80
    assert high < -60


@pytest.mark.parametrize("level", [0.0, -100.0])
def test_silence_can_be_drawn(level):
    figure = draw(np.full((128, 10), level))
    figure.draw_without_rendering()
    low, high = figure.axes[0].images[0].get_clim()
    assert low < high


@pytest.mark.parametrize("shape", [(128,), (64, 10), (128, 0), (1, 128, 10)])
def test_a_spectrogram_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"expected \(n_mels, frames\) with 128 bands"):
        draw(np.zeros(shape))


@pytest.mark.parametrize(
    ("standardize", "title"), [("per_frequency", "per frequency"), ("per_clip", "recording"), ("none", "not")]
)
def test_a_recording_is_drawn_as_it_sounds_and_as_a_model_gets_it(standardize, title):
    log_mel = a_call(1.0, 1000.0)
    figure = draw_recording(
        log_mel,
        log_mel / 3,
        frames_per_second=FRAMES_PER_SECOND,
        mel_frequencies=MEL_FREQUENCIES,
        title="XC1.ogg",
        standardize=standardize,
    )
    above, below = (axes for axes in figure.axes if axes.images)
    np.testing.assert_array_equal(above.images[0].get_array(), log_mel)
    np.testing.assert_array_equal(below.images[0].get_array(), log_mel / 3)
    assert title in below.get_title()
    assert figure.get_suptitle() == "XC1.ogg"


def test_a_sheet_has_a_titled_panel_for_each_image_with_the_colours_of_the_first():
    images = [("as it is", a_call(1.0, 2000.0)), ("louder $", a_call(2.0, 3000.0) + 40)] * 3
    figure = draw_sheet(images, frames_per_second=FRAMES_PER_SECOND, mel_frequencies=MEL_FREQUENCIES, title="XC1")
    panels = [axes for axes in figure.axes if axes.images and axes.get_visible()]
    assert [axes.get_title() for axes in panels] == [name for name, _ in images]
    assert len({axes.images[0].get_clim() for axes in panels}) == 1
    with pytest.raises(ValueError, match="no images"):
        draw_sheet([], frames_per_second=FRAMES_PER_SECOND, mel_frequencies=MEL_FREQUENCIES)


def test_a_history_has_a_gap_where_there_is_no_score_and_leaves_out_empty_curves():
    losses, scores = draw_history(rows()).axes
    curves = {line.get_label(): line.get_ydata() for line in [*losses.lines, *scores.lines]}
    assert list(curves) == ["training", "validation", "macro AUC"]
    np.testing.assert_array_equal(curves["validation"], [0.5, np.nan, 0.5])
    np.testing.assert_array_equal(losses.lines[0].get_xdata(), [1, 2, 3])


def test_a_history_without_validation_can_be_drawn():
    figure = draw_history([{"epoch": 1, "train_loss": 0.5}])
    figure.draw_without_rendering()
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss"]


def test_a_history_without_epochs_is_refused():
    with pytest.raises(ValueError, match="no epochs"):
        draw_history([])


def test_a_contest_shows_each_recipe_with_its_spread_against_both_costs():
    plain = {"name": "plain $_$", "macro_auc": (0.8, 0.02), "seconds": 60.0, "speed": 360.0}
    figure = draw_contest([plain, {"name": "slow", "macro_auc": (0.9, None), "seconds": 600.0, "speed": None}])
    figure.draw_without_rendering()
    training, prediction = figure.axes
    assert [text.get_text() for text in training.texts] == ["plain $_$", "slow"]
    assert [text.xy for text in training.texts] == [(60.0, 0.8), (600.0, 0.9)]
    assert [text.xy for text in prediction.texts] == [(10.0, 0.8)]  # 360 x real time: 10 s an hour
    ((low, high),) = training.containers[0].lines[2][0].get_segments()
    np.testing.assert_allclose([low[1], high[1]], [0.78, 0.82])


def test_equal_figures_give_equal_files_and_nothing_else_is_left(tmp_path):
    for name in ("a.png", "b.png"):
        save_png(draw_history(rows()), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise PermissionError(13, "Permission denied", ".temporary")

    monkeypatch.setattr(os, "replace", refuse)  # root may write anywhere, so no folder would refuse it
    with pytest.raises(DataError, match=r"out\.png: permission denied; change who may"):
        save_png(draw_history(rows()), tmp_path / "out.png")


def test_importing_the_module_does_not_import_matplotlib():
    code = "import sys, utils.visualise; sys.exit('matplotlib' in sys.modules or 'dataloader' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


# The command


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current folder with a config and a second of whistling, and no display."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(visualise, "_has_display", lambda: False)
    (tmp_path / "config.ini").write_text("[data_process]\nsample_rate = 32000\n")
    whistle = 0.1 * np.sin(2 * np.pi * 2000 * np.arange(SAMPLE_RATE) / SAMPLE_RATE)
    soundfile.write(tmp_path / "whistle.wav", whistle, SAMPLE_RATE)
    return tmp_path


@pytest.fixture
def drawn(monkeypatch) -> list[dict]:
    """What the command had drawn."""
    calls = []

    def remember(log_mel, standardised, **arguments):
        calls.append({"log_mel": log_mel, "standardised": standardised, **arguments})
        return draw_recording(log_mel, standardised, **arguments)

    monkeypatch.setattr(visualise, "draw_recording", remember)
    return calls


def test_without_a_display_the_picture_is_put_in_the_current_folder(here, capsys):
    main(["whistle.wav"])
    assert (here / "whistle.png").read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out == f"picture: {here / 'whistle.png'}\n"


def test_with_a_display_a_window_takes_the_place_of_the_file(here, monkeypatch):
    shown = []
    monkeypatch.setattr(visualise, "_has_display", lambda: True)
    monkeypatch.setattr(visualise, "_show", shown.append)
    main(["whistle.wav"])
    assert len(shown) == 1
    assert not list(here.glob("*.png"))


def test_a_window_shows_the_figure(monkeypatch):
    from matplotlib import pyplot

    pyplot.switch_backend("agg")
    shown = []
    monkeypatch.setattr(pyplot, "show", lambda: shown.append(pyplot.gcf()))
    figure = draw_history(rows())
    visualise._show(figure)
    pyplot.close("all")
    assert shown == [figure]


def test_the_picture_shows_the_recording_in_hz_and_the_same_standardised(here, drawn):
    main(["whistle.wav", "--output", "out.png"])
    (call,) = drawn
    loudest = call["mel_frequencies"][call["log_mel"].mean(axis=1).argmax()]
    assert loudest == pytest.approx(2000, rel=0.05)
    assert call["log_mel"].shape == (128, 64)
    np.testing.assert_allclose(call["standardised"].mean(axis=1), 0, atol=1e-3)
    assert (here / "out.png").exists()


def test_settings_come_from_the_config_and_the_overrides(here, drawn):
    main(["whistle.wav", "--set", "data_process.n_mels=32", "--set", "data_process.standardize=none"])
    assert drawn[0]["log_mel"].shape == (32, 64)
    np.testing.assert_array_equal(drawn[0]["standardised"], drawn[0]["log_mel"])
    with pytest.raises(ConfigError, match="n_mel"):
        main(["whistle.wav", "--set", "data_process.n_mel=32"])


def test_without_a_name_the_first_recording_of_the_data_or_the_demo_is_drawn(here, drawn):
    folders = ["--set", f"paths.data_dir={here / 'data'}", "--set", f"paths.demo_dir={here / 'demo'}"]
    with pytest.raises(DataError, match=r"no recordings in .*data or .*demo: name one, or make some"):
        main(folders)
    for name in ("demo/train_audio/b/1.wav", "data/train_audio/c/2.wav"):  # data come first
        (here / name).parent.mkdir(parents=True)
        shutil.copy(here / "whistle.wav", here / name)
        (here / name).with_name(".0.wav").touch()
        main([*folders, "--output", "out.png"])
    assert [call["title"] for call in drawn] == ["1.wav", "2.wav"]


def test_the_changes_of_training_are_drawn_on_a_recording(here, monkeypatch):
    sheets = []
    monkeypatch.setattr(
        visualise, "draw_sheet", lambda panels, **given: sheets.append(panels) or draw_sheet(panels, **given)
    )
    main(["--augmentations", "whistle.wav", "--output", "sheet.png", "--set", "data_process.n_mels=32"])
    assert (here / "sheet.png").read_bytes().startswith(b"\x89PNG")
    assert {"as it is", "XY masking", "mixed on power, half and half"} <= {title for title, _ in sheets[0]}


def test_a_run_is_drawn_by_epoch(here, monkeypatch):
    drawn = []
    monkeypatch.setattr(visualise, "draw_history", lambda rows: drawn.append(rows) or draw_history(rows))
    (here / "run").mkdir()
    (here / "run/metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows()))
    main(["run"])
    assert drawn == [rows()]
    assert (here / "run.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone.ogg"], "^gone.ogg: no such recording"),
        (["."], "^.: no metrics.jsonl is there; name a sound file, or the folder of a run"),
        (["new run"], "^new run/metrics.jsonl: the run has finished no epoch yet"),
        (["bad run"], "^bad run/metrics.jsonl: damaged"),
        (["bad run", "--play"], "^bad run: a folder; --play and --augmentations want one sound file"),
        (["config.ini"], "^config.ini: unreadable: "),
        (["whistle.wav", "--output", "gone/out.png"], "^gone: no such folder; make it"),
        (["whistle.wav", "--output", "out.jpg"], "^out.jpg: the picture is a PNG; call it out.png"),
        (["whistle.wav", "--output", "config.ini/out.png"], "^config.ini: no such folder"),
    ],
)
def test_what_cannot_be_drawn_is_told_in_a_line(here, arguments, message, monkeypatch):
    monkeypatch.setattr(visualise, "_find_player", lambda: "aplay")
    for run, text in (("new run", ""), ("bad run", "{")):
        (here / run).mkdir()
        (here / run / "metrics.jsonl").write_text(text)
    with pytest.raises(DataError, match=message) as error:
        main(arguments)
    assert "\n" not in str(error.value)
    assert not list(here.glob("*.png"))


def test_a_recording_of_a_moment_is_too_short_to_draw(here):
    soundfile.write(here / "click.wav", np.full(600, 0.5), SAMPLE_RATE)
    with pytest.raises(DataError, match=r"^click.wav: 600 samples are too few to draw"):
        main(["click.wav"])


def test_a_recording_of_hours_is_told_before_it_is_read(here, monkeypatch):
    monkeypatch.setattr(visualise, "LONGEST_H", 0.5 / 3600)
    with pytest.raises(DataError, match=r"^whistle.wav: .* hours, and up to .* predict\.py --report draws longer ones"):
        main(["whistle.wav"])


# Sound


def give_path(monkeypatch, folder: Path, script: str, name: str = "aplay") -> None:
    """Let a shell script stand on an otherwise empty PATH."""
    folder.mkdir()
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setitem(sys.modules, "sounddevice", None)


def test_a_player_on_the_path_gets_the_sound_as_wav(here, monkeypatch):
    give_path(monkeypatch, here / "bin", f'/bin/cp "$2" "{here}/played.wav"; echo "$1" > "{here}/argument"')
    main(["whistle.wav", "--play"])
    assert (here / "argument").read_text() == "--quiet\n"
    with wave.open(str(here / "played.wav")) as played, wave.open("whistle.wav") as original:
        assert played.getparams() == original.getparams()
        difference = [np.frombuffer(file.readframes(SAMPLE_RATE), "<i2").astype(int) for file in (played, original)]
    assert np.abs(difference[0] - difference[1]).max() <= 1


def test_a_player_that_fails_is_quoted_in_a_line(here, monkeypatch):
    give_path(monkeypatch, here / "bin", "echo noise >&2; echo no sound card >&2; exit 3")
    with pytest.raises(DataError, match=r"^--play: aplay: no sound card$"):
        main(["whistle.wav", "--play"])


def test_without_any_player_it_says_what_to_install(here, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(DataError, match="pip install sounddevice, or install one of ffplay, aplay"):
        main(["whistle.wav", "--play"])


def test_sounddevice_is_taken_first_and_waited_for(here, monkeypatch):
    give_path(monkeypatch, here / "bin", "exit 1")
    calls = []
    package = types.SimpleNamespace(
        play=lambda waveform, rate: calls.append((waveform.shape, rate)),
        wait=lambda: calls.append("waited"),
        PortAudioError=OSError,
    )
    monkeypatch.setitem(sys.modules, "sounddevice", package)
    main(["whistle.wav", "--play"])
    assert calls == [((SAMPLE_RATE,), SAMPLE_RATE), "waited"]


# As people run it


def test_a_real_recording_is_drawn_and_a_cut_one_as_far_as_it_goes(here, drawn, caplog):
    recordings = sorted(BIRDS.glob("train_audio/*/*.ogg"))
    if not recordings:
        pytest.skip(f"no recordings in {BIRDS}; set BIRDS_DIR")
    main([str(recordings[0])])
    main(["--augmentations", str(recordings[0]), "--output", "sheet.png"])
    assert (here / "sheet.png").read_bytes().startswith(b"\x89PNG")
    assert not caplog.records
    (here / "cut.ogg").write_bytes(recordings[0].read_bytes()[:30_000])
    main(["cut.ogg"])
    assert 2 < drawn[1]["log_mel"].shape[1] < drawn[0]["log_mel"].shape[1]
    assert [record.getMessage()[:20] for record in caplog.records] == ["cut.ogg: truncated: "]


def test_the_command_leaves_with_1_and_a_line(here):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "utils.visualise", "gone.ogg"]
    done = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "gone.ogg: no such recording; name one sound file\n"
