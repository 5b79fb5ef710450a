"""Is every kind of healthy recording decoded completely, all of it, in blocks and by span?"""

import itertools
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import soxr

from dataloader.audio.decoder import AudioInfo, Decoder
from dataloader.audio.decoding import AudioStream, audio_info, read_audio, resampled_length
from tests.dataloader.audio.conftest import (
    FORMATS,
    RATE,
    damaged,
    kind_of,
    problem_of,
    rate_of,
    song,
    whole_or_reason,
    write,
)


@pytest.fixture(scope="module", params=FORMATS)
def healthy(request, tmp_path_factory) -> Path:
    """Five seconds of each format; not to be changed."""
    return write(tmp_path_factory.mktemp("healthy") / f"song.{request.param}", song(5, rate_of(request.param)))


# What comes in


def test_the_header_is_read(healthy):
    rate = rate_of(kind_of(healthy))
    assert audio_info(healthy) == AudioInfo(sample_rate=rate, channels=1, frames=5 * rate)


def test_a_recording_at_its_own_rate_is_what_the_decoder_gives(healthy):
    rate = rate_of(kind_of(healthy))
    expected, _ = sf.read(healthy, dtype="float32")
    waveform = read_audio(healthy, rate)
    assert waveform.dtype == np.float32
    np.testing.assert_array_equal(waveform, expected)


@pytest.mark.parametrize("block_s", [0.05, 1.0, 1.7, 5.0, 9.0])
@pytest.mark.parametrize("sample_rate", [32_000, 22_050])
def test_the_joined_blocks_are_the_recording_bit_for_bit(healthy, block_s, sample_rate):
    blocks = list(AudioStream(healthy, sample_rate, block_s))
    assert {len(block) for block in blocks[:-1]} <= {round(block_s * sample_rate)}
    assert 0 < len(blocks[-1]) <= round(block_s * sample_rate)
    np.testing.assert_array_equal(np.concatenate(blocks), read_audio(healthy, sample_rate))


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("seconds", [3.0, 0.2, 9.01])
def test_another_rate_is_resampled_as_at_once(tmp_path, rate, seconds):
    sound = song(seconds, rate)
    path = write(tmp_path / "song.float.wav", sound, rate)
    waveform = read_audio(path, RATE)
    np.testing.assert_array_equal(waveform, soxr.resample(sound, rate, RATE))
    assert len(waveform) == resampled_length(len(sound), rate, RATE)


@pytest.mark.parametrize(
    "rates", [(8_000, 32_000), (44_100, 32_000), (48_000, 24_000), (44_100, 22_050), (96_000, 32_000)]
)
def test_the_length_after_resampling_is_known_before(rates):
    for frames in [*range(1, 50), 12_345, 100_001]:
        assert len(soxr.resample(np.zeros(frames, np.float32), *rates)) == resampled_length(frames, *rates)


@pytest.mark.parametrize("channels", [2, 5])
@pytest.mark.parametrize("sample_rate", [RATE, 16_000])
def test_channels_are_averaged(tmp_path, channels, sample_rate):
    sound = song(6, channels=channels)
    path = write(tmp_path / "song.float.wav", sound)
    expected = sound.mean(axis=1)
    if sample_rate != RATE:
        expected = soxr.resample(expected, RATE, sample_rate)
    np.testing.assert_allclose(read_audio(path, sample_rate), expected, atol=1e-6)


@pytest.mark.parametrize("frames", [1, 2, 100, 1151, 1152, 1153, 6400])
def test_the_shortest_recordings_are_read_completely(tmp_path, frames):
    for kind in FORMATS:
        rate = rate_of(kind)
        path = write(tmp_path / f"short.{kind}", song(1, rate)[:frames] + np.float32(0.1))
        blocks = AudioStream(path, rate, 5.0, strict=False)  # a single sample is a constant, which strict calls silent
        assert len(np.concatenate(list(blocks))) == frames, kind
        assert len(read_audio(path, rate, start_s=0.0, duration_s=1.0)) == frames, kind


