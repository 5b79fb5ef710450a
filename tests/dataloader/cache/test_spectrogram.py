"""Is the spectrogram librosa's, in pieces as at once, and standardised as the design says?"""

from dataclasses import replace

import librosa
import numpy as np
import pytest
import torch

from dataloader.batches.power import to_db, to_power
from dataloader.cache.spectrogram import (
    BandStatistics,
    MelSpectrogram,
    move_statistics,
    standardise,
    standardise_windows,
)
from utils.settings import DataProcess

PROCESS = DataProcess()
SETTINGS = [
    PROCESS,
    replace(PROCESS, sample_rate=8000, f_max=4000.0, hop_length=125, n_fft=256, n_mels=40),
    replace(PROCESS, n_fft=2048, hop_length=333, f_min=0.0, n_mels=64),
    replace(PROCESS, n_fft=1023, hop_length=511),
]


def noise(samples=40_000, seed=1):
    return (np.random.default_rng(seed).normal(size=samples) * 0.1).astype(np.float32)


def db(frames=200, n_mels=12, seed=2):
    return np.random.default_rng(seed).normal(-50, 10, (n_mels, frames)).astype(np.float32)


@pytest.mark.parametrize("samples", [40_000, 3_000, 1_100, 600])
@pytest.mark.parametrize("process", SETTINGS, ids=range(len(SETTINGS)))
def test_it_is_the_mel_spectrogram_of_librosa_in_decibels(process, samples):
    wave = noise(samples)
    theirs = librosa.feature.melspectrogram(
        y=wave, sr=process.sample_rate, n_fft=process.n_fft, hop_length=process.hop_length, n_mels=process.n_mels,
        fmin=process.f_min, fmax=process.f_max,
    )  # fmt: skip
    ours = MelSpectrogram(process).db(wave)
    assert ours.shape == (process.n_mels, samples // process.hop_length)
    theirs = np.maximum(10 * np.log10(np.maximum(theirs, 1e-30)), process.floor_db)[:, : ours.shape[1]]
    np.testing.assert_allclose(ours, theirs, atol=2e-3)  # dB, in float32
    assert ours.dtype == np.float32
    assert ours.flags.f_contiguous


@pytest.mark.parametrize("block", [1, 100, 499, 777, 5_000, 32_000])
def test_blocks_of_any_size_equal_the_complete_spectrogram_to_the_bit(block):
    wave = noise(3_000 if block == 1 else 40_123)
    mel = MelSpectrogram(PROCESS)
    blocks = list(mel.blocks(wave[start : start + block] for start in range(0, len(wave), block)))
    np.testing.assert_array_equal(np.concatenate(blocks).T, mel.db(wave))


def test_silence_is_at_the_floor_and_a_waveform_of_two_channels_is_refused():
    assert (MelSpectrogram(PROCESS).db(np.zeros(5_000, np.float32)) == PROCESS.floor_db).all()
    with pytest.raises(ValueError, match=r"expected a waveform \(samples,\), got shape \(2, 10\)"):
        MelSpectrogram(PROCESS).db(np.zeros((2, 10), np.float32))


def test_a_louder_recorder_gives_the_same_image():
    quiet = db()
    loud = quiet + 12.0  # dB of gain
    np.testing.assert_allclose(standardise(loud, PROCESS), standardise(quiet, PROCESS), atol=1e-5)


def test_every_band_has_zero_mean_and_unit_variance():
    image = standardise(db(), PROCESS)
    np.testing.assert_allclose(image.mean(axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(image.std(axis=1), 1, atol=1e-5)


def test_a_band_that_never_changes_comes_back_as_zeros():
    steady = db()
    steady[3] = -70.0
    assert (standardise(steady, PROCESS)[3] == 0).all()


def test_a_band_of_codec_noise_is_not_blown_up():
    flat = db()
    flat[5] = np.random.default_rng(0).normal(-90, 1.0, flat.shape[1])
    assert standardise(flat, PROCESS)[5].std() == pytest.approx(1.0 / PROCESS.min_deviation_db, rel=0.1)


def test_per_clip_has_one_mean_and_one_deviation_and_none_leaves_decibels():
    clip = db() + np.arange(12, dtype=np.float32)[:, None]
    image = standardise(clip, replace(PROCESS, standardize="per_clip"))
    np.testing.assert_allclose(image, (clip - clip.mean()) / clip.std(), atol=1e-4)
    np.testing.assert_array_equal(standardise(clip, replace(PROCESS, standardize="none")), clip)


@pytest.mark.parametrize("standardize", ["per_frequency", "per_clip", "none"])
def test_a_cached_window_standardised_again_equals_the_decibels_standardised(standardize):
    process = replace(PROCESS, standardize=standardize)
    whole = db(frames=400)
    whole[4] = np.random.default_rng(0).normal(-90, 0.5, 400)
    statistics = BandStatistics()
    statistics.add(whole.T)
    mean, scale = statistics.mean_and_scale(process)
    cached = torch.from_numpy(((whole - mean[:, None]) / scale[:, None])[None, :, 100:180])
    again = standardise_windows(cached, torch.from_numpy(scale)[None], process)[0].numpy()
    np.testing.assert_allclose(again, standardise(whole[:, 100:180], process), atol=1e-4)


def batch_statistics(whole, process):
    statistics = BandStatistics()
    statistics.add(whole.T)
    return (torch.from_numpy(values)[None, :, None] for values in statistics.mean_and_scale(process))


@pytest.mark.parametrize("standardize", ["per_frequency", "per_clip", "none"])
def test_a_change_to_a_window_moves_statistics_as_if_all_of_the_recording_were_changed(standardize):
    process = replace(PROCESS, standardize=standardize)
    whole = db(frames=400)
    hiss = torch.from_numpy(np.random.default_rng(1).gamma(8, 10**-4.5 / 8, whole.shape))  # -45 dB
    changed = to_db(to_power(torch.from_numpy(whole), -100.0) + hiss, -100.0).float()
    before, after = torch.from_numpy(whole)[None, :, :200], changed[None, :, :200]
    mean, scale = move_statistics(*batch_statistics(whole, process), before, after, process)
    expected = batch_statistics(changed.numpy(), process)
    for got, wanted in zip((mean, scale), expected, strict=True):
        torch.testing.assert_close(got.expand_as(wanted), wanted, atol=1.0, rtol=0)  # dB; half was seen


@pytest.mark.parametrize("standardize", ["per_frequency", "per_clip", "none"])
def test_a_window_that_did_not_change_moves_no_statistics(standardize):
    process = replace(PROCESS, standardize=standardize)
    mean, scale = batch_statistics(db(frames=400), process)
    window = torch.from_numpy(db(frames=400))[None, :, :80]
    moved = move_statistics(mean, scale, window, window, process)
    for got, wanted in zip(moved, (mean, scale), strict=True):
        torch.testing.assert_close(got, wanted)


def test_statistics_gathered_in_blocks_are_those_of_the_complete_spectrogram():
    frames = db(frames=1000).T
    statistics = BandStatistics()
    for start in range(0, 1000, 130):
        statistics.add(frames[start : start + 130])
    statistics.add(frames[:0])
    mean, scale = statistics.mean_and_scale(PROCESS)
    np.testing.assert_allclose(mean, frames.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(scale, frames.std(axis=0), rtol=1e-5)


@pytest.mark.parametrize("bad", [np.zeros(5), np.zeros((3, 1)), np.full((3, 5), np.nan)])
def test_ill_formed_spectrograms_are_refused(bad):
    with pytest.raises(ValueError, match=r"expected|finite"):
        standardise(bad, PROCESS)
