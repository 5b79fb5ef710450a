"""Does a picture show the right second, the right Hz and the unit?"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from utils.errors import DataError
from utils.visualise import clock, draw_contest, draw_history, draw_recording, draw_sheet, save_png

ROOT = Path(__file__).parents[2]
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


@pytest.mark.parametrize(("seconds", "words"), [(0.9, "0:00"), (65, "1:05"), (3725.4, "1:02:05"), (43_200, "12:00:00")])
def test_a_time_is_written_as_on_a_clock(seconds, words):
    assert clock(seconds) == words


@pytest.mark.parametrize(
    ("start_s", "seconds", "unit", "ticks"),
    [
        (0.0, 100.0, "seconds", ["0", "20"]),
        (0.0, 600.0, "minutes:seconds", ["0:00", "1:00"]),
        (7200.0, 4.0, "hours:minutes:seconds", ["2:00:00", "2:00:01"]),
        (0.0, 36_000.0, "hours:minutes:seconds", ["0:00", "1:00:00"]),
    ],
)
def test_a_long_recording_has_minutes_and_hours_on_its_axis(start_s, seconds, unit, ticks):
    scales = {"frames_per_second": 1000 / seconds, "mel_frequencies": MEL_FREQUENCIES[:8]}
    noise = np.random.default_rng(1).normal(size=(8, 1000))
    figure = draw_recording(noise, noise, start_s=start_s, **scales)
    figure.draw_without_rendering()
    below = figure.axes[1]
    assert below.get_xlabel() == unit
    assert below.get_xlim() == (start_s, start_s + seconds)
    assert [label.get_text() for label in below.get_xticklabels() if start_s <= label.get_position()[0]][:2] == ticks


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


def test_the_kept_epoch_is_marked_and_a_meaning_has_one_colour():
    figure = draw_history(rows(), title="my $run", kept_epoch=2)
    assert figure.get_suptitle() == "my $run"
    for axes in figure.axes:
        assert [list(line.get_xdata()) for line in axes.lines if line.get_label() == "kept: epoch 2"] == [[2, 2]]
    colours = [
        line.get_color() for axes in figure.axes for line in axes.lines if not line.get_label().startswith("kept")
    ]
    assert len(set(colours)) == len(colours)


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
    with pytest.raises(DataError, match=r"out\.png: permission denied; change its perm"):
        save_png(draw_history(rows()), tmp_path / "out.png")


def test_importing_the_module_does_not_import_matplotlib():
    code = "import sys, utils.visualise; sys.exit('matplotlib' in sys.modules or 'dataloader' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
