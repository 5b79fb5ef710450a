"""Does every kind of recording come in whole, and is every damage reported, with real files made here?"""

import itertools
import math
import os
import pickle
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import soxr

from dataloader.audio import endings
from dataloader.audio.containers import examine
from dataloader.audio.decoder import AudioInfo, Decoder
from dataloader.audio.decoding import AudioStream, BadRecording, audio_info, read_audio, resampled_length
from dataloader.audio.errors import REASONS

RATE = 32_000
FORMATS = {
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "flac": ("FLAC", "PCM_16"),
    "wav": ("WAV", "PCM_16"),
    "float.wav": ("WAV", "FLOAT"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}
OGG_PAGE = b"OggS"
READERS = (
    audio_info,
    lambda path: read_audio(path, RATE),
    lambda path: read_audio(path, RATE, start_s=1.0, strict=False),
    lambda path: AudioStream(path, RATE, 1.0, strict=False),
)


def whole_or_reason(path):
    """What the bytes of a file show to be wrong with it, without decoding; None if nothing."""
    try:
        fault = examine(path).fault
    except BadRecording as bad:
        return bad
    return BadRecording(*fault) if fault else None


def kind_of(path: Path) -> str:
    return path.name.split(".", 1)[1]


def rate_of(kind: str) -> int:
    return 48_000 if kind == "opus" else RATE  # Opus knows few rates


def song(seconds: float, rate: int = RATE, channels: int = 1) -> np.ndarray:
    """A warbling tone in noise, ``(samples,)`` or ``(samples, channels)``."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(0).standard_normal((len(time), channels))
    sound = 0.3 * np.sin(2 * np.pi * (1000 + 100 * np.sin(5 * time)) * time)[:, None] + 0.05 * noise
    return sound.astype(np.float32).squeeze(axis=1) if channels == 1 else sound.astype(np.float32)


def write(path: Path, sound: np.ndarray, rate: int | None = None) -> Path:
    """Write in blocks of a second: libsndfile crashes on long writes of Vorbis."""
    rate = rate or rate_of(kind_of(path))
    container, coding = FORMATS[kind_of(path)]
    channels = 1 if sound.ndim == 1 else sound.shape[1]
    with sf.SoundFile(path, "w", rate, channels, coding, format=container) as file:
        for start in range(0, len(sound), rate):
            file.write(sound[start : start + rate])
    return path


@pytest.fixture(scope="module", params=FORMATS)
def healthy(request, tmp_path_factory) -> Path:
    """Five seconds of each format; not to be changed."""
    return write(tmp_path_factory.mktemp("healthy") / f"song.{request.param}", song(5, rate_of(request.param)))


@pytest.fixture(scope="module")
def ogg(tmp_path_factory) -> Path:
    """Twelve seconds of Vorbis; not to be changed."""
    return write(tmp_path_factory.mktemp("ogg") / "song.ogg", song(12))


def damaged(path: Path, folder: Path, content: bytes) -> Path:
    bad = folder / path.name
    bad.write_bytes(content)
    return bad


def problem_of(path: Path, sample_rate: int = RATE, **options) -> BadRecording | None:
    """What a lenient reader finds; the strict one must raise the same."""
    stream = AudioStream(path, sample_rate, 1.0, strict=False, **options)
    list(stream)
    if stream.problem is None:
        list(AudioStream(path, sample_rate, 1.0, **options))
    else:
        with pytest.raises(BadRecording, match=stream.problem.reason):
            list(AudioStream(path, sample_rate, 1.0, **options))
    return stream.problem


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
def test_the_blocks_joined_are_the_whole_bit_for_bit(healthy, block_s, sample_rate):
    blocks = list(AudioStream(healthy, sample_rate, block_s))
    assert {len(block) for block in blocks[:-1]} <= {round(block_s * sample_rate)}
    assert 0 < len(blocks[-1]) <= round(block_s * sample_rate)
    np.testing.assert_array_equal(np.concatenate(blocks), read_audio(healthy, sample_rate))


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("seconds", [3.0, 0.2, 9.01])
def test_another_rate_is_resampled_as_the_whole_would_be(tmp_path, rate, seconds):
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
def test_the_shortest_recordings_come_in_whole(tmp_path, frames):
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
def test_a_limit_gives_the_beginning_of_the_whole(ogg, sample_rate, max_s):
    limited = np.concatenate(list(AudioStream(ogg, sample_rate, 1.0, max_s=max_s)))
    np.testing.assert_array_equal(limited, read_audio(ogg, sample_rate)[: round(max_s * sample_rate)])


# Spans


@pytest.mark.parametrize("sample_rate", [8_000, 22_050, 32_000, 44_100, 48_000])
def test_a_span_is_what_the_same_span_of_the_whole_is(healthy, sample_rate):
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


def test_a_flac_that_does_not_say_its_length_is_read(tmp_path):
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


def test_all_real_recordings_are_whole():
    birds = Path(os.environ.get("BIRDS_DIR", Path(__file__).parents[4] / "shared" / "birds"))
    recordings = sorted(birds.rglob("*.ogg"))
    if not recordings:
        pytest.skip("no real recordings: set BIRDS_DIR to a folder that holds some")
    assert [(path.name, str(found)) for path in recordings if (found := whole_or_reason(path))] == []
    for path in recordings[:: max(1, len(recordings) // 5)]:
        assert problem_of(path, max_s=60.0) is None


# Every damage is reported


@pytest.mark.parametrize("kind", ["ogg", "opus"])
@pytest.mark.parametrize("channels", [1, 2])
def test_every_truncation_of_an_ogg_is_reported(tmp_path, kind, channels):
    path = write(tmp_path / f"song.{kind}", song(5, rate_of(kind), channels), rate_of(kind))
    content = path.read_bytes()
    pages = [at for at in range(len(content)) if content.startswith(OGG_PAGE, at)]
    random = np.random.default_rng(1).integers(5, len(content), 20).tolist()
    around_pages = [page + by for page in pages[1:] for by in (-1, 0, 1, 4, 26, 27, 28)]
    for length in [*random, *around_pages, len(content) - 1]:
        found = whole_or_reason(damaged(path, tmp_path, content[:length]))
        assert found is not None, length
        assert found.reason == "truncated"


def test_a_truncated_wav_is_reported(tmp_path):
    for kind in ("wav", "float.wav"):
        path = write(tmp_path / f"song.{kind}", song(2))
        content = path.read_bytes()
        for length in [20, 43, 60, 100, *np.random.default_rng(2).integers(100, len(content) - 2000, 10)]:
            assert whole_or_reason(damaged(path, tmp_path, content[:length])).reason == "truncated", length


@pytest.mark.parametrize("endian", ["LITTLE", "BIG"])
@pytest.mark.parametrize("counted_s", [0.0, 0.1, 2.0])
@pytest.mark.parametrize("riff", [0, 36, None, 0xFFFFFFFF])
def test_samples_that_the_header_does_not_count_are_reported(tmp_path, endian, counted_s, riff):
    """As of a recorder that lost its power after it had brought its header up to date, or before it ever did."""
    path, order = tmp_path / "night.wav", {"LITTLE": "<", "BIG": ">"}[endian]
    sf.write(path, song(4), RATE, subtype="PCM_16", endian=endian)
    content = bytearray(path.read_bytes())
    content[4:8] = struct.pack(order + "I", riff if riff is not None else len(content) - 8)
    content[40:44] = struct.pack(order + "I", 2 * round(counted_s * RATE))
    found = whole_or_reason(damaged(path, tmp_path, content))
    assert found.reason == "truncated"
    assert f"{2 * round((4 - counted_s) * RATE):,} bytes of samples are not counted" in str(found)


PICTURE = bytes(range(256)) * 391


def test_a_chunk_behind_an_odd_number_of_bytes_that_are_not_padded_is_no_damage(tmp_path):
    path = tmp_path / "song.wav"
    sf.write(path, song(2)[: 2 * RATE - 1], RATE, subtype="PCM_U8")
    content = path.read_bytes()[: 44 + 2 * RATE - 1]
    assert problem_of(damaged(path, tmp_path, content + b"LIST" + struct.pack("<I", 100_096) + PICTURE)) is None


@pytest.mark.parametrize(
    "behind",
    [
        b"LIST" + struct.pack("<I", 100_096) + PICTURE,
        b"afs\0" + struct.pack("<I", 100_096) + PICTURE,
        b"LIST" + struct.pack("<I", 200_000) + PICTURE,  # cut off
        b"ID3\x04\x00\x00\x00\x06\x0e\x00" + PICTURE,
        b"TAG" + bytes(range(125)),
        bytes(200_000),
        b"\xff" * 200_000,
    ],
)
def test_what_may_stand_behind_the_samples_of_a_wav_is_no_damage(tmp_path, behind):
    path = write(tmp_path / "song.wav", song(2))
    assert problem_of(damaged(path, tmp_path, path.read_bytes() + behind)) is None


@pytest.mark.parametrize("endian", ["LITTLE", "BIG"])
def test_a_wav_whose_size_began_anew_at_4_gib_is_reported(tmp_path, endian):
    path = tmp_path / "night.wav"
    sf.write(path, song(2), RATE, subtype="PCM_16", endian=endian)
    size = path.stat().st_size
    os.truncate(path, size + 2**32 - 1)  # sparse: it takes no room
    assert whole_or_reason(path) is None
    os.truncate(path, size + 2**32)
    lenient = AudioStream(path, RATE, 1.0, strict=False)
    assert sum(map(len, lenient)) == 2 * RATE
    assert lenient.problem.reason == "truncated"
    with pytest.raises(BadRecording, match="truncated: 4,294,967,296 bytes of samples are not counted in its header"):
        read_audio(path, RATE)


@pytest.mark.parametrize("kind", ["flac", "mp3"])
def test_truncation_without_a_mark_at_the_end_is_reported_by_decoding(tmp_path, kind):
    path = write(tmp_path / f"song.{kind}", song(5))
    content = path.read_bytes()
    for share in (0.1, 0.37, 0.5, 0.9, 0.97):
        cut = damaged(path, tmp_path, content[: int(share * len(content))])
        assert problem_of(cut).reason == "truncated", share
        with pytest.raises(BadRecording, match="truncated"):
            read_audio(cut, RATE)


@pytest.mark.parametrize("block_s", [0.1, 1.0, 20.0])
@pytest.mark.parametrize("how", ["cut out", "zeroed"])
def test_a_hole_in_an_ogg_is_reported_whatever_the_block(ogg, tmp_path, block_s, how):
    content = ogg.read_bytes()
    middle = len(content) // 2
    bad = damaged(ogg, tmp_path, content[:middle] + bytes(9000 if how == "zeroed" else 0) + content[middle + 9000 :])
    assert whole_or_reason(bad) is None
    with pytest.raises(BadRecording, match=r"hole: .* of 12\.00 s are missing"):
        list(AudioStream(bad, RATE, block_s))
    lenient = AudioStream(bad, RATE, block_s, strict=False)
    samples = sum(map(len, lenient))
    assert 6 * RATE < samples < 12 * RATE
    assert lenient.problem.reason == "hole"


def test_a_hole_in_an_opus_is_reported(tmp_path):
    path = write(tmp_path / "song.opus", song(5, 48_000), 48_000)
    content = path.read_bytes()
    middle = len(content) // 2
    assert problem_of(damaged(path, tmp_path, content[:middle] + content[middle + 9000 :]), 48_000).reason == "hole"


def test_damage_in_the_middle_of_a_flac_stops_the_decoder_and_not_the_program(tmp_path):
    path = write(tmp_path / "song.flac", song(12))
    whole = read_audio(path, RATE)
    content = path.read_bytes()
    middle = len(content) // 2
    bad = damaged(path, tmp_path, content[:middle] + bytes(5000) + content[middle + 5000 :])
    stream = AudioStream(bad, RATE, 1.0, strict=False)
    decoded = np.concatenate(list(stream))
    assert stream.problem.reason == "truncated"
    assert "failed after" in stream.problem.detail
    assert len(decoded) > 5.5 * RATE
    # The decoder says how far it came, so nothing is lost, whatever the block.
    np.testing.assert_array_equal(decoded, whole[: len(decoded)])
    np.testing.assert_array_equal(decoded, read_audio(bad, RATE, strict=False))


@pytest.mark.parametrize("with_ffmpeg", [True, False])
def test_damage_in_the_middle_of_an_mp3_is_reported_and_the_rest_is_read(tmp_path, monkeypatch, with_ffmpeg):
    monkeypatch.setattr(endings, "HAS_FFMPEG", with_ffmpeg)
    path = tmp_path / "song.mp3"
    sf.write(path, song(12), RATE, "MPEG_LAYER_III", format="MP3", bitrate_mode="CONSTANT", compression_level=0.5)
    whole = read_audio(path, RATE)
    content = path.read_bytes()
    middle = len(content) // 2
    bad = damaged(path, tmp_path, content[:middle] + bytes(5000) + content[middle:])
    found = problem_of(bad)
    assert found.reason == "hole"
    assert re.search(r"5,\d\d\d bytes after (5.9|6.0)\d s are not sound", found.detail)
    decoded = read_audio(bad, RATE, strict=False)
    assert len(decoded) / RATE == pytest.approx(12 if with_ffmpeg else 6, abs=0.15)
    np.testing.assert_allclose(decoded[: 5 * RATE], whole[: 5 * RATE], atol=1e-4)


def test_what_decodes_of_a_truncated_recording_is_given_to_the_lenient(ogg, tmp_path):
    bad = damaged(ogg, tmp_path, ogg.read_bytes()[: ogg.stat().st_size // 2])
    stream = AudioStream(bad, RATE, 1.0, strict=False)
    decoded = np.concatenate(list(stream))
    assert stream.problem.reason == "truncated"
    assert 4 * RATE < len(decoded) < 8 * RATE
    np.testing.assert_array_equal(decoded, read_audio(ogg, RATE)[: len(decoded)])
    np.testing.assert_array_equal(read_audio(bad, RATE, strict=False), decoded)


def test_a_missing_piece_of_a_span_is_reported(tmp_path):
    path = write(tmp_path / "song.flac", song(12))
    bad = damaged(path, tmp_path, path.read_bytes()[: path.stat().st_size // 2])
    assert len(read_audio(bad, RATE, start_s=1.0, duration_s=2.0)) == 2 * RATE
    for start_s in (5.0, 10.0):
        with pytest.raises(BadRecording, match="truncated"):
            read_audio(bad, RATE, start_s=start_s, duration_s=2.0)
    assert len(read_audio(bad, RATE, start_s=5.0, duration_s=2.0, strict=False)) < 2 * RATE


@pytest.mark.parametrize("name", ["talk.ogg", "talk.wav", "talk.mp3", "talk.flac", "talk.raw", "talk"])
def test_what_is_no_recording_is_unreadable(tmp_path, name):
    path = tmp_path / name
    path.write_text("no bird, but a text about one\n" * 100)
    for read in (
        audio_info,
        lambda path: read_audio(path, RATE),
        lambda path: AudioStream(path, RATE, 1, strict=False),
    ):
        with pytest.raises(BadRecording, match="unreadable"):
            read(path)


def test_a_folder_is_unreadable(tmp_path):
    with pytest.raises(BadRecording, match="unreadable"):
        read_audio(tmp_path, RATE)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_unreadable(tmp_path):
    path = write(tmp_path / "song.wav", song(1))
    path.chmod(0)
    with pytest.raises(BadRecording, match="unreadable: Permission denied"):
        read_audio(path, RATE)


def test_a_missing_file_is_missing(tmp_path):
    for read in (
        audio_info,
        lambda path: read_audio(path, RATE),
        lambda path: AudioStream(path, RATE, 1, strict=False),
    ):
        with pytest.raises(BadRecording, match="missing: no such file"):
            read(tmp_path / "none.ogg")


@pytest.mark.parametrize("name", ["none.ogg", "none.wav", "none.mp3", "none.flac"])
def test_a_file_without_bytes_is_empty(tmp_path, name):
    path = tmp_path / name
    path.touch()
    with pytest.raises(BadRecording, match="empty: the file has 0 bytes"):
        AudioStream(path, RATE, 1.0, strict=False)


@pytest.mark.parametrize("kind", ["ogg", "wav"])
@pytest.mark.parametrize("sample_rate", [RATE, 16_000])
def test_a_recording_without_samples_is_empty(tmp_path, kind, sample_rate):
    path = write(tmp_path / f"none.{kind}", song(0))
    assert problem_of(path, sample_rate).reason == "empty"
    assert read_audio(path, sample_rate, strict=False).shape == (0,)


@pytest.mark.parametrize("kind", FORMATS)
def test_silence_is_reported(tmp_path, kind):
    path = write(tmp_path / f"silence.{kind}", np.zeros(3 * rate_of(kind), np.float32), rate_of(kind))
    assert problem_of(path, rate_of(kind)).reason == "silent"
    assert problem_of(path, 16_000).reason == "silent"


def test_a_constant_is_silent_and_one_step_of_16_bits_is_not(tmp_path):
    sound = np.full(RATE, 0.25, np.float32)
    assert problem_of(write(tmp_path / "constant.wav", sound)).reason == "silent"
    sound[100] += 1 / 2**15
    assert problem_of(write(tmp_path / "step.wav", sound)) is None


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("channels", [1, 2])
def test_what_is_not_finite_is_reported_and_never_given(tmp_path, value, channels):
    sound = song(3, channels=channels)
    sound[RATE] = value
    path = write(tmp_path / "song.float.wav", sound)
    assert problem_of(path).reason == "not_finite"
    waveform = read_audio(path, RATE, strict=False)
    assert np.abs(waveform).max() < 1.0
    assert waveform[RATE] == 0.0
    np.testing.assert_array_equal(waveform[:RATE], read_audio(path, RATE, duration_s=1.0))
    with pytest.raises(BadRecording, match="not_finite"):
        read_audio(path, RATE, start_s=0.5, duration_s=1.0)


def test_a_header_that_promises_the_impossible_does_not_take_the_memory(tmp_path):
    path = write(tmp_path / "song.flac", song(3))
    content = bytearray(path.read_bytes())
    content[21] |= 0x0F  # STREAMINFO: 2^36 - 1 samples, 275 GB
    content[22:26] = b"\xff" * 4
    bad = damaged(path, tmp_path, content)
    with pytest.raises(BadRecording, match=r"unreadable|truncated"):
        read_audio(bad, RATE)
    assert problem_of(bad).reason == "truncated"
    assert sum(map(len, AudioStream(bad, RATE, 1.0, strict=False))) == 3 * RATE


def test_only_what_is_read_is_judged(tmp_path):
    sound = song(3)
    sound[:RATE] = 0.0
    path = write(tmp_path / "song.wav", sound)
    assert problem_of(path) is None
    assert problem_of(path, max_s=1.0).reason == "silent"


def test_a_bad_recording_survives_the_way_from_a_worker():
    bad = pickle.loads(pickle.dumps(BadRecording("hole", "2 of 5 s are missing")))
    assert (bad.reason, bad.detail, str(bad)) == ("hole", "2 of 5 s are missing", "hole: 2 of 5 s are missing")


def test_a_reason_is_one_of_those_known():
    assert all(BadRecording(reason, "").reason == reason for reason in REASONS)
    with pytest.raises(ValueError, match="is not one of missing"):
        BadRecording("tired", "")


def test_memory_does_not_grow_with_the_recording(tmp_path):
    import tracemalloc

    peaks = []
    for seconds in (20, 80):
        path = write(tmp_path / "song.wav", song(seconds, 44_100, 2), 44_100)
        tracemalloc.start()
        assert math.isclose(sum(map(len, AudioStream(path, RATE, 1.0))) / RATE, seconds)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]
