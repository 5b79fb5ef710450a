"""What was heard, to look at and listen to: scores -> one HTML page that needs nothing beside it.

Of hours of audio a page can hold only so much; the constants say how much, and the page says it too.
"""

import base64
import heapq
import os
import urllib.parse
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np
from tqdm import tqdm

from dataloader.audio.decoding import BadRecording
from dataloader.cache.spectrogram import MelSpectrogram
from dataloader.metadata import NOCALL
from factory.model_card import ModelCard
from inference import media, page
from inference.tables import Detection, DetectionFilter, Result, detections, words
from utils.files import whole

CLIPS = 10  # of a species, its strongest detections ...
ALL_CLIPS = 120  # ... and of all together: with many species fewer of each, at least one
CLIP_S = 10.0  # seconds of a detection that are shown
RECORDINGS = 200  # drawn; of more, those with the strongest detections
BOXES = 300  # detections drawn on one picture, the strongest
COLUMNS = 1200  # of a picture, at most
SHORT_S = 300.0  # a recording up to here is put into the page ...
SHORT_BYTES = 12_000_000  # ... until they take so much together; others are played from where they lie
PAGE_BYTES = 50_000_000  # no more pictures and sounds beyond


class Strong(NamedTuple):
    """A detection that stands out; ``recording`` is a number."""

    score: float
    recording: int
    one: Detection


@dataclass
class Recording:
    """A recording as the page tells of it.

    Attributes:
        told: its strongest detections, by time.
        count: of all its detections.
    """

    path: Path
    seconds: float
    told: list[Detection]
    count: int

    @property
    def best(self) -> float:
        return max((one.score for one in self.told), default=0.0)


@dataclass
class Heard:
    """What the page tells, gathered in one pass over the results.

    Attributes:
        strongest: for each label heard its strongest detections, the best first.
        counts: for each label heard the number of its detections.
        highest: score of all, told or not.
    """

    recordings: list[Recording] = field(default_factory=list)
    strongest: dict[int, list[Strong]] = field(default_factory=dict)
    counts: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    highest: float = 0.0

    @property
    def ranked(self) -> list[int]:
        """The labels heard, the one with the strongest detection first."""
        return sorted(self.strongest, key=lambda label: -self.strongest[label][0].score)

    @property
    def drawn(self) -> list[int]:
        """Numbers of the recordings that get a picture, in order."""
        numbers = range(len(self.recordings))
        return sorted(heapq.nlargest(RECORDINGS, numbers, key=lambda number: self.recordings[number].best))


