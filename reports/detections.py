"""What is on the page of detections? What was detected in some recordings, to see, listen to and sort.

The page can hold only a part of hours of sound. The constants below limit that part, and the page states them.
"""

import heapq
import logging
import math
import os
import urllib.parse
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from dataloader.audio.decoding import BadRecording
from dataloader.audio.recorder import what_the_recorder_wrote
from dataloader.cache.overview import narrowed, overview
from dataloader.cache.spectrogram import MelSpectrogram
from reports import media
from reports.page import Room, data_uri, frequency_ticks, hue, write_page
from utils.errors import counted
from utils.files import printable
from utils.settings import DataProcess
from utils.visualise import clock

log = logging.getLogger(__name__)

LISTED = 50_000  # detections on the page; if there are more, the strongest of each species are listed
CLIPS = 10  # the strongest detections of a species, each shown with its picture and sound
ALL_CLIPS = 120  # clips of all species together; with many species each has fewer, but at least one
OPEN = 3  # species whose clips are shown before the reader opens them
CLIP_S = 10.0  # seconds of a detection that are shown
BAT_CLIP_S = 2.0  # the same for calls that are played slower
RECORDINGS = 200  # recordings that are drawn; if there are more, those with the strongest detections
COLUMNS = 1200  # the widest picture, in pixels
PART_S = 600.0  # a recording that is much longer is also drawn in parts of this length
PARTS = 150  # of a recording, at most; a still longer recording has longer parts
SHORT_S = 300.0  # a recording whose sound takes up to so long is put into the page; others are played from their files
SHORT_BYTES = 12_000_000  # the limit of these sounds together
CLIP_BYTES = 18_000_000  # the limit of all clips together
PICTURE_BYTES = 16_000_000  # the limit of all pictures of recordings; pictures of parts get what whole pictures leave
_BINS_S = (60, 300, 900, 3600, 7200, 14_400, 86_400)  # columns of the overview, where no start times are known
_COLUMNS = 24  # columns of the overview, at most


class ListedDetection(NamedTuple):
    """A species somewhere in a recording.

    Attributes:
        species: its number among those of the model.
        peak_s: the moment that shows it best: the start of its strongest row.
    """

    start_s: float
    end_s: float
    species: int
    score: float
    peak_s: float


class Recording(NamedTuple):
    """A recording that was scored.

    Attributes:
        detections: rows of the fields of ``ListedDetection``.
        highest: the highest score of any species in it, detection or not.
        started: when it began, if that is known.
        time_expansion: how many times slower the file plays than the original sound; all times here are of the sound.
    """

    path: Path
    seconds: float
    detections: Iterable[Sequence[float]]
    highest: float
    started: datetime | None = None
    time_expansion: float = 1.0


class Species(NamedTuple):
    """The names of a class of the model."""

    label: str
    scientific_name: str = ""
    common_name: str = ""

    @property
    def name(self) -> str:
        return self.common_name or self.label


class Strong(NamedTuple):
    """One of the strongest detections, and the number of its recording."""

    score: float
    recording: int
    detection: ListedDetection


@dataclass
class Heard:
    """What the page keeps of a recording."""

    path: Path
    seconds: float
    started: datetime | None
    time_expansion: float = 1.0
    best: float = 0.0  # score of its detections

    @property
    def name(self) -> str:
        return printable(self.path)


