"""Is every damage to a recording reported, with files that are damaged here?"""

import math
import os
import pickle
import re
import struct

import numpy as np
import pytest
import soundfile as sf

from dataloader.audio import endings
from dataloader.audio.decoding import AudioStream, BadRecording, audio_info, read_audio
from dataloader.audio.errors import REASONS
from tests.dataloader.audio.conftest import FORMATS, RATE, damaged, problem_of, rate_of, song, whole_or_reason, write

OGG_PAGE = b"OggS"


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
def test_tags_and_padding_after_the_samples_of_a_wav_are_no_damage(tmp_path, behind):
    path = write(tmp_path / "song.wav", song(2))
    assert problem_of(damaged(path, tmp_path, path.read_bytes() + behind)) is None


@pytest.mark.parametrize("endian", ["LITTLE", "BIG"])
def test_a_wav_whose_size_began_anew_at_4_gib_is_reported(tmp_path, endian):
    path = tmp_path / "night.wav"
    sf.write(path, song(2), RATE, subtype="PCM_16", endian=endian)
    size = path.stat().st_size
    os.truncate(path, size + 2**32 - 1)  # sparse: it takes no disk space
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