def test_every_block_is_an_array_of_its_own(ogg):
    blocks = list(AudioStream(ogg, RATE, 1.0))
    assert not any(np.shares_memory(one, other) for one, other in itertools.pairwise(blocks))


@pytest.mark.parametrize("sample_rate", [RATE, 22_050])
@pytest.mark.parametrize("max_s", [0.5, 2.0, 3.3, 100.0])
def test_a_limit_gives_the_beginning_of_the_recording(ogg, sample_rate, max_s):
    limited = np.concatenate(list(AudioStream(ogg, sample_rate, 1.0, max_s=max_s)))
    np.testing.assert_array_equal(limited, read_audio(ogg, sample_rate)[: round(max_s * sample_rate)])


# Spans


@pytest.mark.parametrize("sample_rate", [8_000, 22_050, 32_000, 44_100, 48_000])
def test_a_span_equals_the_same_span_of_the_complete_recording(healthy, sample_rate):
    whole = read_audio(healthy, sample_rate)
    exact = sample_rate == rate_of(kind_of(healthy)) and kind_of(healthy) != "mp3"
    for start_s, duration_s in [
        (0.0, 1.0),
        (0.01, 0.5),
        (1.2345, 2.0),
        (4.5, 0.5),
        (4.5, 3.0),
        (2.0, None),
        (4.999, None),
    ]:
        span = read_audio(healthy, sample_rate, start_s=start_s, duration_s=duration_s)
        first = round(start_s * sample_rate)
        expected = whole[first:] if duration_s is None else whole[first : first + round(duration_s * sample_rate)]
        np.testing.assert_allclose(span, expected, rtol=0, atol=0 if exact else 2e-6)


@pytest.mark.parametrize("rate", [8_000, 44_099, 96_000, 384_000])
def test_a_span_of_an_uncommon_rate_shows_no_edges(tmp_path, rate):
    path = write(tmp_path / "song.float.wav", song(4, rate), rate)
    whole = read_audio(path, RATE)
    span = read_audio(path, RATE, start_s=1.3, duration_s=1.0)
    np.testing.assert_allclose(span, whole[round(1.3 * RATE) :][:RATE], rtol=0, atol=2e-6)


