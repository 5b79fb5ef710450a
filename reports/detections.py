"""How is the page of detections made? With pictures and sounds of what was detected, to see, to hear and to sort.

A page cannot hold hours of sound. The constants below, and those of ``reports.findings``, limit what is on it, and the
page states these limits.
"""

import heapq
import logging
import math
import os
import urllib.parse
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from dataloader.audio.decoding import BadRecording
from dataloader.cache.overview import narrowed, overview
from dataloader.cache.spectrogram import MelSpectrogram
from reports import findings, media
from reports.findings import Findings, ListedRecording, Recording, Species, Strong, gather, time_axis
from reports.page import Room, data_uri, frequency_ticks, hue, write_page
from utils.errors import counted
from utils.files import printable
from utils.settings import DataProcess
from utils.visualise import clock

log = logging.getLogger(__name__)

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
PICTURE_BYTES = 16_000_000  # the limit of all pictures of recordings; parts are drawn in the room that is left


def write_report(
    path: Path, *, recordings: Iterable[Sequence[Any]], species: Sequence[Sequence[str]], process: DataProcess,
    models: Sequence[str], shown: str,
) -> None:  # fmt: skip
    """Write the page, completely or not at all.

    Args:
        recordings: each the fields of ``Recording``, in order; the last may be left out.
        species: the fields of ``Species`` of the model's classes, in the order of ``ListedDetection.species``.
        process: the settings of the first model's spectrograms, for the pictures.
        models: the types of all models that the scores are of.
        shown: which scores are detections, as a phrase.
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


class _Drawing:
    """Pictures and sounds, made while the page is written, as long as there is room for them."""

    def __init__(self, path: Path, found: Findings, species: Sequence[Species], mel: MelSpectrogram):
        self._path, self._found, self._species, self._mel = path, found, species, mel
        self._slower = media.slower(mel.process)
        self._sounds, self._clips, self._pictures = Room(SHORT_BYTES), Room(CLIP_BYTES), Room(PICTURE_BYTES)
        numbers = range(len(found.recordings))
        self._drawn = sorted(heapq.nlargest(RECORDINGS, numbers, key=lambda number: found.recordings[number].best))
        self._left = sorted(set(numbers) - set(self._drawn))
        self._counts = Counter(one.recording for detections in found.listed.values() for one in detections)

    @property
    def expanded(self) -> str:
        """An explanation of sounds that are played slower; empty if they are played at their own speed."""
        if self._slower == 1:
            return ""
        return (
            f"The model gets sound up to {self._mel.process.f_max / 1000:g} kHz, and people hear up to about 20 kHz. "
            f"Sounds on this page are time-expanded: they are played {self._slower} times slower, so that a call at "
            f"50 kHz is heard at {50 / self._slower:g} kHz."
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
        one, listed = strong.detection, self._found.recordings[strong.recording]
        path, how = listed.path, {"time_expansion": listed.time_expansion}
        longest = CLIP_S if self._slower == 1 else BAT_CLIP_S
        span = (one.peak_s, min(one.end_s - one.peak_s, longest))
        try:
            picture = data_uri(media.png(media.excerpt(path, self._mel, *span, **how)), "image/png")
            sound = data_uri(media.mp3(path, *span, slower=self._slower, **how), "audio/mpeg")
        except BadRecording:  # damaged there, or gone since it was scored
            picture = sound = ""
        if not self._clips.take(len(picture) + len(sound)):
            return None
        where = f"{printable(path.name)}, {clock(one.start_s)} to {clock(one.end_s)}"
        return {
            "score": _rounded(one.score), "where": where, "words": f"score {one.score:.2f}, {where}", "sound": sound,
            "recording": strong.recording, "at": f"{one.peak_s:.3f}", "picture": picture,
        }  # fmt: skip

    def recordings(self) -> Iterator[dict[str, Any]]:
        """Each recording that is drawn, in order."""
        for number in tqdm(self._drawn, desc="pictures", unit="recording", leave=False, disable=None):
            listed = self._found.recordings[number]
            try:
                picture, parts = self._picture(listed)
                sound, note, slower = self._sound(listed)
            except BadRecording:
                picture = ""
            if not picture or not self._pictures.take(len(picture)):
                self._left.append(number)
                continue
            uris = parts["uris"] if parts and self._pictures.take(sum(map(len, parts["uris"]))) else []
            bands = self._mel.mel_frequencies
            yield {
                "number": number, "name": listed.name, "seconds": round(listed.seconds, 3),
                "count": self._counts[number], "picture": picture, "parts": parts if uris else None,
                "spans": _spans(listed.seconds) if uris else [],
                "low_hz": round(bands[0]), "high_hz": round(bands[-1]), "frequencies": frequency_ticks(bands),
                "sound": sound, "note": note, "slower": slower,
            }  # fmt: skip

    def _picture(self, listed: ListedRecording) -> tuple[str, dict[str, Any] | None]:
        """Pictures of the complete recording, and of its parts if it is long."""
        spans = _spans(listed.seconds)
        columns = COLUMNS if len(spans) == 1 else math.ceil(listed.seconds / (spans[0][1] - spans[0][0]) * COLUMNS)
        db = overview(listed.path, self._mel, listed.seconds, columns, time_expansion=listed.time_expansion)
        complete = data_uri(media.png(narrowed(db, COLUMNS)), "image/png")
        if len(spans) == 1:
            return complete, None
        edges = [[round(at / listed.seconds * db.shape[1]) for at in span] for span in spans]
        uris = [data_uri(media.png(db[:, first : max(last, first + 1)]), "image/png") for first, last in edges]
        return complete, {"seconds": spans[0][1], "uris": uris}

    def _sound(self, listed: ListedRecording) -> tuple[str, str, float]:
        """What the player plays, a note for the reader, and how many times slower it is played."""
        takes = listed.seconds * self._slower
        if takes <= SHORT_S and self._sounds.take(round(takes * media.SOUND_BYTES_S * 4 / 3)):  # of base64
            mp3 = media.mp3(listed.path, slower=self._slower, time_expansion=listed.time_expansion)
            return data_uri(mp3, "audio/mpeg"), "", self._slower
        note = "It is played from its own file: keep the file where it is, relative to this page."
        if self._slower > 1 and listed.time_expansion == 1:
            note += " At its own speed, its highest calls cannot be listed."
        path = os.path.abspath(listed.path)
        try:
            path = os.path.relpath(path, os.path.abspath(self._path.parent))
        except ValueError:  # Windows: on another drive
            return Path(path).as_uri(), note, listed.time_expansion
        return urllib.parse.quote(os.fsencode(path.replace(os.sep, "/"))), note, listed.time_expansion

    def undrawn(self) -> Iterator[dict[str, Any]]:
        """The recordings without a picture; read it when all others are drawn."""
        for number in sorted(self._left):
            listed = self._found.recordings[number]
            yield {
                "number": number, "name": listed.name, "seconds": listed.seconds, "count": self._counts[number],
                "best": listed.best,
            }  # fmt: skip


def _spans(seconds: float) -> list[tuple[float, float]]:
    """The parts in which a recording is drawn, in seconds; a short recording has one part."""
    if seconds <= 1.5 * PART_S:
        return [(0.0, seconds)]
    length = PART_S * math.ceil(seconds / PART_S / PARTS)
    return [(start, min(start + length, seconds)) for start in np.arange(0, seconds, length).tolist()]


def _for_filter(found: Findings, species: Sequence[Species]) -> dict[str, Any]:
    """What the filter and the heading of the list need."""
    scores = [one.score for detections in found.listed.values() for one in detections]
    ranked = [{"number": rank, "name": species[key].name} for rank, key in enumerate(found.ranked)]
    total, everything = found.total, sum(found.counts.values())
    cut = f"Of {everything:,} detections {total:,} are listed and drawn: the strongest of each species, at most "
    return {
        "total": total, "highest": found.highest, "species": sorted(ranked, key=lambda one: one["name"].casefold()),
        "lowest": math.floor(100 * min(scores, default=0)) / 100,
        "highest_listed": math.ceil(100 * max(scores, default=1)) / 100,
        "left_out": cut + f"{max(map(len, found.listed.values())):,} of one." if total < everything else "",
    }  # fmt: skip


def _data(found: Findings, species: Sequence[Species], axis: dict[str, Any]) -> dict[str, Any]:
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


def _hours(found: Findings) -> str:
    return f"{sum(one.seconds for one in found.recordings) / 3600:.2f} hours"


def _limits() -> str:
    return (
        f"Up to {findings.LISTED:,} detections are listed and drawn; of more, the strongest of each species. "
        f"Of each species the {findings.CLIPS} strongest detections that do not overlap are shown as clips, of all "
        f"species together about {ALL_CLIPS}, at most {CLIP_S:g} s of each. "
        f"{RECORDINGS} recordings are drawn, those with the strongest detections, in pictures of {COLUMNS} columns: "
        "where a column stands for seconds, it shows their loudest moment. "
        f"Recordings of more than {1.5 * PART_S / 60:g} minutes are drawn in parts as well. "
        f"Sound up to {SHORT_S / 60:g} minutes long is in the page; longer recordings are played from their own files. "
        "The page stays under 50 MB. Brightness is loudness above a band's own median."
    )
