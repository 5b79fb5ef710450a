"""Are the scores of a recording those of training, however it arrives?"""

import logging
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch
from scipy.special import expit

from dataloader.audio.decoding import BadRecording
from dataloader.batches.dataset import WindowDataset
from dataloader.batches.images import ImageTransform
from dataloader.batches.waveforms import WaveformDataset, WaveformTransform
from dataloader.batches.windows import make_windows, window_frames, window_starts
from dataloader.cache.entries import cache_key
from dataloader.cache.prepare import Job, Spectrograms, prepare
from dataloader.cache.spectrogram import MelStream
from factory.model import build_model, model_settings
from inference import predictor as predictor_module
from inference.checkpoints import network_of
from inference.predictor import Predictor
from utils.errors import UserError
from utils.settings import DataProcess, Model


@pytest.fixture(scope="module")
def tiny(tiny_run):
    return Predictor(tiny_run, backend="torch")


@pytest.fixture
def wav(tmp_path, sound):
    def write(seconds, name="a.wav", rate=16_000, channels=1, seed=1, **options):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        samples = np.repeat(sound(seconds, rate, seed)[:, None], channels, axis=1)
        sf.write(path, samples, rate, **options)
        return path

    return write


def validation_scores(run: Path, recording: Path, folder: Path) -> np.ndarray:
    """``(windows, classes)``: what validation computes, through the cache."""
    network, card, *_ = network_of(run / "best.pt")
    place = folder / cache_key(card.process)
    record = prepare(Job(f"x/{recording.name}", str(recording)), place, Spectrograms(card.process))
    assert not record.reason
    entry = str(place / "x" / recording.with_suffix(".npy").name)
    table = pd.DataFrame({"entry": [entry], "frames": [record.frames], "labels": [card.labels[:1]], "filename": ["x"]})
    starts = window_starts(record.frames, window_frames(card.process))
    windows = pd.DataFrame({"recording": 0, "first_frame": starts, "n_frames": window_frames(card.process)})
    batch = WindowDataset(table, windows, card.labels, card.process)[[(row, 0.0) for row in range(len(starts))]]
    with torch.inference_mode():
        return network(ImageTransform(card.process, card.standardize_over)(batch)[0]).sigmoid().numpy()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"standardize_over": "recording"},
        {"standardize": "per_clip"},
        {"standardize": "none"},
        {"sample_rate": 22_050, "hop_length": 512, "n_fft": 1024},  # a window is not a whole number of frames
    ],
    ids=str,
)
@pytest.mark.parametrize("seconds", [1.7, 10.0, 41.3])
def test_prediction_and_validation_give_the_same_scores(make_run, wav, tmp_path, changes, seconds):
    run, recording = make_run(**changes), wav(seconds)
    expected = validation_scores(run, recording, tmp_path)
    scores = Predictor(run, backend="torch").predict_file(recording)
    assert scores.each.shape == (1, *expected.shape)
    if seconds > 5 and changes.get("standardize") != "none":
        assert np.ptp(expected, axis=0).max() > 0.01  # windows differ, so that a wrong one would show
    np.testing.assert_allclose(scores.each[0], expected, atol=1e-3)
    np.testing.assert_allclose(scores.each[0].mean(axis=0), expected.mean(axis=0), atol=1e-3)


@pytest.mark.parametrize(
    "options", [{}, {"window_s": 1.0}, {"window_s": 2.0, "shift_tta": True}, {"step_s": 1.0}], ids=str
)
@pytest.mark.parametrize("over", ["window", "recording"])
def test_a_stream_in_odd_chunks_gives_what_the_file_gives(make_run, sound, tmp_path, options, over):
    its = Predictor(make_run(standardize_over=over), backend="torch", **options)
    recording, rate = tmp_path / "a.wav", 22_050
    whole = np.stack([sound(75.3, rate, seed) for seed in (1, 2)], axis=1)  # two different channels
    sf.write(recording, whole, rate, subtype="FLOAT")
    rng, chunks, place = np.random.default_rng(1), [], 0
    while place < len(whole):
        chunks.append(whole[place : place + int(rng.choice([1, 100, 5000, rate]))])
        place += len(chunks[-1])
    rows = list(its.stream(iter(chunks), rate))
    scores = its.predict_file(recording)
    np.testing.assert_allclose([row[0] for row in rows], scores.start_s)
    np.testing.assert_allclose([row[1] for row in rows], scores.end_s)
    np.testing.assert_allclose([row[2] for row in rows], scores.each[0], atol=1e-4)


