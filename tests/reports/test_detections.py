"""Is the page of detections one file that shows, counts and plays what was found, and states what it leaves out?"""

import base64
import html
import io
import json
import os
import re
import time
import urllib.parse
from datetime import datetime
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from reports import detections, findings
from reports.detections import write_report
from reports.findings import ListedDetection, ListedRecording, Recording, Species, gather, time_axis
from utils.settings import DataProcess

RATE = 32_000  # Hz
VOID = {"meta", "img", "br", "input", "link"}
SPECIES = [Species("wren", "Troglodytes", "Wren"), Species("owl", "Strix"), Species("<i>x", "A & B", "<b>")]
LOW_HZ, HIGH_HZ = 1000, 3000


class Page(HTMLParser):
    """A page's elements, each ``(tag, attributes)``; fails on a tag that is not closed, or is closed twice."""

    def __init__(self, path: Path):
        super().__init__()
        self.text, self.elements, self._open = path.read_text(encoding="utf-8"), [], []
        self.words, self.data = "", None
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
        if self.elements and self.elements[-1] == ("script", {"type": "application/json", "id": "data"}):
            self.data = self.data or json.loads(data)
        elif self._open[-1:] not in (["script"], ["style"]):
            self.words += data

    def all(self, tag, kind=None):
        return [its for name, its in self.elements if name == tag and (kind is None or its.get("class") == kind)]


def whistle(path: Path, seconds: float = 20.0) -> Path:
    """Half of it low, half of it high, in some noise."""
    at = np.arange(round(seconds * RATE)) / RATE
    tone = np.sin(2 * np.pi * np.where(at < seconds / 2, LOW_HZ, HIGH_HZ) * at)
    sf.write(path, 0.2 * tone + np.random.default_rng(1).normal(0, 0.001, len(at)), RATE)
    return path


def recording(path: Path, scores, row_s: float = 5.0, step_s: float = 5.0, threshold: float = 0.25) -> Recording:
    scores = np.array(scores)
    found = [
        ListedDetection(row * step_s, row * step_s + row_s, int(key), float(scores[row, key]), row * step_s)
        for row, key in np.argwhere(scores >= threshold)
    ]
    return Recording(path, (len(scores) - 1) * step_s + row_s, found, float(scores.max()))


SCORES = [[0.1, 0.0, 0.0], [0.9, 0.3, 0.0], [0.0, 0.0, 0.0], [0.6, 0.0, 0.4]]  # 4 rows of 5 s


@pytest.fixture
def written(tmp_path):
    """Write a page of these recordings (default: a whistle with SCORES) and read it."""

    def write(*recordings, process=DataProcess()):  # noqa: B008 - frozen
        recordings = recordings or (recording(whistle(tmp_path / "night.wav"), SCORES),)
        shown = "scores of at least 0.25"
        given = {"recordings": iter(recordings), "species": SPECIES, "process": process, "models": ["a", "b"]}
        write_report(tmp_path / "page.html", **given, shown=shown)
        return Page(tmp_path / "page.html")

    return write


