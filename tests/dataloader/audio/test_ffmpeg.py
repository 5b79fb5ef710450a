"""Does the second decoder read what telephones record, in constant memory, and report what is wrong with it?"""

import io
import tracemalloc
from functools import cache

import av
import numpy as np
import pytest

from dataloader.audio import endings
from dataloader.audio.containers import examine
from dataloader.audio.decoding import AudioStream, BadRecording, audio_info, read_audio
from dataloader.audio.ffmpeg import FFmpegFile

PHONES = {
    "song.m4a": ("mp4", "aac", 44_100, "MPEG-4 sound"),
    "song.aac": ("adts", "aac", 44_100, "AAC sound"),
    "song.3gp": ("3gp", "aac", 16_000, "MPEG-4 sound"),
    "song.wma": ("asf", "wmav2", 44_100, "Windows Media sound"),
    "song.webm": ("webm", "libopus", 48_000, "Matroska or WebM sound"),
    "lossless.m4a": ("mp4", "alac", 32_000, "MPEG-4 sound"),
}
SECONDS = 5


@cache
def song(seconds: float, rate: int) -> np.ndarray:
    """``(1, samples)``."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(0).standard_normal(len(time))
    sound = 0.3 * np.sin(2 * np.pi * (1000 + 100 * np.sin(5 * time)) * time) + 0.02 * noise
    return sound.astype(np.float32)[None]


@cache
def encoded(container: str, coding: str, rate: int, seconds: float = SECONDS) -> bytes:
    memory = io.BytesIO()
    memory.name = "sound"
    with av.open(memory, "w", format=container) as file:
        stream = file.add_stream(coding, rate=rate, layout="mono")
        stream.bit_rate = 64_000
        frame = av.AudioFrame.from_ndarray(song(seconds, rate), format="fltp", layout="mono")
        frame.sample_rate = rate
        samples, position = av.AudioFifo(), 0
        for one in av.AudioResampler(stream.codec_context.codec.audio_formats[0].name, "mono", rate).resample(frame):
            one.pts = None
            samples.write(one)
        while part := samples.read(stream.codec_context.frame_size or 1024, partial=True):
            part.pts, position = position, position + part.samples
            file.mux(stream.encode(part))
        file.mux(stream.encode(None))
    return memory.getvalue()


@pytest.fixture(scope="module", params=PHONES)
def phone(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("phones") / request.param
    path.write_bytes(encoded(*PHONES[request.param][:3]))
    return path


def test_what_telephones_record_is_read(phone):
    rate = PHONES[phone.name][2]
    stream = AudioStream(phone, rate, 1.0)
    decoded = np.concatenate(list(stream))
    assert stream.problem is None
    assert len(decoded) / rate == pytest.approx(SECONDS, abs=0.12)  # delay and padding of the encoder
    expected = song(SECONDS, rate)[0]
    likeness = max(
        np.corrcoef(decoded[lag : lag + 3 * rate], expected[: 3 * rate])[0, 1]
        for lag in {0, 1024, 1600, 2048, *(len(decoded) - len(expected) - by for by in (0, 1024, 2048))}
        if lag >= 0
    )
    assert likeness > 0.9 or phone.suffix == ".wma"  # whose delay is another


def test_a_span_is_that_of_the_recording_to_the_bit(phone):
    rate = PHONES[phone.name][2]
    whole = read_audio(phone, rate)
    for start_s in (0.0, 0.013, 2.5, 4.2):
        span = read_audio(phone, rate, start_s=start_s, duration_s=0.5)
        np.testing.assert_array_equal(span, whole[round(start_s * rate) :][: round(0.5 * rate)])
    np.testing.assert_array_equal(read_audio(phone, rate, start_s=4.0), whole[4 * rate :])
    resampled = read_audio(phone, 32_000, start_s=1.5, duration_s=1.0)
    np.testing.assert_allclose(resampled, read_audio(phone, 32_000)[48_000:80_000], atol=2e-6)


def test_going_back_begins_again(phone):
    file = FFmpegFile(phone, examine(phone))
    first, again = np.empty(1000, np.float32), np.empty(1000, np.float32)
    assert file.seek(3000) == 3000
    file.read(first)
    assert file.seek(3000) == 3000
    file.read(again)
    file.close()
    np.testing.assert_array_equal(first, again)


def test_without_av_the_line_says_what_it_is_and_which_package_reads_it(phone, monkeypatch):
    monkeypatch.setattr(endings, "HAS_FFMPEG", False)
    with pytest.raises(BadRecording, match=f"unreadable: {PHONES[phone.name][3]}.*; install the package av"):
        audio_info(phone)


def test_whole_numbers_are_scaled_as_libsndfile_does(tmp_path):
    (tmp_path / "lossless.m4a").write_bytes(encoded("mp4", "alac", 32_000))
    expected = np.round(song(SECONDS, 32_000)[0] * 2**15) / 2**15
    np.testing.assert_allclose(read_audio(tmp_path / "lossless.m4a", 32_000), expected, atol=1.01 / 2**15)


def test_a_recording_that_is_cut_is_reported(tmp_path):
    path = tmp_path / "cut.webm"
    content = encoded("webm", "libopus", 48_000)
    path.write_bytes(content[: len(content) // 2])
    stream = AudioStream(path, 48_000, 1.0, strict=False)
    assert 2 < sum(map(len, stream)) / 48_000 < 3
    assert str(stream.problem).startswith("truncated: 2.")


def test_an_mpeg_4_file_without_its_index_is_unreadable(tmp_path):
    path = tmp_path / "cut.m4a"
    content = encoded("mp4", "aac", 44_100)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(BadRecording, match=r"unreadable: MPEG-4 sound .*, damaged or cut off; neither libsndfile nor"):
        audio_info(path)


def test_a_playlist_opens_no_other_file(tmp_path):
    (tmp_path / "song.aac").write_bytes(encoded("adts", "aac", 44_100))
    path = tmp_path / "list.m4a"
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile://{tmp_path}/song.aac\n#EXT-X-ENDLIST\n")
    with pytest.raises(BadRecording, match="unreadable: not a sound file"):
        audio_info(path)


def test_a_video_without_sound_is_unreadable(tmp_path):
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w", format="mp4") as file:
        stream = file.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        file.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
        file.mux(stream.encode(None))
    with pytest.raises(BadRecording, match="there is no sound in it"):
        audio_info(path)


def test_memory_does_not_grow_with_the_recording(tmp_path):
    peaks = []
    for seconds in (10, 40):
        path = tmp_path / f"{seconds}.m4a"
        path.write_bytes(encoded("mp4", "aac", 16_000, seconds))
        tracemalloc.start()
        assert sum(map(len, AudioStream(path, 16_000, 1.0))) / 16_000 == pytest.approx(seconds, abs=0.15)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] + 1e5


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:3517\nsize 157610028\n",
            "a Git LFS pointer.*git lfs",
        ),
        (b"<!DOCTYPE html>\n<html>404</html>", "a web page.*download it again"),
        (b"\n\n<html><body>busy</body></html>", "a web page.*download it again"),
        (b'\xef\xbb\xbf{"error": "not found"}', "JSON text.*download it again"),
        (b"[]", "JSON text.*download it again"),
        (bytes(70_000), "nothing but zeros.*copy it again"),
        (b"PK\x03\x04" + bytes(100), "a zip archive.*unpack it"),
    ],
)
@pytest.mark.parametrize("name", ["a.mp3", "b.wav", "c.ogg", "d.flac", "e.m4a"])
@pytest.mark.parametrize("with_ffmpeg", [True, False])
def test_a_file_that_is_no_sound_is_reported_as_what_it_is(tmp_path, monkeypatch, content, what, name, with_ffmpeg):
    monkeypatch.setattr(endings, "HAS_FFMPEG", with_ffmpeg)
    (tmp_path / name).write_bytes(content)
    for read in (audio_info, lambda path: AudioStream(path, 32_000, 1.0, strict=False)):
        with pytest.raises(BadRecording, match=f"unreadable: {what}"):
            read(tmp_path / name)