def test_a_stream_answers_as_soon_as_a_window_is_whole(tiny, sound):
    asked = []

    def chunks():
        for number in range(10):
            asked.append(number)
            yield sound(1.0, seed=number)

    rows = tiny.stream(chunks(), 16_000)
    assert next(rows)[:2] == (0.0, 3.0)
    assert len(asked) == 4  # a frame is centred: the last of the window reaches into the next chunk
    assert next(rows)[:2] == (3.0, 6.0)
    assert len(asked) == 7


def test_a_stream_forgets_what_it_has_given(tiny_run, sound):
    its = Predictor(tiny_run, step_s=1.0, shift_tta=True, backend="torch")
    chunk = sound(60.0)
    rows = its.stream((chunk for _ in range(5)), 16_000)
    held = [(len(rows.gi_frame.f_locals["scores"][0]), rows.gi_frame.f_locals["counts"][0]) for _ in rows]
    assert held[-1][1] > 300  # windows in all
    assert max(known for known, _ in held) < 200  # those of a chunk, whose rows wait to be printed
    assert held[-1][0] < 10


BIRDS = Path(os.environ.get("BIRDS_DIR") or Path(__file__).parents[3] / "shared" / "birds")


@pytest.mark.skipif(not BIRDS.is_dir(), reason="no real recordings: set BIRDS_DIR")
@pytest.mark.parametrize("over", ["window", "recording"])
def test_real_recordings_of_the_training_data_score_as_in_validation(make_run, tmp_path, over):
    run = make_run(sample_rate=32_000, n_fft=1024, hop_length=500, n_mels=64, f_max=15_000.0, standardize_over=over)
    its = Predictor(run)
    for recording in sorted((BIRDS / "train_audio").rglob("*.ogg"))[::75]:
        expected = validation_scores(run, recording, tmp_path)
        np.testing.assert_allclose(its.predict_file(recording).each[0], expected, atol=1e-3)


def test_a_stream_of_nothing_has_no_rows(tiny):
    assert list(tiny.stream([], 16_000)) == []
    assert list(tiny.stream([np.empty(0, np.float32)], 44_100)) == []


def test_integers_and_what_is_not_finite_do_not_stop_a_stream(tiny, sound):
    samples = sound(4.0)
    samples[100] = np.nan
    ((_, _, scores),) = tiny.stream([samples], 16_000)
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100])
@pytest.mark.parametrize(("name", "channels"), [("a.wav", 2), ("a.flac", 1), ("a.ogg", 2), ("a.mp3", 1)])
def test_files_of_any_kind_rate_and_channels_are_scored(tiny, wav, rate, name, channels):
    recording = wav(6.5, name, rate=rate, channels=channels)
    scores = tiny.predict_file(recording)
    assert scores.each.shape == (1, 2, 3)  # the tail of half a second makes no row
    assert (scores.sample_rate, scores.problem) == (rate, None)
    assert scores.seconds == pytest.approx(6.5, abs=0.15)  # an mp3 is padded
    same = tiny.predict_file(wav(6.5, "same.wav", rate=rate))
    assert np.abs(scores.each - same.each).max() < (5e-3 if name in ("a.wav", "a.flac") else 0.5)


def test_half_a_second_is_enough_and_less_is_reported(tiny, wav):
    assert tiny.predict_file(wav(0.5)).each.shape == (1, 1, 3)
    with pytest.raises(
        BadRecording, match=r"too_short: 0\.10 s long; the run was trained on recordings of at least 0\.5 s"
    ):
        tiny.predict_file(wav(0.1))


def test_the_runs_own_shortest_recording_is_the_limit(run, wav):
    state = torch.load(run / "best.pt", weights_only=True)
    torch.save(state | {"min_recording_s": 0.05}, run / "best.pt")
    its = Predictor(run, backend="torch")
    assert its.predict_file(wav(0.1)).each.shape == (1, 1, 3)
    with pytest.raises(BadRecording, match="too_short"):
        its.predict_file(wav(0.04))


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "empty"), (b"no sound at all" * 99, "unreadable"), (None, "missing")]
)
def test_what_is_no_recording_is_reported_and_the_others_are_scored(tiny, wav, tmp_path, content, reason):
    bad = tmp_path / "bad.ogg"
    if content is not None:
        bad.write_bytes(content)
    good = [wav(4.0, f"{number}.wav") for number in range(3)]
    results = dict(tiny.predict_files([good[0], bad, *good[1:]]))
    assert results.keys() == {*good, bad}
    assert results[bad].reason == reason
    assert all(results[path].each.shape == (1, 1, 3) for path in good)


