"""Does every kind of file come in at its full length, whatever its header, its tags and its end say?

The table of this file holds for each kind how many seconds there are, and what the program says of it with the
package ``av`` and without. It is compared with what FFmpeg decodes, an independent count.
"""

import io
import re
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import pytest
import soundfile as sf

from dataloader.audio import endings
from dataloader.audio.containers import examine
from dataloader.audio.decoding import AudioStream, BadRecording, audio_info, read_audio

RATE = 44_100
RECORDERS = Path(__file__).parents[4] / "shared" / "recorders"

# How files are made


@cache
def song(seconds: float, rate: int = RATE, channels: int = 1, seed: int = 0) -> np.ndarray:
    """``(samples, channels)``: a warbling tone in noise; the first half is quiet, so that a bit rate varies."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).standard_normal((len(time), channels))
    sound = 0.3 * np.sin(2 * np.pi * (1000 + 100 * np.sin(5 * time)) * time)[:, None] + 0.05 * noise
    sound[: len(time) // 2] *= 0.01
    return sound.astype(np.float32)


@cache
def encode(seconds: float, container: str, coding: str, rate: int = RATE, channels: int = 1, **options) -> bytes:
    """A file that libsndfile writes."""
    memory = io.BytesIO()
    with sf.SoundFile(memory, "w", rate, channels, coding, format=container, **options) as file:
        sound = song(seconds, rate, channels)
        for start in range(0, len(sound), rate):  # libsndfile crashes on long writes of Vorbis
            file.write(sound[start : start + rate])
    return memory.getvalue()


def mp3(seconds: float, mode: str = "CONSTANT", rate: int = RATE, channels: int = 1) -> bytes:
    """With a length header in its first frame, as LAME writes it."""
    return encode(seconds, "MP3", "MPEG_LAYER_III", rate, channels, bitrate_mode=mode, compression_level=0.5)


def bare(content: bytes) -> bytes:
    """An MP3 without the frame that holds its length header."""
    return content[content.index(content[:2], 4) :]


@cache
def by_ffmpeg(container: str, coding: str, seconds: float = 5.0, rate: int = RATE) -> bytes:
    """A file that FFmpeg writes."""
    memory = io.BytesIO()
    memory.name = "sound"
    with av.open(memory, "w", format=container) as file:
        stream = file.add_stream(coding, rate=rate, layout="mono")
        stream.bit_rate = 64_000
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(song(seconds, rate).T), format="fltp", layout="mono")
        frame.sample_rate = rate
        resampler = av.AudioResampler(stream.codec_context.codec.audio_formats[0].name, "mono", rate)
        samples, position = av.AudioFifo(), 0
        for one in resampler.resample(frame):
            one.pts = None
            samples.write(one)
        while part := samples.read(stream.codec_context.frame_size or 1024, partial=True):
            part.pts, position = position, position + part.samples
            file.mux(stream.encode(part))
        file.mux(stream.encode(None))
    return memory.getvalue()


def id3(size: int) -> bytes:
    """An ID3v2 tag; of some size it holds a picture."""
    picture = np.random.default_rng(1).bytes(size)
    return b"ID3\x04\0\0" + bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0)) + picture


ID3V1 = b"TAG" + b"x" * 125
APE = b"APETAGEX" + struct.pack("<IIII8x", 2000, 4000, 1, 0xA0000000) + b"y" * 3968
APE += b"APETAGEX" + struct.pack("<IIII8x", 2000, 4000, 1, 0x80000000)
LYRICS = b"LYRICSBEGIN" + b"LYR03000" + b"a" * 3000 + b"003019LYRICS200"


def counting(content: bytes, share: float) -> bytes:
    """An MP3 whose length header counts another number of frames; 0: it does not count them."""
    at = max(content.find(b"Xing"), content.find(b"Info"))
    flags, frames = struct.unpack(">II", content[at + 4 : at + 12])
    if share:
        return content[: at + 8] + struct.pack(">I", round(share * frames)) + content[at + 12 :]
    return (
        content[: at + 4] + struct.pack(">I", flags & ~3) + content[at + 16 : at + 116] + bytes(8) + content[at + 116 :]
    )


def flac_counting(content: bytes, samples: int) -> bytes:
    """A FLAC whose STREAMINFO counts another number of samples; 0: unknown."""
    return content[:21] + bytes([content[21] & 0xF0]) + struct.pack(">I", samples) + content[26:]


def wav_counting(content: bytes, more: int) -> bytes:
    """A WAV whose data chunk counts so many more bytes than there are."""
    at = content.index(b"data") + 4
    return content[:at] + struct.pack("<I", struct.unpack("<I", content[at : at + 4])[0] + more) + content[at + 4 :]


def unpadded(content: bytes) -> bytes:
    """A cut between two frames or within one: nothing in the file shows it."""
    return content[: len(content) // 2]


def within(content: bytes, other: bytes) -> bytes:
    """Other bytes in the middle; they split a frame."""
    return content[: len(content) // 2] + other + content[len(content) // 2 :]


class Case(NamedTuple):
    """A kind of file.

    Attributes:
        make: its bytes.
        seconds: that are in it.
        fault: pattern of what is wrong, whatever decodes it; empty: nothing is.
        alone: the same without the package av; None: as with it.
    """

    make: Callable[[], bytes]
    seconds: float
    fault: str = ""
    alone: str | None = None


JOINED = "truncated: several recordings joined into one.* install the package av"
NO_LENGTH = "truncated: its bit rate varies and no header states its length, so that only .* install the package av"
FRAME = 1152 / RATE  # seconds

CASES = {
    # MP3 of constant rate
    "cbr.mp3": Case(lambda: mp3(5), 5),
    "cbr_stereo.mp3": Case(lambda: mp3(5, channels=2), 5),
    "cbr_22k.mp3": Case(lambda: mp3(5, rate=22_050), 5),
    "cbr_8k.mp3": Case(lambda: mp3(5, rate=8_000), 5),
    "cbr_id3.mp3": Case(lambda: id3(2_000) + mp3(5) + ID3V1, 5),
    "cbr_lyrics.mp3": Case(lambda: mp3(5) + LYRICS + ID3V1, 5),
    "cbr_zeros.mp3": Case(lambda: mp3(5) + bytes(20_000), 5),
    "cbr_bare.mp3": Case(lambda: bare(mp3(8)), 8),
    "cbr_bare_22k.mp3": Case(lambda: bare(mp3(5, rate=22_050)), 5),
    "cbr_bare_id3.mp3": Case(lambda: id3(2_000) + bare(mp3(5)), 5),
    "cbr_bare_two_id3.mp3": Case(lambda: id3(2_000) + id3(300) + bare(mp3(5)), 5),
    "cbr_bare_id3v1.mp3": Case(lambda: bare(mp3(5)) + ID3V1, 5),
    "cbr_bare_picture.mp3": Case(lambda: id3(200_000) + bare(mp3(5)) + ID3V1, 5),
    "cbr_bare_ape.mp3": Case(lambda: bare(mp3(5)) + APE, 5),
    "cbr_bare_ape_id3v1.mp3": Case(lambda: bare(mp3(5)) + APE + ID3V1, 5),
    "cbr_bare_lyrics.mp3": Case(lambda: bare(mp3(10)) + LYRICS + ID3V1, 10),
    "cbr_bare_zeros.mp3": Case(lambda: bare(mp3(10)) + bytes(20_000), 10),
    "cbr_bare_zeros_before.mp3": Case(lambda: bytes(3000) + bare(mp3(5)), 5),
    "cbr_cut.mp3": Case(lambda: unpadded(mp3(10)), 5, r"truncated: (4.9|5.0)\d of 10.0\d s are missing"),
    "cbr_bare_cut.mp3": Case(lambda: unpadded(bare(mp3(10))), 5),  # nothing promises more
    # MP3 of varying and of average rate
    "vbr.mp3": Case(lambda: mp3(10, "VARIABLE"), 10),
    "abr.mp3": Case(lambda: mp3(10, "AVERAGE"), 10),
    "vbr_tags.mp3": Case(lambda: id3(50_000) + mp3(10, "VARIABLE") + APE + ID3V1, 10),
    "abr_zeros.mp3": Case(lambda: mp3(10, "AVERAGE") + bytes(20_000), 10),
    "vbr_cut.mp3": Case(lambda: unpadded(mp3(10, "VARIABLE")), 6, r"truncated: .* of 10.0\d s are missing"),
    "vbr_bare.mp3": Case(lambda: bare(mp3(10, "VARIABLE")), 10, "", NO_LENGTH),
    "vbr_bare_id3.mp3": Case(lambda: id3(2_000) + bare(mp3(10, "VARIABLE")), 10, "", NO_LENGTH),
    "vbr_no_count.mp3": Case(lambda: counting(mp3(10, "VARIABLE"), 0), 10, "", NO_LENGTH),
    "vbr_half_count.mp3": Case(
        lambda: counting(mp3(10, "VARIABLE"), 0.5), 10, "", r"only (4.9|5.0)\d of 10.\d\d s are read; install .* av"
    ),
    "cbr_half_count.mp3": Case(lambda: counting(mp3(10), 0.5), 10, "", "its header counts too few frames"),
    "vbr_double_count.mp3": Case(
        lambda: counting(mp3(10, "VARIABLE"), 2), 10, r"truncated: 10.\d\d of 20.\d\d s are missing"
    ),
    # MP3 with something between its frames
    "cbr_id3_within.mp3": Case(lambda: within(mp3(5), id3(700)), 5),
    "abr_id3_within.mp3": Case(lambda: within(mp3(10, "AVERAGE"), id3(700)), 10, "", "truncated: .* s are missing"),
    "cbr_zeros_within.mp3": Case(lambda: within(mp3(10), bytes(8000)), 10, "hole: 8,.* after 5.0. s are not sound"),
    # MP3, joined
    "joined.mp3": Case(lambda: mp3(5) + mp3(10), 15, "", JOINED),
    "joined_equal.mp3": Case(lambda: mp3(5) + mp3(5), 10, "", JOINED),
    "joined_tags.mp3": Case(lambda: id3(900) + mp3(5) + ID3V1 + id3(900) + mp3(10) + ID3V1, 15, "", JOINED),
    "joined_vbr.mp3": Case(lambda: mp3(5, "VARIABLE") + mp3(10, "VARIABLE"), 15, "", JOINED),
    "joined_bare.mp3": Case(lambda: bare(mp3(5)) + bare(mp3(10)), 15),
    "joined_bare_tags.mp3": Case(lambda: bare(mp3(5)) + ID3V1 + id3(900) + bare(mp3(10)), 15),
    "joined_channels.mp3": Case(lambda: bare(mp3(5)) + bare(mp3(4, channels=2)), 9, "", JOINED),
    "joined_rates.mp3": Case(
        lambda: mp3(5) + mp3(4, rate=22_050) + mp3(3, channels=2), 12, "", r"truncated: .* of 44100 and of 22050 Hz, so"
    ),
    # Layer II, and MP3 in WAV
    "layer_2.mp3": Case(lambda: by_ffmpeg("mp2", "mp2"), 5),
    "layer_2_tags.mp3": Case(lambda: id3(5_000) + by_ffmpeg("mp2", "mp2") + ID3V1, 5),
    "mp3_in.wav": Case(lambda: by_ffmpeg("wav", "libmp3lame"), 5),
    # FLAC
    "song.flac": Case(lambda: encode(5, "FLAC", "PCM_16"), 5),
    "song_24.flac": Case(lambda: encode(5, "FLAC", "PCM_24", channels=2), 5),
    "tags.flac": Case(lambda: id3(2_000) + encode(5, "FLAC", "PCM_16") + ID3V1, 5),
    "unknown.flac": Case(lambda: flac_counting(encode(5, "FLAC", "PCM_16"), 0), 5),
    "unknown_id3v1.flac": Case(lambda: flac_counting(encode(5, "FLAC", "PCM_16"), 0) + ID3V1, 5),
    "half_count.flac": Case(
        lambda: flac_counting(encode(10, "FLAC", "PCM_16"), 5 * RATE), 10, "", "only 5.00 of 10.00 s are read"
    ),
    "joined.flac": Case(lambda: encode(5, "FLAC", "PCM_16") + encode(10, "FLAC", "PCM_16"), 15, "", JOINED),
    "joined_equal.flac": Case(lambda: 2 * encode(5, "FLAC", "PCM_16"), 10, "", JOINED),
    "cut.flac": Case(lambda: unpadded(encode(10, "FLAC", "PCM_16")), 6, "truncated: the decoder failed after"),
    # Ogg
    "song.ogg": Case(lambda: encode(5, "OGG", "VORBIS"), 5),
    "song.opus": Case(lambda: encode(5, "OGG", "OPUS", 48_000), 5),
    "cut.ogg": Case(lambda: unpadded(encode(5, "OGG", "VORBIS")), 2, "truncated: its last page"),
    "joined.ogg": Case(lambda: encode(5, "OGG", "VORBIS") + encode(4, "OGG", "VORBIS"), 9, "", JOINED),
    "joined_equal.ogg": Case(lambda: 2 * encode(5, "OGG", "VORBIS"), 10, "", JOINED),
    "joined_rates.ogg": Case(  # FFmpeg reads the first alone
        lambda: encode(5, "OGG", "VORBIS") + encode(4, "OGG", "VORBIS", 32_000), 5, r"truncated: 4.0\d of 9.0", JOINED
    ),
    "joined.opus": Case(lambda: encode(5, "OGG", "OPUS", 48_000) + encode(4, "OGG", "OPUS", 48_000), 9, "", JOINED),
    # What is not compressed
    "song.wav": Case(lambda: encode(5, "WAV", "PCM_16"), 5),
    "file_size.wav": Case(lambda: wav_counting(encode(5, "WAV", "PCM_16"), 44), 5),
    "nine_ms.wav": Case(lambda: wav_counting(encode(5, "WAV", "PCM_16"), 2 * 397), 5),
    "eleven_ms.wav": Case(
        lambda: wav_counting(encode(5, "WAV", "PCM_16"), 2 * 486), 5, "truncated: 972 of 441,972 bytes of samples"
    ),
    "joined.wav": Case(lambda: 2 * encode(5, "WAV", "PCM_16"), 5, "truncated: several recordings joined into one"),
    "song.rf64": Case(lambda: encode(5, "RF64", "PCM_24"), 5),
    "song.w64": Case(lambda: encode(5, "W64", "PCM_16"), 5),
    "cut.w64": Case(lambda: unpadded(encode(5, "W64", "PCM_16")), 2.5, "truncated: 220,.* bytes of samples are"),
    "song.aiff": Case(lambda: encode(5, "AIFF", "PCM_16"), 5),
    "cut.aiff": Case(lambda: unpadded(encode(5, "AIFF", "PCM_16")), 2.5, "truncated: 220,.* bytes of samples are"),
    "joined.aiff": Case(lambda: 2 * encode(5, "AIFF", "PCM_16"), 5, "truncated: several recordings joined into one"),
    "song.caf": Case(lambda: encode(5, "CAF", "PCM_16"), 5),
    "cut.caf": Case(lambda: unpadded(encode(5, "CAF", "FLOAT")), 2.5, "truncated: 44.* bytes of samples are missing"),
    "g721.au": Case(lambda: encode(5, "AU", "G721_32", 8_000), 5),  # libsndfile cannot seek in it
    "song.au": Case(lambda: encode(5, "AU", "PCM_16"), 5),
    "cut.au": Case(lambda: unpadded(encode(5, "AU", "PCM_16")), 2.5, "truncated: 220,.* bytes of samples are"),
}  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("kinds")
    for name, case in CASES.items():
        (folder / name).write_bytes(case.make())
    return folder


# What is said of them


def ffmpeg_seconds(path: Path) -> float:
    """What FFmpeg decodes of a file; packets that do not decode, such as tags between frames, are passed over."""
    seconds = 0.0
    with av.open(str(path)) as container:
        for packet in container.demux(container.streams.audio[0]):
            try:
                seconds += sum(frame.samples / frame.sample_rate for frame in packet.decode())
            except av.error.InvalidDataError:
                continue
    return seconds


def judged(path: Path) -> tuple[float, str]:
    """Seconds that a lenient reader gets of a file, and what is wrong with it; strict and lenient must agree."""
    try:
        stream = AudioStream(path, 32_000, 10.0, strict=False)
    except BadRecording as bad:
        return 0.0, str(bad)
    seconds = sum(map(len, stream)) / 32_000
    strict = ""
    try:
        list(AudioStream(path, 32_000, 10.0))
    except BadRecording as bad:
        strict = str(bad)
    assert strict.partition(":")[0] == str(stream.problem or "").partition(":")[0]
    return seconds, str(stream.problem or "")


def allowed(name: str) -> float:
    """Seconds by which two decoders may differ: delay and padding that they trim or not."""
    return 4 * FRAME * (3 if "joined" in name else 1) if name.endswith((".mp3", "mp3_in.wav")) or "2" in name else 0.05


@pytest.mark.parametrize("name", CASES)
def test_a_file_is_as_long_as_what_is_in_it_and_ffmpeg_agrees(files, name):
    case = CASES[name]
    seconds, problem = judged(files / name)
    assert bool(problem) == bool(case.fault), problem
    assert re.search(case.fault, problem)
    if not problem:
        assert seconds == pytest.approx(case.seconds, abs=allowed(name))
        assert seconds == pytest.approx(ffmpeg_seconds(files / name), abs=allowed(name))
        info = audio_info(files / name)
        if info.frames:  # of joined Oggs nothing counts them
            assert info.frames / info.sample_rate == pytest.approx(seconds, abs=allowed(name))


@pytest.mark.parametrize("name", CASES)
def test_without_av_what_would_be_cut_is_reported_and_never_silently_used(files, name, monkeypatch):
    monkeypatch.setattr(endings, "HAS_FFMPEG", False)
    case = CASES[name]
    expected = case.fault if case.alone is None else case.alone
    seconds, problem = judged(files / name)
    assert bool(problem) == bool(expected), problem
    assert re.search(expected, problem)
    if not problem:
        assert seconds == pytest.approx(case.seconds, abs=allowed(name))


@pytest.mark.parametrize(("has_ffmpeg", "seconds"), [(True, 10), (False, 5)])
def test_of_an_mp3_with_a_hole_prediction_gets_what_is_around_it(files, monkeypatch, has_ffmpeg, seconds):
    monkeypatch.setattr(endings, "HAS_FFMPEG", has_ffmpeg)
    assert judged(files / "cbr_zeros_within.mp3")[0] == pytest.approx(seconds, abs=0.2)


def test_the_samples_that_a_recorders_header_counts_too_many_are_known(files):
    assert examine(files / "file_size.wav").missing == 22
    assert examine(files / "song.wav").missing == 0
    assert len(read_audio(files / "file_size.wav", RATE)) == 5 * RATE


@pytest.mark.parametrize(
    "name",
    ["joined.mp3", "joined_rates.mp3", "vbr_half_count.mp3", "joined.flac", "half_count.flac", "joined.ogg"],
)
def test_a_span_read_by_the_second_decoder_equals_that_of_the_complete_recording(files, name):
    whole = read_audio(files / name, RATE)
    for start_s in (0.5, 4.0, CASES[name].seconds - 1.5):
        span = read_audio(files / name, RATE, start_s=start_s, duration_s=1.0)
        np.testing.assert_array_equal(span, whole[round(start_s * RATE) :][:RATE])
    resampled = read_audio(files / name, 32_000, start_s=4.0, duration_s=2.0)
    np.testing.assert_allclose(resampled, read_audio(files / name, 32_000)[4 * 32_000 :][: 2 * 32_000], atol=2e-6)


def test_a_joined_recording_of_another_rate_keeps_its_pitch(files, tmp_path):
    (tmp_path / "alone.mp3").write_bytes(mp3(4, rate=22_050))
    alone, joined = read_audio(tmp_path / "alone.mp3", RATE), read_audio(files / "joined_rates.mp3", RATE)
    pitch = []
    for samples, start_s in ((alone, 2.2), (joined, 5 + 2.2)):
        power = np.abs(np.fft.rfft(samples[round(start_s * RATE) :][:RATE])) ** 2
        pitch.append((np.arange(len(power)) * power).sum() / power.sum())  # Hz, as it is one second
    assert pitch[1] == pytest.approx(pitch[0], rel=0.05)


def test_both_decoders_give_the_same_samples_of_a_flac(files, tmp_path):
    by_libsndfile = read_audio(files / "song_24.flac", RATE)
    path = tmp_path / "too_few.flac"
    path.write_bytes(flac_counting((files / "song_24.flac").read_bytes(), RATE))
    np.testing.assert_array_equal(read_audio(path, RATE), by_libsndfile)


def test_the_files_of_real_recorders_have_their_right_length():
    if not RECORDERS.is_dir():
        pytest.skip(f"no real recordings at {RECORDERS}")
    expected = {
        "nri-StreamMUWO.mp3": 5.07,
        "nri-GreenTreeFrogEvergladesNP.mp3": 9.98,
        "yell-YELLFLBCSACR20075171.mp3": 24.06,
        "20220502T075930+1000_Minjerribah-Dry-B_1088507.flac": 34.92,
        "AUDIOMOTH.WAV": 5.0,
        "Car340319-2015-Pass1-G2-16701_0_20150718_052755_293.wav": 28.06,
        "S4A03895_20190522_043000.wav": 10.0,
    }
    found = {name: judged(RECORDERS / name) for name in expected}
    assert {name: (round(seconds, 2), problem) for name, (seconds, problem) in found.items()} == {
        name: (seconds, "") for name, seconds in expected.items()
    }
    with pytest.raises(BadRecording, match="unreadable: a Git LFS pointer, not sound; run 'git lfs pull'"):
        audio_info(RECORDERS / "20160809_063108_Dawn _1.4647 116.9136_.wav")