def write_report(
    path: Path,
    results: Iterable[Result],
    card: ModelCard,
    detection_filter: DetectionFilter,
    models: Sequence[str] = (),
) -> None:
    """Write the page, whole or not at all.

    Args:
        card: of the first model.
        detection_filter: which detections are told.
        models: the types of all that the scores are of; none: it is the one of ``card``.
    """
    heard = gather(results, detection_filter, nocall_index=card.labels.index(NOCALL) if NOCALL in card.labels else None)
    mel = MelSpectrogram(card.process)
    with whole(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        out = _Page(file)
        out.write(page.head(f"Heard in {_count(len(heard.recordings), 'recording')}"))
        out.write(_introduction(heard, card, detection_filter, models or [card.model_type]))
        for text in _species(heard, card, mel, out):
            out.write(text)
        out.write(page.heading("Recordings"))
        for text in _recordings(heard, card, mel, out, path):
            out.write(text)
        out.write(_limits())
        out.write(page.end())


def gather(results: Iterable[Result], detection_filter: DetectionFilter, nocall_index: int | None = None) -> Heard:
    """Keep of the results what the page tells of them, and forget the rest.

    Args:
        nocall_index: the label that says that no bird calls; it is no species, and not told.
    """
    heard = Heard()
    for number, result in enumerate(results):
        found = [one for one in detections(result, detection_filter) if one.label != nocall_index]
        single = found  # rows: of consecutive ones that are told as one, the strongest is the moment to show
        if detection_filter.merge:
            single = [
                one for one in detections(result, replace(detection_filter, merge=False)) if one.label != nocall_index
            ]
        told = sorted(heapq.nlargest(BOXES, found, key=lambda one: one.score))
        heard.recordings.append(Recording(result.path, result.seconds, told, len(found)))
        scores = result.scores if nocall_index is None else np.delete(result.scores, nocall_index, axis=1)
        heard.highest = max(heard.highest, float(scores.max(initial=0.0)))
        for one in found:
            heard.counts[one.label] += 1
        by_label = defaultdict(list)
        for one in single:
            by_label[one.label].append(one)
        for label, its in by_label.items():
            new = [Strong(one.score, number, one) for one in _apart(its)]
            heard.strongest[label] = heapq.nlargest(
                CLIPS, heard.strongest.get(label, []) + new, key=lambda strong: strong.score
            )
    return heard


def _apart(found: Iterable[Detection]) -> list[Detection]:
    """The strongest detections that do not overlap: with overlapping rows, one call is in several."""
    chosen: list[Detection] = []
    for one in sorted(found, key=lambda one: -one.score):
        if len(chosen) == CLIPS:
            break
        if all(one.start_s >= other.end_s or one.end_s <= other.start_s for other in chosen):
            chosen.append(one)
    return chosen


class _Page:
    """The file being written, and how much fits into it."""

    def __init__(self, file: TextIO):
        self._file, self._size, self._short = file, 0, 0

    def write(self, text: str) -> None:
        self._file.write(text)
        self._size += len(text)

    @property
    def full(self) -> bool:
        return self._size >= PAGE_BYTES

    def takes_sound(self, seconds: float) -> bool:
        """Whether a whole recording fits in as sound; if so, its room is taken."""
        needed = round(seconds * media.SOUND_BYTES_S * 4 / 3)  # base64
        fits = seconds <= SHORT_S and self._short + needed <= SHORT_BYTES and self._size + needed <= PAGE_BYTES
        self._short += needed if fits else 0
        return fits


def _introduction(heard: Heard, card: ModelCard, detection_filter: DetectionFilter, models: Sequence[str]) -> str:
    hours = sum(one.seconds for one in heard.recordings) / 3600
    pairs = [
        ("Model", f"{', '.join(models)}; {_count(len(card.labels), 'class', 'classes')}"),
        ("Audio", f"{hours:.2f} hours in {_count(len(heard.recordings), 'recording')}"),
        ("Shown", _told(detection_filter)),
        ("Detections", f"{sum(heard.counts.values())} of {len(heard.counts)} species"),
    ]
    if heard.strongest:
        entries = [
            (f"s{label}", _name(card, label), heard.counts[label], page.colour(rank))
            for rank, label in enumerate(heard.ranked)
        ]
        return page.terms(pairs) + page.contents(entries)
    nothing = (
        f"No detection among what is shown: {_told(detection_filter)}. The highest score of all is {heard.highest:.2f}."
    )
    return page.terms(pairs) + page.paragraph(f"{nothing} A lower --threshold shows more.")


def _species(heard: Heard, card: ModelCard, mel: MelSpectrogram, out: _Page) -> Iterator[str]:
    """A section for each species, the surest first."""
    if not heard.strongest:
        return
    yield page.heading("Species")
    each = max(1, ALL_CLIPS // len(heard.strongest))
    for rank, label in enumerate(tqdm(heard.ranked, desc="clips", unit="species", leave=False, disable=None)):
        shown = heard.strongest[label][:each] if not out.full else []
        clips = [_clip(strong, heard.recordings[strong.recording].path, mel) for strong in shown]
        told = f"{_count(heard.counts[label], 'detection')}, label {card.labels[label]}"
        if len(clips) < heard.counts[label]:
            told += f"; the strongest {len(clips)}" if clips else "; no room for them"
        yield page.species(
            f"s{label}", _name(card, label), card.scientific_names[label], told, page.colour(rank), clips
        )


def _clip(strong: Strong, path: Path, mel: MelSpectrogram) -> str:
    one = strong.one
    span = (one.start_s, min(one.end_s - one.start_s, CLIP_S))
    try:
        picture, sound = _uri(media.png(media.excerpt(path, mel, *span)), "image/png"), media.mp3(path, *span)
    except BadRecording:  # damaged there, or gone since it was scored
        picture, sound = "", b""
    place = f"{words(Path(path.name))}, {page.clock(one.start_s)} to {page.clock(one.end_s)}"
    sound = _uri(sound, "audio/mpeg") if sound else ""
    return page.clip(f"score {one.score:.2f}", place, f"r{strong.recording}", one.start_s, picture, sound)


def _recordings(heard: Heard, card: ModelCard, mel: MelSpectrogram, out: _Page, path: Path) -> Iterator[str]:
    """Each recording with its detections, then those that are not drawn."""
    colours = {label: page.colour(rank) for rank, label in enumerate(heard.ranked)}
    left = sorted(set(range(len(heard.recordings))) - set(heard.drawn))
    for number in tqdm(heard.drawn, desc="pictures", unit="recording", leave=False, disable=None):
        recording = heard.recordings[number]
        if out.full:
            left.append(number)
            continue
        try:
            db = media.overview(recording.path, mel, recording.seconds, COLUMNS)
            sound, note = _sound(recording, out, path)
        except BadRecording:
            left.append(number)
            continue
        yield page.recording(
            f"r{number}", words(recording.path), recording.seconds, _found(recording),
            _uri(media.png(db), "image/png"), mel.mel_frequencies, _boxes(recording, card, colours),
            len({one.label for one in recording.told}), sound, note,
        )  # fmt: skip
    if left:
        yield page.heading("Recordings without a picture")
        rows = ((f"r{number}", heard.recordings[number]) for number in sorted(left))
        yield page.table(
            ("recording", "length", "detections", "highest score"),
            ((key, words(one.path), page.clock(one.seconds), one.count, _best(one)) for key, one in rows),
        )


def _boxes(recording: Recording, card: ModelCard, colours: dict[int, str]) -> Iterator[str]:
    lanes: dict[int, int] = {}  # label -> its lane in this picture
    for one in recording.told:
        name, lane = _name(card, one.label), lanes.setdefault(one.label, len(lanes))
        told = f"{name} {one.score:.2f}, {page.clock(one.start_s)} to {page.clock(one.end_s)}"
        start, end = one.start_s / recording.seconds, one.end_s / recording.seconds
        yield page.box(start, end, one.start_s, lane, colours[one.label], name, told)


def _sound(recording: Recording, out: _Page, path: Path) -> tuple[str, str]:
    """What the player plays, and what is to be known of it."""
    if out.takes_sound(recording.seconds):
        return _uri(media.mp3(recording.path), "audio/mpeg"), ""
    place = os.path.abspath(recording.path)
    try:
        place = os.path.relpath(place, os.path.abspath(path.parent))
    except ValueError:  # Windows: on another drive
        return Path(place).as_uri(), "Played from where the recording lies."
    url = urllib.parse.quote(os.fsencode(place.replace(os.sep, "/")))
    return url, "Played from where the recording lies: keep it there, as seen from this page."


def _found(recording: Recording) -> str:
    drawn = f", the strongest {len(recording.told)} drawn" if len(recording.told) < recording.count else ""
    return f"{_count(recording.count, 'detection')}{drawn}; {page.clock(recording.seconds)} long."


def _best(recording: Recording) -> str:
    """Its highest score, if any is told."""
    return f"{recording.best:.2f}" if recording.count else ""


def _limits() -> str:
    return page.heading("What this page leaves out") + page.paragraph(
        f"Of each species the {CLIPS} strongest detections that do not overlap, of all species together about "
        f"{ALL_CLIPS}, at most {CLIP_S:g} s of each. Pictures of {RECORDINGS} recordings, those with the strongest "
        f"detections, of {COLUMNS} columns: in a long recording each column is the loudest moment of the seconds it "
        f"stands for; at most {BOXES} detections on each. Sound of recordings up to {SHORT_S / 60:g} minutes, "
        f"{SHORT_BYTES / 1e6:.0f} MB together; longer ones are played from their own files. "
        f"About {PAGE_BYTES / 1e6:.0f} MB in all. Brightness is loudness above a band's own median."
    )


def _told(detection_filter: DetectionFilter) -> str:
    parts = [f"scores of at least {detection_filter.threshold:g}"] if detection_filter.threshold is not None else []
    parts += [f"the best {detection_filter.top_k} of each row"] if detection_filter.top_k is not None else []
    parts += ["consecutive ones as one"] if detection_filter.merge else []
    return ", ".join(parts) or "all scores"


def _name(card: ModelCard, label: int) -> str:
    return card.common_names[label] or card.labels[label]


def _count(number: int, one: str, many: Sequence[str] = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def _uri(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