@dataclass
class Found:
    """What the page shows, gathered in one pass over the recordings.

    Attributes:
        listed: for each species heard its detections; if there are too many, those of the highest scores.
        counts: for each species heard the number of all its detections.
        strongest: for each species heard the detections that get a picture, the best first.
        highest: score of all, detection or not.
    """

    recordings: list[Heard] = field(default_factory=list)
    listed: dict[int, list[Strong]] = field(default_factory=dict)
    counts: Counter[int] = field(default_factory=Counter)
    strongest: dict[int, list[Strong]] = field(default_factory=dict)
    highest: float = 0.0

    @property
    def ranked(self) -> list[int]:
        """The species heard, the one with the strongest detection first."""
        return sorted(self.strongest, key=lambda number: -self.strongest[number][0].score)

    @property
    def total(self) -> int:
        return sum(map(len, self.listed.values()))

    def prune(self, limit: int) -> None:
        """Leave ``limit`` detections listed: of each species the strongest, and as many of each as that allows."""
        if self.total <= limit:
            return
        left, quota = limit, 0
        for number, size in enumerate(sorted(map(len, self.listed.values()))):
            quota = left // (len(self.listed) - number)  # an equal share of what the smaller ones leave
            left -= min(size, quota)
        for number, its in self.listed.items():
            self.listed[number] = heapq.nlargest(quota, its)


def write_report(
    path: Path, *, recordings: Iterable[Sequence[Any]], species: Sequence[Sequence[str]], process: DataProcess,
    models: Sequence[str], shown: str,
) -> None:  # fmt: skip
    """Write the page, whole or not at all.

    Args:
        recordings: each the fields of ``Recording``, in order; the last may be left out.
        species: the fields of ``Species`` of the model's classes, in the order of ``ListedDetection.species``.
        process: the settings of the first model's spectrograms, for the pictures.
        models: the types of all models that the scores are of.
        shown: a sentence that says which scores are detections.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    species = [Species(*names) for names in species]
    found = gather(Recording(*one) for one in recordings)
    drawing = _Drawing(path, found, species, MelSpectrogram(process))
    axis = time_axis(found.recordings)
    listed = counted(found.total, "detection")
    facts = [
        ("Models" if len(models) > 1 else "Model", f"{', '.join(models)}; {counted(len(species), 'class', 'classes')}"),
        ("Sound", f"{_hours(found)} in {counted(len(found.recordings), 'recording')}"),
        ("Detections are", shown),
        ("Found", f"{listed} of {len(found.listed)} species" if found.total else "nothing"),
    ]
    write_page(
        path, "detections.html", title=f"Detections in {counted(len(found.recordings), 'recording')}", facts=facts,
        shown=shown, found=_for_filter(found, species), axis=axis, clips_by_species=drawing.clips(),
        recordings=drawing.recordings(), undrawn=drawing.undrawn, expanded=drawing.expanded, limits=_limits(),
        data=_data(found, species, axis),
    )  # fmt: skip
    log.info("report: %s", path)


def gather(recordings: Iterable[Recording]) -> Found:
    """Read the recordings once, and keep what the page shows of them."""
    found = Found()
    for number, recording in enumerate(recordings):
        started = recording.started or _started(recording.path)
        heard = Heard(recording.path, recording.seconds, started, recording.time_expansion)
        new: dict[int, list[Strong]] = {}
        for row in recording.detections:
            one = ListedDetection(*row)
            new.setdefault(one.species, []).append(Strong(one.score, number, one))
            heard.best = max(heard.best, one.score)
        for key, its in new.items():
            found.counts[key] += len(its)
            found.listed.setdefault(key, []).extend(its)
            found.strongest[key] = heapq.nlargest(CLIPS, found.strongest.get(key, []) + _apart(its))
        found.recordings.append(heard)
        found.highest = max(found.highest, recording.highest)
        if found.total > 2 * LISTED:  # what is left out now would be left out at the end as well
            found.prune(LISTED)
    found.prune(LISTED)
    return found


def _started(path: Path) -> datetime | None:
    """When a recording began, according to its file or the file's name; None if neither states it."""
    written = what_the_recorder_wrote(path).recorded_at
    try:
        return datetime.fromisoformat(written) if "T" in written else None  # a day alone does not give the hour
    except ValueError:
        return None


def _apart(found: Iterable[Strong]) -> list[Strong]:
    """The strongest detections that do not overlap: with overlapping rows, one call is in several."""
    chosen: list[Strong] = []
    for one in sorted(found, reverse=True):
        if len(chosen) == CLIPS:
            break
        start_s, end_s = one.detection.start_s, one.detection.end_s
        if all(start_s >= other.detection.end_s or end_s <= other.detection.start_s for other in chosen):
            chosen.append(one)
    return chosen