def decoded(uri: str) -> np.ndarray:
    assert uri.startswith("data:audio/mpeg;base64,")
    samples, rate = sf.read(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    assert rate == RATE
    return samples


def loudest_hz(samples: np.ndarray) -> float:
    return np.abs(np.fft.rfft(samples)).argmax() * RATE / len(samples)


def players(found: Page) -> dict[str, str]:
    return {its["aria-label"]: its["src"] for its in found.all("audio")}


# The page


def test_the_page_needs_nothing_beside_it(written):
    found = written()
    assert [its["href"] for its in found.all("link")] == ["data:,"]  # no icon is asked for
    assert all("src" not in script for script in found.all("script"))
    sources = [its["src"] for tag in ("img", "audio") for its in found.all(tag)]
    assert len(sources) == 2 * (1 + 4)  # the recording, and four detections
    assert all(source.startswith("data:") for source in sources)
    assert "http" not in re.sub(r'"data:[^"]*"', "", found.text)


def test_pictures_players_and_controls_have_names_for_those_who_do_not_see_them(written):
    found = written()
    assert all(its["alt"].startswith("spectrogram of") for its in found.all("img"))
    assert all(its["aria-label"] for tag in ("audio", "canvas", "form") for its in found.all(tag))
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
    found = written(recording(whistle(odd), SCORES))
    assert len(found.all("script")) == 2
    assert not found.all("b")
    assert str(odd) in found.words
    assert "A & B" in found.words
    assert found.data["recordings"] == [odd.name]
    assert any(odd.name in its["alt"] for its in found.all("img"))


def test_a_name_that_is_not_utf8_can_be_shown(written, tmp_path):
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.wav"))
    whistle(tmp_path / "a.wav").rename(odd)
    assert "\\xff.wav" in written(recording(odd, SCORES)).words


def test_species_are_in_order_of_their_strongest_detection(written):
    found = written()
    assert [its["data-species"] for its in found.all("section")] == ["0", "1", "2"]
    assert [one["name"] for one in found.data["species"]] == ["Wren", "<b>", "owl"]


def test_without_a_detection_the_page_says_so_and_how_far_it_was(written, tmp_path):
    found = written(recording(whistle(tmp_path / "a.wav"), SCORES, threshold=0.95))
    assert "No detection" in found.words
    assert "at least 0.25. The highest score of all is 0.90." in found.words
    assert len(found.all("figure", "recording")) == 1  # to be looked at all the same
    assert not found.all("section")


def test_the_page_is_written_completely_or_not_at_all(written, tmp_path, monkeypatch):
    (tmp_path / "page.html").write_text("an older page")
    monkeypatch.setattr(detections, "overview", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        written()
    assert (tmp_path / "page.html").read_text() == "an older page"
    assert not list(tmp_path.glob(".*"))


# Sound


def test_a_short_recording_is_in_the_page_and_a_detection_has_its_own_sound(written):
    found = players(written())
    assert len(decoded(list(found.values())[-1])) == 20 * RATE
    low, high = found["score 0.90, night.wav, 0:05 to 0:10"], found["score 0.60, night.wav, 0:15 to 0:20"]
    assert loudest_hz(decoded(low)) == pytest.approx(LOW_HZ, abs=5)
    assert loudest_hz(decoded(high)) == pytest.approx(HIGH_HZ, abs=5)


@pytest.mark.parametrize(("name", "value"), [("SHORT_S", 19.0), ("SHORT_BYTES", 1000)])
def test_a_long_recording_is_played_from_its_own_file(written, tmp_path, monkeypatch, name, value):
    monkeypatch.setattr(detections, name, value)
    folder = tmp_path / "a #1%20: ä"
    folder.mkdir()
    found = written(recording(whistle(folder / "long.wav"), SCORES))
    source = found.all("audio")[-1]["src"]
    assert ":" not in source
    assert tmp_path / urllib.parse.unquote(source) == folder / "long.wav"
    assert "keep the file where it is" in found.words


def test_bats_are_played_ten_times_slower_and_the_page_says_so(written, tmp_path):
    path, rate = tmp_path / "bat.wav", 384_000
    sf.write(path, 0.5 * np.sin(2 * np.pi * 50_000 * np.arange(rate) / rate), rate)
    bats = DataProcess(sample_rate=256_000, f_min=10_000.0, f_max=120_000.0, n_fft=2048, hop_length=1000, n_mels=64)
    found = written(recording(path, [[0.9, 0, 0]], row_s=1.0), process=bats)
    assert "50 kHz is heard at 5 kHz" in html.unescape(found.words)
    assert {its["data-slower"] for its in found.all("figure", "recording")} == {"10"}
    for source in players(found).values():
        sound = decoded(source)
        assert len(sound) == pytest.approx(10 * RATE, rel=0.02)
        assert loudest_hz(sound) == pytest.approx(5000, abs=5)


# What is counted, and what is left out


def test_what_is_counted_is_listed(written, tmp_path):
    a, b = recording(whistle(tmp_path / "a.wav"), SCORES), recording(whistle(tmp_path / "b.wav"), SCORES[1:])
    found = written(a, b)
    assert "8 detections of 3 species" in found.words
    assert {len(column) for column in found.data["detections"].values()} == {8}
    assert [its["data-score"] for its in found.all("figure") if "data-score" in its].count("0.9") == 2


def test_a_rare_species_is_listed_beside_one_that_calls_all_night(monkeypatch):
    monkeypatch.setattr(findings, "LISTED", 100)
    night = [ListedDetection(at, at + 5.0, 0, 0.9, at) for at in np.arange(0.0, 5000.0, 5.0)]
    rare = [ListedDetection(at, at + 5.0, 1, 0.3, at) for at in np.arange(0.0, 50.0, 5.0)]
    found = gather([Recording(Path("a"), 5000.0, night, 0.9), Recording(Path("b"), 50.0, rare, 0.3)] * 2)
    assert {key: len(its) for key, its in found.listed.items()} == {0: 80, 1: 20}
    assert found.counts == {0: 2000, 1: 20}


def test_the_page_states_how_many_detections_it_does_not_list(written, tmp_path, monkeypatch):
    monkeypatch.setattr(findings, "LISTED", 3)
    found = written()
    assert "Of 4 detections 3 are listed and drawn: the strongest of each species, at most 1 of one." in found.words
    assert "3 detections of 3 species" in found.words


def test_the_strongest_of_all_recordings_are_kept_and_one_call_is_shown_once():
    rising = [[score, 0, 0] for score in np.linspace(0.3, 0.8, 30)]
    found = gather([recording(Path("a"), rising, step_s=1.0), recording(Path("b"), [[0.95, 0, 0]])])
    assert found.counts[0] == 31
    strongest = found.strongest[0]
    assert [(one.recording, one.detection.start_s) for one in strongest] == [
        (1, 0.0), (0, 29.0), (0, 24.0), (0, 19.0), (0, 14.0), (0, 9.0), (0, 4.0),
    ]  # fmt: skip
    assert [one.score for one in strongest] == sorted((one.score for one in strongest), reverse=True)


def test_a_recording_that_is_not_drawn_is_named(written, tmp_path, monkeypatch):
    monkeypatch.setattr(detections, "RECORDINGS", 1)
    quiet, loud = whistle(tmp_path / "quiet.wav"), whistle(tmp_path / "loud.wav")
    found = written(recording(quiet, [[0.5, 0, 0]]), recording(loud, [[0.9, 0, 0]]))
    assert [its["id"] for its in found.all("figure", "recording")] == ["r1"]
    assert "Recordings without a picture" in found.words
    assert str(quiet) in found.words
    assert "r0" in [its.get("id") for its in found.all("tr")]  # where the link of its clip leads


def test_a_recording_without_detections_has_no_highest_score_among_them(written, tmp_path, monkeypatch):
    monkeypatch.setattr(detections, "RECORDINGS", 1)
    a, b = whistle(tmp_path / "a.wav"), whistle(tmp_path / "b.wav")
    assert "0.00" not in written(recording(a, SCORES), recording(b, [[0.2, 0, 0]])).words


def test_a_full_page_takes_no_more_pictures_but_names_all(written, tmp_path, monkeypatch):
    monkeypatch.setattr(detections, "CLIP_BYTES", 1)
    monkeypatch.setattr(detections, "PICTURE_BYTES", 1)
    found = written()
    assert not found.all("img")
    assert str(tmp_path / "night.wav") in found.words
    assert "there was no room for its clips" in found.words


def test_a_recording_that_has_gone_since_is_named(written, tmp_path):
    found = written(recording(whistle(tmp_path / "a.wav"), SCORES), recording(tmp_path / "gone.wav", SCORES))
    assert len(found.all("figure", "recording")) == 1
    assert str(tmp_path / "gone.wav") in found.words


def test_the_page_states_its_limits(written):
    words = html.unescape(written().words)
    for limit in (
        "50,000 detections",
        "10 strongest",
        "about 120",
        "200 recordings",
        "1200 columns",
        "5 minutes",
        "50 MB",
    ):
        assert limit in words, limit


def test_a_long_detection_is_shown_from_its_strongest_moment_and_no_longer_than_stated(written, tmp_path):
    path = whistle(tmp_path / "a.wav", 60.0)
    found = players(written(Recording(path, 60.0, [ListedDetection(0.0, 60.0, 0, 0.9, 40.0)], 0.9)))
    sound = decoded(found["score 0.90, a.wav, 0:00 to 1:00"])
    assert len(sound) == detections.CLIP_S * RATE
    assert loudest_hz(sound) == pytest.approx(HIGH_HZ, abs=5)


def test_a_long_recording_is_drawn_in_parts(written, tmp_path, monkeypatch):
    monkeypatch.setattr(detections, "PART_S", 10.0)
    found = written(recording(whistle(tmp_path / "a.wav", 25.0), [[0.9, 0, 0]] * 5))
    assert [its["value"] for its in found.all("option")][-4:] == ["-1", "0", "1", "2"]
    parts = json.loads(re.search(r'class="pictures">(.*?)</script>', found.text, re.DOTALL)[1])
    assert parts["seconds"] == 10.0
    assert len(set(parts["uris"])) == 3


# The overview


def listed(started=None, seconds=3600.0):
    return ListedRecording(Path("a"), seconds, started)


def test_the_overview_goes_by_the_hour_of_the_day_where_all_start_times_are_known():
    evening, morning = datetime(2024, 5, 1, 21, 30), datetime(2024, 5, 2, 4, 0)
    axis = time_axis([listed(evening, 5400.0), listed(morning)])
    assert axis["bins"] == ["21:00", "22:00", "23:00", "00:00", "01:00", "02:00", "03:00", "04:00"]
    assert axis["starts"] == [21.5 * 3600, 4 * 3600]
    assert (axis["first"], axis["wraps"]) == (21, True)


def test_the_start_times_are_those_that_recorders_write_into_names():
    night = [Recording(Path(f"20240501_{hour}0000.wav"), 60.0, [], 0.0) for hour in (22, 23)]
    assert time_axis(gather(night).recordings)["bins"] == ["22:00", "23:00"]


@pytest.mark.parametrize(("seconds", "bins"), [(20.0, 1), (1200.0, 20), (3600.0, 12), (36_000.0, 10), (2e6, 24)])
def test_without_start_times_the_overview_goes_by_the_time_in_the_recording(seconds, bins):
    assert len(time_axis([listed(seconds=seconds), listed(datetime(2024, 5, 1), 20.0)])["bins"]) == bins


# In a browser


def test_the_filter_applies_to_what_is_counted_listed_and_drawn(written, tmp_path, browser, console):
    written(recording(whistle(tmp_path / "a.wav"), SCORES), recording(whistle(tmp_path / "b.wav"), SCORES[1:]))
    browser.open(tmp_path / "page.html")
    shown = "return document.getElementById('shown').textContent"
    rows = "return document.querySelectorAll('#rows tbody tr').length"
    in_overview = (
        "return [...document.querySelectorAll('#hours td')].reduce((sum, td) => sum + Number(td.textContent), 0)"
    )
    assert (browser.ask(shown), browser.ask(rows), browser.ask(in_overview)) == ("8 detections", 8, 8)
    browser.ask("const s = document.getElementById('threshold'); s.value = 0.5; s.dispatchEvent(new Event('input'))")
    browser.wait(f"{shown} === '4 of 8 detections'")
    assert (browser.ask(rows), browser.ask(in_overview)) == (4, 4)
    assert browser.ask("return document.querySelectorAll('section:not([hidden])').length") == 1
    browser.ask("const s = document.getElementById('species'); s.value = 1; s.dispatchEvent(new Event('change'))")
    browser.wait("return document.getElementById('shown').textContent === '0 of 8 detections'")


def test_the_page_works_by_keyboard_and_its_players_play(written, tmp_path, browser, console):
    written()
    browser.open(tmp_path / "page.html")
    browser.ask("document.querySelector('.lanes').focus()")
    browser.press("ARROW_RIGHT")
    status = "return document.querySelector('.recording .status').textContent"
    assert browser.ask(status) == "Wren 0.90, 0:05 to 0:10"
    browser.press("ARROW_RIGHT", "ARROW_RIGHT")
    assert browser.ask(status) == "Wren 0.60, 0:15 to 0:20"
    assert browser.ask("return document.querySelector('.mark').style.left") == "75%"
    browser.press("ENTER")
    browser.wait("return document.querySelector('.recording audio').currentTime > 15")
    browser.ask("document.querySelector('.clips audio').play()")
    browser.wait("return document.querySelector('.clips audio').currentTime > 0.05")
    assert browser.ask("return document.querySelector('.recording audio').paused")


def test_a_click_on_the_head_of_the_list_sorts_it(written, tmp_path, browser, console):
    written()
    browser.open(tmp_path / "page.html")
    names = "return [...document.querySelectorAll('#rows tbody tr')].map(row => row.cells[1].textContent.trim())"
    assert browser.ask(names) == ["Wren", "Wren", "<b>", "owl"]
    browser.ask("document.querySelector('#rows [data-key=species]').click()")
    assert browser.ask(names) == ["<b>", "owl", "Wren", "Wren"]
    assert browser.ask("return document.querySelector('#rows [aria-sort]').ariaSort") == "ascending"


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_fits_a_phone(written, tmp_path, browser, console, dark):
    written()
    browser.open(tmp_path / "page.html", width=400, dark=dark)
    assert not browser.is_too_wide()
    back = browser.ask("return getComputedStyle(document.body).backgroundColor")
    assert (back != "rgb(255, 255, 255)") == dark


def test_a_night_of_20000_detections_opens_in_time(tmp_path, monkeypatch, browser, console):
    rng = np.random.default_rng(1)
    picture = detections.media.png(rng.normal(size=(128, 1200)))  # as large as a picture of noise is
    monkeypatch.setattr(detections, "overview", lambda path, mel, s, columns, **_: np.zeros((128, columns)))
    monkeypatch.setattr(detections.media, "excerpt", lambda *_, **__: None)
    monkeypatch.setattr(detections.media, "png", lambda _: picture)
    monkeypatch.setattr(detections.media, "mp3", lambda *_, **__: bytes(35_000))
    at = np.sort(rng.integers(0, 7200, 20_000)) * 5.0
    scores = rng.random(20_000)
    night = [ListedDetection(one, one + 5, int(one) % 15, score, one) for one, score in zip(at, scores, strict=True)]
    path = whistle(tmp_path / "night.wav", 5.0)
    species = [Species(f"species {number}") for number in range(15)]
    given = {"recordings": [Recording(path, 36_000.0, night, 1.0)], "species": species, "process": DataProcess()}
    write_report(tmp_path / "night.html", **given, models=["a"], shown="all")
    assert (tmp_path / "night.html").stat().st_size < 50e6
    started = time.perf_counter()
    browser.open(tmp_path / "night.html")
    browser.wait("return document.getElementById('shown').textContent === '20,000 detections'")
    seconds = time.perf_counter() - started
    assert browser.ask("return document.querySelectorAll('#rows tbody tr').length") == 50
    assert seconds < 6  # 1 s alone; a busy machine must not fail it