def test_a_span_of_an_mp3_has_the_past_its_decoder_needs(tmp_path):
    rate = 16_000
    sound = song(5, rate)
    sound[np.arange(len(sound)) // (rate // 3) % 2 == 0] *= 1e-3  # a call's onset borrows bits from the frames before
    path = write(tmp_path / "song.mp3", sound, rate)
    whole = read_audio(path, rate)
    for start in range(13_000, 70_000, 305):
        span = read_audio(path, rate, start_s=start / rate, duration_s=0.1)
        np.testing.assert_allclose(span, whole[start : start + rate // 10], rtol=0, atol=1e-6)


@pytest.mark.parametrize("sample_rate", [RATE, 16_000])
def test_no_more_is_decoded_than_the_span_and_its_margins(tmp_path, sample_rate, monkeypatch):
    path, decoded, fill = write(tmp_path / "song.flac", song(20)), [], Decoder.fill
    monkeypatch.setattr(Decoder, "fill", lambda self, out: decoded.append(len(out)) or fill(self, out))
    assert len(read_audio(path, sample_rate, start_s=15.0, duration_s=1.0)) == sample_rate
    assert RATE <= sum(decoded) < 1.5 * RATE


def test_a_span_beyond_the_end_is_empty(healthy):
    assert read_audio(healthy, RATE, start_s=7.0, duration_s=1.0).shape == (0,)
    assert read_audio(healthy, RATE, start_s=1.0, duration_s=0.0).shape == (0,)


def test_a_silent_span_is_no_fault(tmp_path):
    sound = song(3)
    sound[RATE : 2 * RATE] = 0.0
    path = write(tmp_path / "song.wav", sound)
    assert not read_audio(path, RATE, start_s=1.0, duration_s=1.0).any()


@pytest.mark.parametrize("times", [{"start_s": -1.0}, {"duration_s": -1.0}])
def test_a_negative_time_is_refused(healthy, times):
    with pytest.raises(ValueError, match="at least 0 s"):
        read_audio(healthy, RATE, **times)


# No healthy file is called bad


def test_nothing_is_wrong_with_a_healthy_recording(healthy):
    assert whole_or_reason(healthy) is None
    assert problem_of(healthy, rate_of(kind_of(healthy))) is None
    assert problem_of(healthy, 16_000) is None


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_an_mp3_of_any_length_is_healthy(tmp_path, rate, channels):
    sound = song(1.5, rate, channels)
    for frames in [40, 575, 576, 577, 1153, 2305, 5_000, rate, rate + 1, len(sound)]:
        path = write(tmp_path / "song.mp3", sound[:frames], rate)
        assert problem_of(path, rate) is None
        assert len(read_audio(path, rate)) == frames


def test_tags_around_the_sound_are_no_damage(healthy, tmp_path):
    tag = b"TAG" + bytes(125)  # ID3v1, which taggers put behind anything
    tagged = damaged(healthy, tmp_path, healthy.read_bytes() + tag)
    rate = rate_of(kind_of(healthy))
    assert problem_of(tagged, rate) is None
    np.testing.assert_array_equal(np.concatenate(list(AudioStream(tagged, rate, 1.7))), read_audio(healthy, rate))


def test_an_mp3_of_constant_rate_without_a_header_of_its_own_is_read(tmp_path):
    path = tmp_path / "song.mp3"
    sf.write(path, song(5), RATE, "MPEG_LAYER_III", format="MP3", bitrate_mode="CONSTANT", compression_level=0.5)
    content = path.read_bytes()
    second = content.index(content[:2], content.index(b"LAME"))  # the first frame is the header and holds no sound
    bare = damaged(path, tmp_path, content[second:])
    assert audio_info(bare).frames >= 5 * RATE
    assert problem_of(bare) is None


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFF000, 0x80000000])
def test_a_wav_written_to_a_pipe_promises_no_length_and_is_healthy(tmp_path, size):
    path = write(tmp_path / "song.wav", song(3))
    content = bytearray(path.read_bytes())
    content[40:44] = struct.pack("<I", size)
    piped = damaged(path, tmp_path, content)
    assert problem_of(piped) is None
    assert len(read_audio(piped, RATE)) == 3 * RATE


@pytest.mark.parametrize("options", [{"format": "RF64"}, {"format": "WAV", "endian": "BIG"}, {"format": "WAVEX"}])
def test_the_other_kinds_of_wav_are_understood(tmp_path, options):
    path = tmp_path / "song.wav"
    sf.write(path, song(2), RATE, "PCM_16", **options)
    assert problem_of(path) is None
    content = path.read_bytes()
    assert whole_or_reason(damaged(path, tmp_path, content[:-1000])).reason == "truncated"


def test_a_flac_that_does_not_state_its_length_is_read(tmp_path):
    path = write(tmp_path / "song.flac", song(3))
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0  # STREAMINFO: 36 bits of total samples; 0: unknown
    content[22:26] = bytes(4)
    unknown = damaged(path, tmp_path, content)
    assert audio_info(unknown).frames == 3 * RATE  # by its last frame
    assert problem_of(unknown) is None
    assert len(read_audio(unknown, RATE)) == 3 * RATE
    assert len(read_audio(unknown, RATE, start_s=1.0, duration_s=1.0)) == RATE


def test_a_name_that_is_not_utf_8_opens(tmp_path):
    name = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav")
    try:
        write(tmp_path / "song.wav", song(1)).rename(name)
    except (OSError, UnicodeError):
        pytest.skip("this file system takes no such name")
    assert len(read_audio(name, RATE)) == RATE


def test_all_real_recordings_are_complete():
    birds = Path(os.environ.get("BIRDS_DIR", Path(__file__).parents[4] / "shared" / "birds"))
    recordings = sorted(birds.rglob("*.ogg"))
    if not recordings:
        pytest.skip("no real recordings: set BIRDS_DIR to a folder that holds some")
    assert [(path.name, str(found)) for path in recordings if (found := whole_or_reason(path))] == []
    for path in recordings[:: max(1, len(recordings) // 5)]:
        assert problem_of(path, max_s=60.0) is None
