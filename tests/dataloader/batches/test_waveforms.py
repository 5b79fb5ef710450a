"""Does a model on the waveform get the same windows as a model on images?"""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch

from dataloader.audio.decoder import Decoder
from dataloader.audio.decoding import read_audio
from dataloader.batches.dataset import Batch, EpochBatches, Loader
from dataloader.batches.waveforms import (
    SAMPLE_RATE,
    WaveformDataset,
    WaveformTransform,
    waveform_augmenter,
    window_samples,
)
from dataloader.batches.windows import make_windows
from training.mixer import Mixer
from utils.errors import DataError
from utils.settings import Augmentation, DataProcess, Labels, Mixing

PROCESS = DataProcess(sample_rate=32_000, hop_length=500, max_length_s=0.5)
LABELS = ["a", "b"]
LENGTHS_S = (2.0, 0.3, 1.3)


@pytest.fixture
def dataset(tmp_path):
    rng = np.random.default_rng(1)
    rows = []
    for number, seconds in enumerate(LENGTHS_S):
        path = tmp_path / f"{number}.flac"
        sf.write(path, 0.1 * rng.standard_normal(round(seconds * SAMPLE_RATE)), SAMPLE_RATE)
        frames = round(seconds * 64)
        row = {"path": str(path), "filename": path.name, "entry": "", "frames": frames, "seconds": seconds}
        row["labels"] = (LABELS[number % 2],)
        rows.append(row)
    metadata = pd.DataFrame(rows)
    return WaveformDataset(metadata, make_windows(metadata, PROCESS), LABELS, PROCESS)


def batch_of(windows):
    windows = torch.as_tensor(windows, dtype=torch.float32)
    none = torch.empty(len(windows), 0)
    return Batch(windows, none, none, torch.zeros(len(windows), 2), torch.arange(len(windows)))


def at(*rows):
    """Rows as ``EpochBatches`` draws them without random crops."""
    return [(row, 0.0) for row in rows]


def test_a_batch_holds_the_windows_of_the_recordings(dataset):
    batch = dataset[at(*range(len(dataset)))]
    assert batch.windows.shape == (8, 8000)  # 4 + 1 + 2 and a tail
    assert batch.windows.dtype == torch.float32
    assert batch.scale.shape == (8, 0)
    assert batch.recording.tolist() == [0, 0, 0, 0, 1, 2, 2, 2]
    assert batch.targets.tolist() == [[1, 0]] * 4 + [[0, 1]] + [[1, 0]] * 3
    whole, _ = sf.read(dataset.paths[0], dtype="float32")
    np.testing.assert_array_equal(batch.windows[:4].reshape(-1), whole)
    tail, _ = sf.read(dataset.paths[2], dtype="float32")
    np.testing.assert_array_equal(batch.windows[7], tail[-8000:])  # to the sample, where 83 frames are a little less


def test_a_recording_of_a_bat_detector_is_read_at_its_real_rate(tmp_path):
    sound = 0.1 * np.random.default_rng(1).standard_normal(10 * SAMPLE_RATE)  # 10 s that were 1 s
    sf.write(tmp_path / "bat.flac", sound, SAMPLE_RATE)
    row = {"path": str(tmp_path / "bat.flac"), "filename": "bat.flac", "entry": "", "frames": 64, "seconds": 1.0}
    metadata = pd.DataFrame([row | {"labels": ("a",), "time_expansion": 10.0}])
    windows = WaveformDataset(metadata, make_windows(metadata, PROCESS), LABELS, PROCESS)[at(0, 1)].windows
    expected = read_audio(tmp_path / "bat.flac", SAMPLE_RATE, time_expansion=10.0)
    assert len(expected) == SAMPLE_RATE
    np.testing.assert_allclose(windows.reshape(-1), expected, atol=2e-6)


def test_a_short_recording_is_repeated(dataset):
    short, _ = sf.read(dataset.paths[1], dtype="float32")
    window = dataset[at(4)].windows[0].numpy()
    np.testing.assert_array_equal(window, np.concatenate([short, short])[:8000])


def test_no_window_reaches_beyond_max_recording_s(dataset, tmp_path):
    process = DataProcess(sample_rate=32_000, hop_length=500, max_length_s=0.5, max_recording_s=0.6)
    metadata = pd.DataFrame(
        [{"path": dataset.paths[0], "filename": "0.flac", "entry": "", "frames": 38, "seconds": 2.0, "labels": ("a",)}]
    )
    windows = pd.DataFrame({"recording": [0, 0], "first_frame": [0, 6], "n_frames": [32, 32]})
    first, last = WaveformDataset(metadata, windows, LABELS, process)[at(0, 1)].windows.numpy()
    whole, _ = sf.read(dataset.paths[0], dtype="float32")
    np.testing.assert_array_equal(first, whole[:8000])
    np.testing.assert_array_equal(last, whole[round(0.6 * SAMPLE_RATE) - 8000 : round(0.6 * SAMPLE_RATE)])


