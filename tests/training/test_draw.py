"""Does the command draw and play what was asked for, and report in a line why it cannot?"""

import json
import os
import shutil
import stat
import sys
import types
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.forked import run_forked
from training import draw
from training.draw import main
from utils.errors import ConfigError, DataError
from utils.visualise import draw_history, draw_recording, draw_sheet

ROOT = Path(__file__).parents[2]
BIRDS = Path(os.environ.get("BIRDS_DIR", ROOT / "../shared/birds"))
SAMPLE_RATE = 32_000  # Hz
ROWS = [{"epoch": epoch, "train_loss": 0.4, "val_loss": 0.5, "val_macro_auc": 0.8} for epoch in (1, 2, 3)]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current folder with a config and a second of whistling, and no display."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(draw, "_has_display", lambda: False)
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

    monkeypatch.setattr(draw, "draw_recording", remember)
    return calls


def test_without_a_display_the_picture_is_put_in_the_current_folder(here, capsys):
    main(["whistle.wav"])
    assert (here / "whistle.png").read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out == f"picture: {here / 'whistle.png'}\n"


def test_with_a_display_a_window_takes_the_place_of_the_file(here, monkeypatch):
    shown = []
    monkeypatch.setattr(draw, "_has_display", lambda: True)
    monkeypatch.setattr(draw, "_show", shown.append)
    main(["whistle.wav"])
    assert len(shown) == 1
    assert not list(here.glob("*.png"))


def test_a_window_shows_the_figure(monkeypatch):
    from matplotlib import pyplot

    pyplot.switch_backend("agg")
    shown = []
    monkeypatch.setattr(pyplot, "show", lambda: shown.append(pyplot.gcf()))
    figure = draw_history(ROWS)
    draw._show(figure)
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
    with pytest.raises(DataError, match=r"no recordings in .*data or .*demo; name one, or make some"):
        main(folders)
    for name in ("demo/train_audio/b/1.wav", "data/train_audio/c/2.wav"):  # data come first
        (here / name).parent.mkdir(parents=True)
        shutil.copy(here / "whistle.wav", here / name)
        (here / name).with_name(".0.wav").touch()
        (here / name).with_name("0.db").touch()  # as Windows' Thumbs.db
        main([*folders, "--output", "out.png"])
    assert [call["title"] for call in drawn] == ["1.wav", "2.wav"]


def test_the_changes_of_training_are_drawn_on_a_recording(here, monkeypatch):
    sheets = []
    monkeypatch.setattr(
        draw, "draw_sheet", lambda panels, **given: sheets.append(panels) or draw_sheet(panels, **given)
    )
    main(["--augmentations", "whistle.wav", "--output", "sheet.png", "--set", "data_process.n_mels=32"])
    assert (here / "sheet.png").read_bytes().startswith(b"\x89PNG")
    assert {"unchanged", "XY masking", "mixed on power, half and half"} <= {
        title.split("\n")[0] for title, _ in sheets[0]
    }


def test_a_run_is_drawn_by_epoch(here, monkeypatch):
    drawn = []
    monkeypatch.setattr(draw, "draw_history", lambda rows, **_: drawn.append(rows) or draw_history(rows))
    (here / "run").mkdir()
    (here / "run/metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
    main(["run"])
    assert drawn == [ROWS]
    assert (here / "run.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone.ogg"], "^gone.ogg: no such recording"),
        (["."], "^.: it has no metrics.jsonl; name a sound file or a run folder"),
        (["new run"], "^new run/metrics.jsonl: the run has not finished an epoch yet"),
        (["bad run"], "^bad run/metrics.jsonl: damaged"),
        (["bad run", "--play"], "^bad run: a folder; --play, --augmentations, --start and --length want one sound"),
        (["bad run", "--start", "1"], "^bad run: a folder; --play"),
        (["whistle.wav", "--start", "1"], "^whistle.wav: it ends at 1 s, so there is nothing from --start 1 on"),
        (["config.ini"], "^config.ini: unreadable: "),
        (["whistle.wav", "--output", "gone/out.png"], "^gone: no such folder; make it"),
        (["whistle.wav", "--output", "out.jpg"], "^out.jpg: the picture is a PNG; name it out.png"),
        (["whistle.wav", "--output", "config.ini/out.png"], "^config.ini: no such folder"),
    ],
)
def test_what_cannot_be_drawn_is_reported_in_a_line(here, arguments, message, monkeypatch):
    monkeypatch.setattr(draw, "find_player", lambda: "aplay")
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


def noise(path: Path, seconds: float) -> Path:
    soundfile.write(path, np.random.default_rng(1).normal(0, 0.1, round(seconds * SAMPLE_RATE)), SAMPLE_RATE)
    return path


def test_a_stretch_of_a_recording_is_drawn_at_its_own_time(here, drawn, monkeypatch):
    monkeypatch.setattr(draw, "_save_or_show", lambda *_: None)
    noise(here / "noise.wav", 10.0)
    main(["noise.wav"])
    main(["noise.wav", "--start", "4", "--length", "3"])
    main(["noise.wav", "--start", "8.5", "--length", "60"])
    whole, stretch, end = drawn
    assert (stretch["start_s"], stretch["title"]) == (4.0, "noise.wav, 0:04 to 0:07")
    np.testing.assert_allclose(stretch["log_mel"][:, 2:-2], whole["log_mel"][:, 4 * 64 + 2 : 7 * 64 - 2], atol=0.01)
    np.testing.assert_allclose(stretch["standardised"].mean(axis=1), 0, atol=1e-3)
    assert (stretch["over"], whole["over"]) == ("this stretch", "the recording")
    assert end["log_mel"].shape[1] == 96


def test_hours_are_drawn_in_a_few_columns_each_the_loudest_of_its_time(here, drawn, monkeypatch):
    monkeypatch.setattr(draw, "_save_or_show", lambda *_: None)
    noise(here / "night.wav", 10.0)
    main(["night.wav"])
    monkeypatch.setattr(draw, "LONGEST_S", 5.0)
    monkeypatch.setattr(draw, "COLUMNS", 20)
    main(["night.wav"])
    whole, long = drawn
    for key in ("log_mel", "standardised"):
        highest = whole[key].reshape(128, 20, 32).max(axis=2)
        np.testing.assert_allclose(long[key], highest, atol=0.01)
    assert long["frames_per_second"] == 2.0
    with pytest.raises(DataError, match=r"^night.wav: 0:10 is too long to play, .*; choose a stretch of it with --st"):
        main(["night.wav", "--augmentations"])


# Sound


def give_path(monkeypatch, folder: Path, script: str, name: str = "aplay") -> None:
    """Put a shell script on an otherwise empty PATH."""
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


def test_without_any_player_the_message_names_what_to_install(here, monkeypatch):
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
    sizes = {path: path.stat().st_size for path in BIRDS.glob("train_audio/*/*.ogg")}
    recordings = sorted((path for path in sizes if sizes[path] > 60_000), key=sizes.get)  # short ones are drawn soon
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
    done = run_forked(["-m", "utils.visualise", "gone.ogg"], here, cwd=here)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "gone.ogg: no such recording; name one sound file\n"