def test_of_a_recording_cut_off_what_decodes_is_scored(tiny, wav):
    recording = wav(30.0, "a.ogg")
    whole = tiny.predict_file(recording)
    recording.write_bytes(recording.read_bytes()[: recording.stat().st_size // 2])
    cut = tiny.predict_file(recording)
    assert cut.problem.reason == "truncated"
    assert 10 < cut.seconds < 20
    rows = cut.each.shape[1] - 2  # near the cut the last frames and the tail differ
    np.testing.assert_allclose(cut.each[:, :rows], whole.each[:, :rows], atol=1e-3)


def test_of_a_recording_cut_off_at_once_the_cut_is_reported_not_its_length(tiny, wav):
    recording = wav(30.0)
    recording.write_bytes(recording.read_bytes()[:2000])
    with pytest.raises(BadRecording, match="truncated"):
        tiny.predict_file(recording)


def test_models_that_share_a_spectrogram_compute_it_once(make_run, wav, monkeypatch):
    made = []
    push = MelStream.push
    monkeypatch.setattr(MelStream, "push", lambda self, samples: made.append(len(samples)) or push(self, samples))
    runs = [make_run(seed=seed) for seed in (1, 2)] + [make_run(max_length_s=2.0), make_run(n_mels=40)]
    recording = wav(9.0)
    for used, spectrograms in ((runs[:1], 1), (runs[:3], 1), (runs, 2)):
        made.clear()
        Predictor(used, backend="torch").predict_file(recording)
        assert sum(made) == spectrograms * 9 * 16_000


def test_several_runs_give_what_each_gives(make_run, wav):
    runs = [make_run(seed=1), make_run(seed=2, n_mels=40), make_run(seed=3, max_length_s=2.0)]
    recording = wav(20.0)
    together = Predictor(runs, window_s=3.0, backend="torch").predict_file(recording)
    for number, run in enumerate(runs):
        alone = Predictor(run, window_s=3.0, backend="torch").predict_file(recording)
        np.testing.assert_allclose(together.each[number], alone.each[0], atol=1e-5)


def test_runs_of_other_sample_rates_go_together_at_any_length(make_run, wav, sound):
    """At one rate a recording may have a sample, and so a block, more than at another."""
    runs = [make_run(), make_run(sample_rate=32_000, hop_length=500, n_fft=1024)]
    its = Predictor(runs, backend="torch")
    for samples in (480_000, 480_001, 480_002):
        assert its.predict_file(wav(samples / 48_000, rate=48_000)).each.shape == (2, 3, 3)


def test_runs_with_other_labels_are_refused(make_run, tiny_run):
    for labels, what in ((("asbfly", "bkskit1", "zitcis1"), "comgre"), (("bkskit1", "asbfly", "comgre"), "order")):
        with pytest.raises(UserError, match=f"{what}.*only runs with the same labels"):
            Predictor([tiny_run, make_run(labels=labels)], backend="torch")


def test_a_score_that_is_not_finite_names_the_recording(make_run, wav):
    run = make_run(seed=5)
    state = torch.load(run / "best.pt", weights_only=True)
    next(value for value in state["model"].values() if value.is_floating_point()).fill_(float("nan"))
    torch.save(state, run / "best.pt")
    with pytest.raises(UserError, match=r"a\.wav: .*not finite"):
        Predictor(run, backend="torch").predict_file(wav(4.0))
    with pytest.raises(UserError, match=r"best\.pt: .*not finite"):
        list(Predictor(run, backend="torch").stream([np.zeros(64_000)], 16_000))


def test_shift_tta_is_the_weighted_mean_of_three_windows(tiny_run, tiny, wav):
    recording = wav(12.0)
    shifted = Predictor(tiny_run, shift_tta=True, backend="torch").predict_file(recording)
    every = Predictor(tiny_run, step_s=1.5, backend="torch").predict_file(recording)  # windows at 0, 1.5, 3 ...
    window = every.each[0]
    expected = [
        0.5 * window[0] + 0.25 * window[0] + 0.25 * window[1],  # nothing is before the beginning
        0.5 * window[2] + 0.25 * window[1] + 0.25 * window[3],
        0.5 * window[4] + 0.25 * window[3] + 0.25 * window[5],
        0.5 * window[6] + 0.25 * window[5] + 0.25 * window[6],
    ]
    np.testing.assert_allclose(shifted.each[0], expected, atol=1e-5)


def test_scores_are_sigmoids_of_logits(tiny, wav, monkeypatch):
    monkeypatch.setattr(predictor_module, "expit", lambda logits: logits)
    recording = wav(6.0)
    logits = tiny.predict_file(recording).each
    monkeypatch.undo()
    np.testing.assert_allclose(tiny.predict_file(recording).each, expit(logits))


def test_other_files_beside_it_do_not_change_a_files_scores(tiny, wav, caplog):
    caplog.set_level(logging.WARNING)
    recordings = [wav(seconds, f"{seconds}.wav", seed=int(seconds * 10)) for seconds in (0.7, 25.0, 3.1, 60.0, 8.0)]
    together = dict(tiny.predict_files(recordings))
    for recording in recordings:
        np.testing.assert_allclose(tiny.predict_file(recording).each, together[recording].each, atol=1e-5)
    assert not caplog.records


@pytest.mark.parametrize("hop", [{}, {"sample_rate": 22_050, "hop_length": 512}, {"hop_length": 499}])
@pytest.mark.parametrize("seconds", [12.0, 13.03, 9.504, 24.97, 25.01, 3.2])
def test_a_model_of_the_waveform_scores_as_in_validation(tmp_path, wav, hop, seconds):
    model, labels = Model(type="wav2vec2_tiny", transfer_learning=False), ["a", "b"]
    process = DataProcess(f_max=10_000.0, **hop)
    torch.manual_seed(1)
    network = build_model(model, 2).eval()
    card = {"labels": labels, "data_process": asdict(process), "standardize_over": "window", "model_type": model.type}
    card |= {"model_settings": model_settings(model), "optimizer": {}, "scheduler": {}, "epoch": 1}
    torch.save({"model": network.state_dict(), **card}, tmp_path / "best.pt")
    recording = wav(seconds, rate=44_100)
    frames = round(seconds * process.sample_rate) // process.hop_length
    row = {"path": str(recording), "entry": "", "frames": frames, "seconds": seconds, "labels": ("a",), "filename": "x"}
    table = pd.DataFrame([row])
    windows = make_windows(table, process)
    batch = WaveformDataset(table, windows, labels, process)[[(row, 0.0) for row in range(len(windows))]]
    with torch.inference_mode():
        expected = network(WaveformTransform()(batch)[0]).sigmoid().numpy()
    for backend in ("torch", "onnx") if (hop, seconds) == ({}, 12.0) else ("torch",):
        if backend == "onnx":
            pytest.importorskip("onnxruntime")
        scores = Predictor(tmp_path, backend=backend).predict_file(recording)
        np.testing.assert_allclose(scores.each[0], expected, atol=1e-3 if backend == "onnx" else 1e-5)


def test_one_row_for_a_recording_is_the_mean_over_the_windows_of_training(tiny_run, tiny, wav, sound):
    its = Predictor(tiny_run, window_s="recording", backend="torch")
    for seconds in (1.0, 12.0, 13.9):
        scores, windows = its.predict_file(wav(seconds)), tiny.predict_file(wav(seconds))
        np.testing.assert_allclose(scores.each[0], windows.each[0].mean(axis=0)[None], atol=1e-6)
        assert (scores.start_s.tolist(), scores.end_s.tolist()) == ([0.0], [seconds])
    with pytest.raises(UserError, match="a live stream has no end"):
        next(its.stream([sound(5.0)], 16_000))


def test_only_the_species_of_a_list_are_kept(tiny_run, tiny, wav, sound, tmp_path):
    (tmp_path / "species.txt").write_text("Avis comgre\ncommon ASBFLY\n")
    its = Predictor(tiny_run, backend="torch", species=tmp_path / "species.txt")
    assert its.labels == its.card.labels == ("asbfly", "comgre")
    recording = wav(12.0)
    np.testing.assert_array_equal(its.predict_file(recording).each, tiny.predict_file(recording).each[..., [0, 2]])
    assert next(its.stream([sound(5.0)], 16_000))[2].shape == (2,)
