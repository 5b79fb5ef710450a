"""Is the power in mel bands that of numpy's transform in double precision, and each frame's the same in any company?"""

import errno
from dataclasses import replace

import numba
import numpy as np
import pytest

from dataloader.cache import mel_power as module
from dataloader.cache.mel_power import LANES, AnyMelPower, MelPower, mel_power
from dataloader.cache.spectrogram import mel_filterbank
from utils.settings import DataProcess

PROCESS = DataProcess(floor_db=-200.0)
SIZES = [16, 32, 512, 1024, 2048, 4096]  # an odd and an even number of factors two, so with and without a last pass


def computed(kind, process, samples, first, n_frames):
    out = np.full((n_frames, process.n_mels), np.nan, np.float32)
    kind(process, mel_filterbank(process).astype(np.float32))(samples, first, out)
    return out


def noise(samples, seed=0):
    return (np.random.default_rng(seed).standard_normal(samples) * 0.1).astype(np.float32)


@pytest.mark.filterwarnings("ignore:Empty filters")
@pytest.mark.parametrize("kind", [MelPower, AnyMelPower])
@pytest.mark.parametrize("n_fft", SIZES)
def test_it_is_the_power_of_numpys_transform_in_double_precision(kind, n_fft):
    process = replace(PROCESS, n_fft=n_fft, hop_length=min(n_fft, 500))
    samples = noise(7 + 50 * process.hop_length + n_fft)
    frames = np.lib.stride_tricks.sliding_window_view(samples[7:], n_fft)[:: process.hop_length][:50].astype(float)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)  # Hann, periodic
    expected = np.abs(np.fft.rfft(frames * window)) ** 2 @ mel_filterbank(process).T
    ours = computed(kind, process, samples, 7, 50)
    np.testing.assert_allclose(10 * np.log10(ours), 10 * np.log10(np.maximum(expected, 1e-20)), atol=1e-3)  # dB


@pytest.mark.parametrize(("kind", "n_fft"), [(MelPower, 1024), (MelPower, 512), (AnyMelPower, 1000)])
def test_a_frame_is_the_same_to_the_bit_whatever_frames_are_beside_it(kind, n_fft):
    n_frames = 4 * LANES + 3
    process = replace(PROCESS, n_fft=n_fft, hop_length=min(500, n_fft))
    samples = noise(n_frames * process.hop_length + n_fft)
    together = computed(kind, process, samples, 0, n_frames)
    for first, n in [(0, 1), (1, LANES - 1), (5, LANES), (7, LANES + 1), (n_frames - 1, 1)]:
        alone = computed(kind, process, samples, first * process.hop_length, n)
        np.testing.assert_array_equal(alone, together[first : first + n])


def test_nothing_is_below_the_floor():
    process = replace(PROCESS, floor_db=-60.0)
    for kind in (MelPower, AnyMelPower):
        assert (computed(kind, process, np.zeros(5000, np.float32), 0, 4) == np.float32(1e-6)).all()


def test_the_settings_choose_which():
    filters = mel_filterbank(PROCESS).astype(np.float32)
    assert isinstance(mel_power(PROCESS, filters), MelPower)
    assert isinstance(mel_power(replace(PROCESS, n_fft=1023), filters[:, :512]), AnyMelPower)


def test_memory_beyond_the_samples_is_not_read():
    for first, n_frames in [(0, 2), (-1, 1), (1, 1)]:
        with pytest.raises(ValueError, match=r"frames from -?\d+ on end at \d+, and there are 1024 samples"):
            computed(MelPower, PROCESS, noise(1024), first, n_frames)
    computed(MelPower, PROCESS, noise(1024), 5, 0)  # nothing is asked for


def test_where_no_compiled_code_can_be_kept_it_is_compiled_all_the_same(monkeypatch):
    njit = numba.njit

    def nowhere(**options):
        if options.pop("cache", False):
            raise RuntimeError("cannot cache function: no locator available")
        return njit(**options)

    monkeypatch.setattr(numba, "njit", nowhere)
    assert module._kept(lambda number: number + 1)(1) == 2


def fill(numbers):
    numbers[:] = 7.0


@pytest.mark.parametrize("left", [b"", b"half a file"])
@pytest.mark.parametrize("kind", ["*.nbi", "*.nbc"])
def test_kept_code_that_a_power_cut_has_damaged_is_made_again(monkeypatch, tmp_path, kind, left):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    module._kept(fill)(np.zeros(3))
    damaged = list(tmp_path.rglob(kind))
    assert damaged
    for path in damaged:
        path.write_bytes(left)
    numbers = np.zeros(3)
    module._kept(fill)(numbers)
    assert (numbers == 7.0).all()
    assert all(path.read_bytes() != left for path in damaged)


def test_a_disk_too_full_for_the_compiled_code_does_not_stop_the_work(monkeypatch, tmp_path):
    def full(self, name, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("numba.core.caching.IndexDataCacheFile._save_data", full)
    numbers = np.zeros(3)
    module._kept(fill)(numbers)
    assert (numbers == 7.0).all()