def test_no_workers_give_the_same_as_two(dataset):
    order = EpochBatches(len(dataset), 3, seed=3, shuffle=True)
    none, two = (list(Loader(dataset, order, num_workers=n, pin_memory=False)) for n in (0, 2))
    for one, other in zip(none, two, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_window_is_read_by_seeking(dataset, monkeypatch):
    decoded, fill = [], Decoder.fill
    monkeypatch.setattr(Decoder, "fill", lambda self, out: decoded.append(len(out)) or fill(self, out))
    assert dataset[at(3)].windows.shape == (1, 8000)
    assert decoded == [8000]  # of 32,000


@pytest.mark.parametrize("what", ["gone", "shorter"])
def test_a_recording_that_changed_during_the_run_is_named(dataset, what):
    path = dataset.paths[0]
    sf.write(path, np.ones(100) * 0.1, SAMPLE_RATE)
    if what == "gone":
        import os

        os.remove(path)
    with pytest.raises(DataError, match=rf"{path}: .*restore it"):
        dataset[at(3)]


def test_the_input_has_no_mean_and_no_gain():
    time = torch.arange(8000) / SAMPLE_RATE
    song = torch.sin(2 * math.pi * 3000 * time)
    waveforms, _ = WaveformTransform()(batch_of(torch.stack([song, 0.001 * song + 0.3, torch.zeros(8000)])))
    assert waveforms.mean(dim=1).abs().max() < 1e-4
    torch.testing.assert_close(waveforms[1], waveforms[0], atol=1e-3, rtol=0)
    assert waveforms[0].std() == pytest.approx(1, abs=1e-3)
    assert torch.equal(waveforms[2], torch.zeros(8000))


def test_changes_follow_from_the_place_alone_and_are_for_training_only():
    augmenter = waveform_augmenter(Augmentation(), PROCESS, seed=1)
    transform = WaveformTransform(augmenter)
    batch = batch_of(torch.randn(3, window_samples(PROCESS)))
    assert torch.equal(transform(batch, (1, 2, 0))[0], transform(batch, (1, 2, 0))[0])
    assert not torch.equal(transform(batch, (1, 2, 0))[0], transform(batch, (1, 3, 0))[0])
    assert torch.equal(transform(batch)[0], WaveformTransform()(batch)[0])


def test_switched_off_nothing_changes():
    transform = WaveformTransform(waveform_augmenter(Augmentation(data_augmentation=False), PROCESS, seed=1))
    batch = batch_of(torch.randn(3, 100))
    assert torch.equal(transform(batch, (1, 2, 0))[0], transform(batch)[0])


def test_noise_is_as_strong_as_asked():
    augmenter = waveform_augmenter(Augmentation(augment_spec_augment=False, noise_max_deviation=0.5), PROCESS, seed=1)
    deviations = augmenter(torch.zeros(500, 1, 400), (1, 0, 0)).std(dim=2)
    assert deviations.max() < 0.55
    assert deviations.mean() == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("standardize", ["per_frequency", "none"])  # of spectrograms; a waveform always is
def test_hidden_stretches_of_time_are_silent_and_as_long_as_asked(standardize):
    settings = Augmentation(augment_add_noise=False, time_masks=1, time_mask_max_s=0.1)
    augmenter = waveform_augmenter(settings, replace(PROCESS, standardize=standardize), seed=1)
    hidden = (augmenter(torch.ones(300, 1, 8000), (1, 0, 0)) == 0)[:, 0]
    length = hidden.sum(dim=1)
    assert 1500 < length.max() <= 1600  # 0.1 s
    assert length.float().mean() == pytest.approx(800, abs=80)
    assert (hidden[:, 1:] != hidden[:, :-1]).sum(dim=1).max() <= 2  # in one piece


def test_a_random_crop_of_a_short_recording_goes_on_with_its_beginning(dataset):
    short, _ = sf.read(dataset.paths[1], dtype="float32")
    window = dataset[[(4, 0.5)]].windows[0].numpy()
    first = 9 * 250  # half of its 19 frames, 250 samples each
    np.testing.assert_array_equal(window[: len(short)], np.roll(short, -first))


def test_mixup_of_waveforms_mixes_their_labels():
    transform = WaveformTransform(mixer=Mixer(Mixing(mixup_p=1.0, mixup_alpha=1e6), seed=1))
    batch = batch_of(torch.randn(2, 100))._replace(targets=torch.eye(2))
    plain, _ = transform(batch)
    mixed, targets = transform(batch, (1, 0, 0))
    assert torch.equal(targets, torch.ones(2, 2))
    torch.testing.assert_close(mixed[0], plain.mean(dim=0), atol=0.02, rtol=0)


def test_labels_mean_in_training_what_the_rules_set(tmp_path):
    row = {"path": str(tmp_path / "x.wav"), "filename": "x.wav", "entry": "", "frames": 64, "seconds": 1.0}
    metadata = pd.DataFrame([row | {"labels": ("a",), "secondary_labels": ("b",)}])
    windows = make_windows(metadata, DataProcess())
    scored, trained = (
        WaveformDataset(metadata, windows, LABELS, DataProcess(), rules).targets.tolist()
        for rules in (None, Labels(secondary="mask"))
    )
    assert (scored, trained) == ([[1, 0]], [[1, -1]])


def test_waveforms_are_changed_before_they_are_mixed():
    batch, step_key = batch_of(torch.randn(8, 8000))._replace(targets=torch.eye(8)), (1, 0, 0)
    augmenter = waveform_augmenter(Augmentation(augment_add_noise=False), PROCESS, 1)
    mixer = Mixer(Mixing(mixup_p=1.0), 1)
    changed = augmenter(WaveformTransform()(batch)[0][:, None], step_key)
    expected, _ = mixer.images(changed, batch.targets, step_key)
    assert torch.equal(WaveformTransform(augmenter, mixer)(batch, step_key)[0], expected[:, 0])
