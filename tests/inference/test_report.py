"""Is the report one whole page that shows and plays what was found, where it was found, and says what it leaves out?"""

import base64
import html
import io
import os
import re
import urllib.parse
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from dataloader.cache.spectrogram import MelSpectrogram
from factory.model_card import ModelCard
from inference import media, page, report
from inference.report import gather, write_report
from inference.tables import DetectionFilter, Result
from utils.config import DataProcess, Model

RATE = 32_000  # Hz
VOID = {"meta", "img", "br"}
LABELS, SCIENTIFIC, COMMON = ("wren", "owl", "<i>x"), ("Troglodytes", "Strix", "A & B"), ("Wren", "", "<b>")
CARD = ModelCard(Model(), LABELS, SCIENTIFIC, COMMON, DataProcess(), "window")
SHOWN = DetectionFilter(threshold=0.25)
LOW_HZ, HIGH_HZ = 1000, 3000


class Page(HTMLParser):
    """A page's elements, each ``(tag, attributes)``; fails on a tag that is not closed, or is closed twice."""

    def __init__(self, path: Path):
        super().__init__()
        self.text, self.elements, self._open = path.read_text(encoding="utf-8"), [], []
        self.words = ""
        self.feed(self.text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.words += data

    def all(self, tag, kind=None):
        return [its for name, its in self.elements if name == tag and (kind is None or its.get("class") == kind)]


def whistle(path: Path, seconds: float = 20.0) -> Path:
    """Half of it low, half of it high, in some noise."""
    time = np.arange(round(seconds * RATE)) / RATE
    tone = np.sin(2 * np.pi * np.where(time < seconds / 2, LOW_HZ, HIGH_HZ) * time)
    sf.write(path, 0.2 * tone + np.random.default_rng(1).normal(0, 0.001, len(time)), RATE)
    return path


def result(path: Path, scores, row_s: float = 5.0, step_s: float = 5.0) -> Result:
    scores = np.array(scores, dtype=np.float32)
    start_s = np.arange(len(scores)) * step_s
    return Result(path, start_s, start_s + row_s, scores, start_s[-1] + row_s, RATE)


SCORES = [[0.1, 0.0, 0.0], [0.9, 0.3, 0.0], [0.0, 0.0, 0.0], [0.6, 0.0, 0.4]]  # 4 rows of 5 s


@pytest.fixture
def written(tmp_path):
    """Write a report of these recordings (default: a whistle with SCORES) and read it."""

    def write(*results, detection_filter=SHOWN):
        results = results or (result(whistle(tmp_path / "night.wav"), SCORES),)
        write_report(tmp_path / "page.html", iter(results), CARD, detection_filter)
        return Page(tmp_path / "page.html")

    return write


def decoded(uri: str) -> np.ndarray:
    assert uri.startswith("data:audio/mpeg;base64,")
    samples, rate = sf.read(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    assert rate == RATE
    return samples


def loudest_hz(samples: np.ndarray) -> float:
    return np.abs(np.fft.rfft(samples)).argmax() * RATE / len(samples)


# The page


def test_the_page_needs_nothing_beside_it(written):
    found = written()
    assert not found.all("link")
    assert all("src" not in script for script in found.all("script"))
    sources = [its["src"] for tag in ("img", "audio") for its in found.all(tag)]
    assert len(sources) == 2 * (1 + 4)  # the recording, and four detections
    assert all(source.startswith("data:") for source in sources)
    assert "//" not in re.sub(r'"data:[^"]*"|  // one.*', "", found.text)  # but in sounds and in a comment


def test_pictures_players_and_detections_have_names_for_those_who_do_not_see_them(written):
    found = written()
    assert all(its["alt"].startswith("spectrogram of") for its in found.all("img"))
    assert all(its["aria-label"] for tag in ("audio", "button") for its in found.all(tag))
    assert ("html", {"lang": "en"}) in found.elements


def test_every_link_leads_somewhere_and_no_name_is_given_twice(written):
    found = written()
    names = [its["id"] for _, its in found.elements if "id" in its]
    assert len(names) == len(set(names))
    links = [its["href"] for its in found.all("a")]
    assert links
    assert {link.removeprefix("#") for link in links} <= set(names)


def test_names_are_words_and_never_html(written, tmp_path):
    odd = tmp_path / "<script>&\"$title'.wav"
    found = written(result(whistle(odd), SCORES))
    assert len(found.all("script")) == 1
    assert not found.all("b")
    assert str(odd) in found.words
    assert "A & B" in found.words
    assert any(odd.name in its["alt"] for its in found.all("img"))


def test_a_name_that_is_not_utf8_can_be_told(written, tmp_path):
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.wav"))
    whistle(tmp_path / "a.wav").rename(odd)
    assert "\\xff.wav" in written(result(odd, SCORES)).words


def test_a_detection_is_a_box_where_it_was_heard(written):
    boxes = written().all("button", "box")
    assert [(its["data-at"], its["title"].partition(",")[0]) for its in boxes] == [
        ("5.000", "Wren 0.90"), ("5.000", "owl 0.30"), ("15.000", "Wren 0.60"), ("15.000", "<b> 0.40"),
    ]  # fmt: skip
    assert "left:25.000%;width:25.000%;top:0rem" in boxes[0]["style"]
    assert "top:1.25rem" in boxes[1]["style"]  # another species, another lane
    colours = [its["style"].rpartition("--colour:")[2] for its in boxes]
    assert colours[0] == colours[2]
    assert len(set(colours)) == 3


def test_species_stand_in_order_of_their_strongest_detection(written):
    assert [its["id"] for its in written().all("section")] == ["s0", "s2", "s1"]


def test_without_a_detection_the_page_says_so_and_how_far_it_was(written, tmp_path):
    found = written(result(whistle(tmp_path / "a.wav"), SCORES), detection_filter=DetectionFilter(0.95))
    assert "No detection" in found.words
    assert "at least 0.95. The highest score of all is 0.90." in found.words
    assert len(found.all("figure", "recording")) == 1  # to be looked at all the same
    assert not found.all("section")


def test_the_page_is_written_whole_or_not_at_all(written, tmp_path, monkeypatch):
    (tmp_path / "page.html").write_text("an older page")
    monkeypatch.setattr(report.media, "overview", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        written()
    assert (tmp_path / "page.html").read_text() == "an older page"
    assert not list(tmp_path.glob(".*"))


# Sound


def test_a_short_recording_is_in_the_page_and_a_detection_sounds_as_where_it_was_heard(written):
    found = written()
    players = found.all("audio")
    assert len(decoded(players[-1]["src"])) == 20 * RATE
    clips = {its["aria-label"]: decoded(its["src"]) for its in players[:-1]}
    assert loudest_hz(clips["score 0.90, night.wav, 0:05 to 0:10"]) == pytest.approx(LOW_HZ, abs=5)
    assert loudest_hz(clips["score 0.60, night.wav, 0:15 to 0:20"]) == pytest.approx(HIGH_HZ, abs=5)


def test_an_mp3_takes_the_room_that_it_is_said_to_take(tmp_path):
    path = tmp_path / "noise.wav"
    sf.write(path, np.random.default_rng(1).normal(0, 0.2, 10 * RATE), RATE)
    assert len(media.mp3(path)) == pytest.approx(10 * media.SOUND_BYTES_S, rel=0.02)


@pytest.mark.parametrize(("name", "value"), [("SHORT_S", 19.0), ("SHORT_BYTES", 1000), ("PAGE_BYTES", 20_000)])
def test_a_long_recording_is_played_from_where_it_lies(written, tmp_path, monkeypatch, name, value):
    monkeypatch.setattr(report, name, value)
    monkeypatch.setattr(report._Page, "full", False)  # for PAGE_BYTES: sound ends before pictures do
    folder = tmp_path / "a #1%20: ä"
    folder.mkdir()
    found = written(result(whistle(folder / "long.wav"), SCORES))
    source = found.all("audio")[-1]["src"]
    assert ":" not in source
    assert tmp_path / urllib.parse.unquote(source) == folder / "long.wav"
    assert "keep it there" in found.words


# Pictures


def test_a_short_call_in_a_long_recording_is_seen_where_it_is(tmp_path):
    mel = MelSpectrogram(DataProcess())
    night = np.random.default_rng(1).normal(0, 0.001, 60 * RATE)
    call = np.arange(43 * RATE, 43 * RATE + RATE // 20)  # 50 ms
    night[call] += 0.2 * np.sin(2 * np.pi * HIGH_HZ * call / RATE)
    sf.write(tmp_path / "night.wav", night, RATE)
    picture = media.overview(tmp_path / "night.wav", mel, 60.0, 30)
    whole = mel.db(sf.read(tmp_path / "night.wav", dtype="float32")[0])
    np.testing.assert_allclose(picture, whole.reshape(128, 30, -1).max(axis=2), atol=1e-3)
    band, column = np.unravel_index(picture.argmax(), picture.shape)
    assert column == 43 // 2
    assert mel.mel_frequencies[band] == pytest.approx(HIGH_HZ, rel=0.03)


def test_a_recording_shorter_than_the_picture_has_a_column_a_frame(tmp_path):
    mel = MelSpectrogram(DataProcess())
    path = whistle(tmp_path / "a.wav", 2.0)
    np.testing.assert_allclose(media.overview(path, mel, 2.0, 1200), mel.db(sf.read(path, dtype="float32")[0]))


def test_low_is_at_the_bottom_and_steady_noise_is_dark():
    from PIL import Image

    db = np.full((8, 100), -60.0, dtype=np.float32)
    db[0] = -20.0  # a steady hum
    db[1, 50:55] = -10.0  # a call above it
    image = np.asarray(Image.open(io.BytesIO(media.png(db))).convert("L"))
    assert image.shape == (8, 100)
    assert np.unravel_index(image.argmax(), image.shape) == (6, 50)
    assert image[7].max() == image.min()


def test_silence_can_be_drawn():
    assert media.png(np.full((8, 1), -100.0, dtype=np.float32)).startswith(b"\x89PNG")


# What is left out, and that it is said


def test_the_strongest_of_all_recordings_are_kept_and_one_call_is_shown_once():
    rising = [[score, 0, 0] for score in np.linspace(0.3, 0.8, 30)]
    heard = gather([result(Path("a"), rising, step_s=1.0), result(Path("b"), [[0.95, 0, 0]])], DetectionFilter(0.25))
    assert heard.counts[0] == 31
    strongest = heard.strongest[0]
    assert [(one.recording, one.one.start_s) for one in strongest] == [
        (1, 0.0), (0, 29.0), (0, 24.0), (0, 19.0), (0, 14.0), (0, 9.0), (0, 4.0),
    ]  # fmt: skip
    assert [one.score for one in strongest] == sorted((one.score for one in strongest), reverse=True)


def test_of_many_detections_on_a_picture_the_strongest_are_drawn(monkeypatch):
    monkeypatch.setattr(report, "BOXES", 2)
    (recording,) = gather(
        [result(Path("a"), [[0.3, 0, 0], [0.9, 0, 0], [0.8, 0, 0]])], DetectionFilter(0.25)
    ).recordings
    assert [(round(one.score, 3), one.start_s) for one in recording.told] == [(0.9, 5.0), (0.8, 10.0)]
    assert "3 detections, the strongest 2 drawn" in report._found(recording)


def test_a_recording_that_is_not_drawn_is_named(written, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "RECORDINGS", 1)
    quiet, loud = whistle(tmp_path / "quiet.wav"), whistle(tmp_path / "loud.wav")
    found = written(result(quiet, [[0.5, 0, 0]]), result(loud, [[0.9, 0, 0]]))
    assert [its["id"] for its in found.all("figure", "recording")] == ["r1"]
    assert "Recordings without a picture" in found.words
    assert str(quiet) in found.words
    assert "r0" in [its.get("id") for its in found.all("tr")]  # where the link of its clip leads


def test_a_full_page_takes_no_more_pictures_but_names_all(written, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "PAGE_BYTES", 1)
    found = written()
    assert not found.all("img")
    assert str(tmp_path / "night.wav") in found.words


def test_a_recording_that_has_gone_since_is_named(written, tmp_path):
    found = written(result(whistle(tmp_path / "a.wav"), SCORES), result(tmp_path / "gone.wav", SCORES))
    assert len(found.all("figure", "recording")) == 1
    assert str(tmp_path / "gone.wav") in found.words


def test_the_limits_are_told(written):
    words = html.unescape(written().words)
    for limit in (
        "10 strongest",
        "120",
        "200 recordings",
        "1200 columns",
        "300 on each",
        "5 minutes",
        "12 MB",
        "50 MB",
    ):
        assert re.search(limit.replace(" ", r"(?: \w+){0,2} "), words), limit


@pytest.mark.parametrize(("seconds", "told"), [(0.9, "0:00"), (65, "1:05"), (3725.4, "1:02:05"), (43_200, "12:00:00")])
def test_a_time_is_told_as_a_clock_does(seconds, told):
    assert page.clock(seconds) == told


def test_a_long_detection_is_shown_from_its_beginning_and_no_longer_than_said(written, tmp_path):
    path = whistle(tmp_path / "a.wav", 60.0)
    found = written(result(path, [[0.9, 0, 0]], row_s=60.0))
    clip, _ = found.all("audio")
    assert clip["aria-label"] == "score 0.90, a.wav, 0:00 to 1:00"
    assert len(decoded(clip["src"])) == report.CLIP_S * RATE


def test_of_consecutive_detections_that_are_one_the_strongest_is_shown(written, tmp_path):
    scores = [[0.3, 0, 0]] * 8 + [[0.9, 0, 0]] + [[0.3, 0, 0]] * 3
    found = written(
        result(whistle(tmp_path / "a.wav", 60.0), scores), detection_filter=DetectionFilter(0.25, merge=True)
    )
    assert found.all("audio")[0]["aria-label"] == "score 0.90, a.wav, 0:40 to 0:45"
    assert "1 detection," in found.words
    assert len(found.all("button", "box")) == 1


def test_the_class_of_no_bird_is_no_species(tmp_path):
    labels = (*LABELS[:2], "nocall")
    night = result(whistle(tmp_path / "night.wav"), [[0.5, 0, 0.9]] * 4)
    silence = result(whistle(tmp_path / "silence.wav"), [[0, 0, 0.99]] * 4)
    heard = gather([silence, night], SHOWN, nocall_index=2)
    assert heard.ranked == [0]
    assert heard.counts == {0: 4}
    assert heard.highest == 0.5
    write_report(tmp_path / "page.html", iter([silence, night]), replace(CARD, labels=labels), SHOWN, ["a", "b"])
    words = Page(tmp_path / "page.html").words
    assert "4 of 1 species" in words
    assert "a, b; 3 classes" in words


def test_a_recording_without_detections_has_no_highest_score_among_them(written, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "RECORDINGS", 1)
    found = written(result(whistle(tmp_path / "a.wav"), SCORES), result(whistle(tmp_path / "b.wav"), [[0.2, 0, 0]]))
    assert "0.00" not in found.words