class _Drawing:
    """Pictures and sounds, made while the page is written, as long as there is room for them."""

    def __init__(self, path: Path, found: Found, species: Sequence[Species], mel: MelSpectrogram):
        self._path, self._found, self._species, self._mel = path, found, species, mel
        self._slower = media.slower(mel.process)
        self._sounds, self._clips, self._pictures = Room(SHORT_BYTES), Room(CLIP_BYTES), Room(PICTURE_BYTES)
        numbers = range(len(found.recordings))
        self._drawn = sorted(heapq.nlargest(RECORDINGS, numbers, key=lambda number: found.recordings[number].best))
        self._left = sorted(set(numbers) - set(self._drawn))
        self._listed = Counter(one.recording for its in found.listed.values() for one in its)

    @property
    def expanded(self) -> str:
        """An explanation of sounds that are played slower; empty if they are played at their own speed."""
        if self._slower == 1:
            return ""
        return (
            f"The model hears up to {self._mel.process.f_max / 1000:g} kHz, and people up to about 20 kHz. Sounds on "
            f"this page are time-expanded: they are played {self._slower} times slower, so that a call at 50 kHz is "
            f"heard at {50 / self._slower:g} kHz."
        )

    def clips(self) -> Iterator[dict[str, Any]]:
        """A section for each species, the surest first."""
        each = max(1, ALL_CLIPS // max(1, len(self._found.strongest)))
        ranked = enumerate(self._found.ranked)
        for rank, key in tqdm(ranked, desc="clips", total=len(self._found.strongest), leave=False, disable=None):
            clips = [clip for one in self._found.strongest[key][:each] if (clip := self._clip(one)) is not None]
            known, number = self._species[key], self._found.counts[key]
            note = f"the strongest {len(clips)}" if clips else "there was no room for its clips"
            yield {
                "number": rank, "hue": hue(rank), "name": known.name, "scientific": known.scientific_name,
                "label": known.label, "count": len(self._found.listed[key]), "clips": clips,
                "note": note if len(clips) < number else "", "open": rank < OPEN,
            }  # fmt: skip

    def _clip(self, strong: Strong) -> dict[str, Any] | None:
        """The picture and sound of one detection; None if the page has no more room."""
        one, heard = strong.detection, self._found.recordings[strong.recording]
        path, how = heard.path, {"time_expansion": heard.time_expansion}
        longest = CLIP_S if self._slower == 1 else BAT_CLIP_S
        span = (one.peak_s, min(one.end_s - one.peak_s, longest))
        try:
            picture = data_uri(media.png(media.excerpt(path, self._mel, *span, **how)), "image/png")
            sound = data_uri(media.mp3(path, *span, slower=self._slower, **how), "audio/mpeg")
        except BadRecording:  # damaged there, or gone since it was scored
            picture = sound = ""
        if not self._clips.take(len(picture) + len(sound)):
            return None
        place = f"{printable(path.name)}, {clock(one.start_s)} to {clock(one.end_s)}"
        return {
            "score": _rounded(one.score), "place": place, "words": f"score {one.score:.2f}, {place}", "sound": sound,
            "recording": strong.recording, "at": f"{one.peak_s:.3f}", "picture": picture,
        }  # fmt: skip

    def recordings(self) -> Iterator[dict[str, Any]]:
        """Each recording that is drawn, in order."""
        for number in tqdm(self._drawn, desc="pictures", unit="recording", leave=False, disable=None):
            heard = self._found.recordings[number]
            try:
                whole, parts = self._picture(heard)
                sound, note, slower = self._sound(heard)
            except BadRecording:
                whole = ""
            if not whole or not self._pictures.take(len(whole)):
                self._left.append(number)
                continue
            uris = parts["uris"] if parts and self._pictures.take(sum(map(len, parts["uris"]))) else []
            bands = self._mel.mel_frequencies
            yield {
                "number": number, "name": heard.name, "seconds": round(heard.seconds, 3), "count": self._listed[number],
                "picture": whole, "parts": parts if uris else None, "spans": _spans(heard.seconds) if uris else [],
                "low_hz": round(bands[0]), "high_hz": round(bands[-1]), "frequencies": frequency_ticks(bands),
                "sound": sound, "note": note, "slower": slower,
            }  # fmt: skip

    def _picture(self, heard: Heard) -> tuple[str, dict[str, Any] | None]:
        """The whole recording, and its parts if it is long."""
        spans = _spans(heard.seconds)
        columns = COLUMNS if len(spans) == 1 else math.ceil(heard.seconds / (spans[0][1] - spans[0][0]) * COLUMNS)
        db = overview(heard.path, self._mel, heard.seconds, columns, time_expansion=heard.time_expansion)
        whole = data_uri(media.png(narrowed(db, COLUMNS)), "image/png")
        if len(spans) == 1:
            return whole, None
        edges = [[round(at / heard.seconds * db.shape[1]) for at in span] for span in spans]
        uris = [data_uri(media.png(db[:, first : max(last, first + 1)]), "image/png") for first, last in edges]
        return whole, {"seconds": spans[0][1], "uris": uris}

    def _sound(self, heard: Heard) -> tuple[str, str, float]:
        """What the player plays, a note for the reader, and how many times slower it is played."""
        takes = heard.seconds * self._slower
        if takes <= SHORT_S and self._sounds.take(round(takes * media.SOUND_BYTES_S * 4 / 3)):  # of base64
            mp3 = media.mp3(heard.path, slower=self._slower, time_expansion=heard.time_expansion)
            return data_uri(mp3, "audio/mpeg"), "", self._slower
        note = "It is played from its own file: keep that where it is, as seen from this page."
        if self._slower > 1 and heard.time_expansion == 1:
            note += " At its own speed, its highest calls cannot be heard."
        place = os.path.abspath(heard.path)
        try:
            place = os.path.relpath(place, os.path.abspath(self._path.parent))
        except ValueError:  # Windows: on another drive
            return Path(place).as_uri(), note, heard.time_expansion
        return urllib.parse.quote(os.fsencode(place.replace(os.sep, "/"))), note, heard.time_expansion

    def undrawn(self) -> Iterator[dict[str, Any]]:
        """The recordings without a picture; read it when all others are drawn."""
        for number in sorted(self._left):
            heard = self._found.recordings[number]
            yield {
                "number": number, "name": heard.name, "seconds": heard.seconds, "count": self._listed[number],
                "best": heard.best,
            }  # fmt: skip


def _spans(seconds: float) -> list[tuple[float, float]]:
    """The parts in which a recording is drawn, in seconds; a short recording has one part."""
    if seconds <= 1.5 * PART_S:
        return [(0.0, seconds)]
    length = PART_S * math.ceil(seconds / PART_S / PARTS)
    return [(start, min(start + length, seconds)) for start in np.arange(0, seconds, length).tolist()]


def time_axis(recordings: Sequence[Heard]) -> dict[str, Any]:
    """The columns of the overview: hours of the day if all start times are known, else time within a recording.

    Returns:
        ``starts``, seconds to add to a time within each recording; ``seconds`` of a column; ``bins``, their names;
        ``first``, the number of the first; ``wraps``, whether a column is an hour of any day; ``words``.
    """
    if recordings and all(one.started is not None for one in recordings):
        return _clock_axis(recordings)
    longest = max((one.seconds for one in recordings), default=0.0)
    step = next((step for step in _BINS_S if longest <= step * _COLUMNS), math.ceil(longest / _COLUMNS / 3600) * 3600)
    number = max(1, math.ceil(longest / step))
    return {
        "starts": [0.0] * len(recordings), "seconds": step, "first": 0, "wraps": False,
        "bins": [f"{step * bin // 3600} h" if step >= 3600 else clock(step * bin) for bin in range(number)],
        "words": f"by the time since the start of a recording; a column is {_span_words(step)}",
    }  # fmt: skip


def _clock_axis(recordings: Sequence[Heard]) -> dict[str, Any]:
    starts = [one.started.hour * 3600.0 + one.started.minute * 60 + one.started.second for one in recordings]
    used = np.zeros(24, dtype=bool)
    for start, one in zip(starts, recordings, strict=True):
        last = min(start + one.seconds - 1e-6, start + 86_399)
        used[np.arange(int(start // 3600), int(max(start, last) // 3600) + 1) % 24] = True
    hours = np.flatnonzero(used)
    gaps = np.diff(hours, append=hours[0] + 24)  # a night begins after the longest time without recordings
    first = int(hours[(int(gaps.argmax()) + 1) % len(hours)])
    number = 25 - int(gaps.max())
    bins = [f"{(first + bin) % 24:02}:00" for bin in range(number)]
    words = "by the hour of the day, as the recordings' start times say"
    return {"starts": starts, "seconds": 3600, "first": first, "wraps": True, "bins": bins, "words": words}


def _span_words(seconds: float) -> str:
    return counted(round(seconds / 3600), "hour") if seconds >= 3600 else counted(round(seconds / 60), "minute")


def _for_filter(found: Found, species: Sequence[Species]) -> dict[str, Any]:
    """What the filter and the heading of the list need."""
    scores = [one.score for its in found.listed.values() for one in its]
    ranked = [{"number": rank, "name": species[key].name} for rank, key in enumerate(found.ranked)]
    total, everything = found.total, sum(found.counts.values())
    cut = f"Of {everything:,} detections {total:,} are listed and drawn: the strongest of each species, at most "
    return {
        "total": total, "highest": found.highest, "species": sorted(ranked, key=lambda one: one["name"].casefold()),
        "lowest": math.floor(100 * min(scores, default=0)) / 100,
        "highest_listed": math.ceil(100 * max(scores, default=1)) / 100,
        "left_out": cut + f"{max(map(len, found.listed.values())):,} of one." if total < everything else "",
    }  # fmt: skip


def _data(found: Found, species: Sequence[Species], axis: dict[str, Any]) -> dict[str, Any]:
    """What the script draws, counts and lists: a column for each property of the detections."""
    rows = [
        (one.recording, one.detection.start_s, rank, one.detection.end_s, one.score)
        for rank, key in enumerate(found.ranked)
        for one in found.listed[key]
    ]
    recording, start, rank, end, score = zip(*sorted(rows), strict=True) if rows else ((),) * 5
    return {
        "species": [{"name": species[key].name, "hue": hue(rank)} for rank, key in enumerate(found.ranked)],
        "recordings": [printable(one.path.name) for one in found.recordings],
        "axis": {key: value for key, value in axis.items() if key != "words"},
        "detections": {
            "recording": recording, "species": rank, "start": [round(at, 2) for at in start],
            "end": [round(at, 2) for at in end], "score": [_rounded(one) for one in score],
        },
    }  # fmt: skip


def _rounded(score: float) -> float:
    """A score with few digits; it is never rounded up to a threshold that it did not reach."""
    return math.floor(score * 10_000) / 10_000


def _hours(found: Found) -> str:
    return f"{sum(one.seconds for one in found.recordings) / 3600:.2f} hours"


def _limits() -> str:
    return (
        f"Up to {LISTED:,} detections are listed and drawn; of more, the strongest of each species. Of each species "
        f"the {CLIPS} strongest detections that do not overlap are shown as clips, of all species together about "
        f"{ALL_CLIPS}, at most {CLIP_S:g} s of each. {RECORDINGS} recordings are drawn, those with the strongest "
        f"detections, in pictures of {COLUMNS} columns: where a column stands for seconds, it shows their loudest "
        f"moment. Recordings of more than {1.5 * PART_S / 60:g} minutes are drawn in parts as well. Sound up to "
        f"{SHORT_S / 60:g} minutes long is in the page; longer recordings are played from their own files. "
        f"The page stays under 50 MB. Brightness is loudness above a band's own median."
    )
