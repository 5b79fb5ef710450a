"""Which recordings are in a data set more than once? Their content shows this, not their names or lengths.

Two recordings are copies if their files have equal bytes, or if they have the same length and sound: their
spectrograms in the cache, each band without its mean, have a correlation of at least ``ALIKE``. This finds a recording
that was saved again in another format, at another level, or with another label. Recordings of several sources with the
same archive number (XC134896) also count as copies.

100,000 recordings of one length have 5 billion pairs. So a short segment of each is projected on a few random
directions (Johnson and Lindenstrauss 1984), which shows the few pairs that are worth comparing.
"""

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from dataloader.cache.entries import read_window
from dataloader.tables import schema
from dataloader.tables.groups import catalogue_number

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

CONTENT, SOUND, IDENTITY = "content", "sound", "identity"  # why two count as copies
ALIKE = 0.9  # least correlation of the spectrograms of copies; different recordings have about 0
_CANDIDATE = 0.6  # correlation of the projections of short segments, whose error is about 0.1
_STRETCH = 64  # frames of a segment, from the middle
_DIRECTIONS = 64
_BLOCK = 256  # recordings that are compared with all earlier ones at once: 100 MB for 100,000


def find_duplicates(metadata: "pd.DataFrame", n_mels: int = 0) -> list[tuple[str, str, str]]:
    """``(filename, duplicate_of, rule)`` of every recording that repeats an earlier one.

    Args:
        metadata: with ``filename`` and ``digest``, and ``source`` if there are several; to compare sounds also
            ``entry`` and ``frames``.
        n_mels: of the entries; 0: do not compare sounds, which would read a little of each entry.
    """
    first: dict[str, str] = {}
    found: dict[str, tuple[str, str]] = {}
    for filename, digest in zip(metadata["filename"], metadata["digest"], strict=True):
        if first.setdefault(digest, filename) != filename:
            found[filename] = first[digest], CONTENT
    if schema.SOURCE in metadata:
        _find_identities(metadata, found)
    if n_mels:
        rest = metadata[~metadata["filename"].isin(found)]
        for filename, original in _alike(rest, n_mels):
            found.setdefault(filename, (original, SOUND))
    return [(name, _original(name, found), found[name][1]) for name in metadata["filename"] if name in found]


def _original(name: str, found: dict[str, tuple[str, str]]) -> str:
    """The first recording: a copy of a copy is a copy of the first."""
    while name in found:
        name = found[name][0]
    return name


def _find_identities(metadata: "pd.DataFrame", found: dict[str, tuple[str, str]]) -> None:
    first: dict[str, tuple[str, str]] = {}
    for filename, source in zip(metadata["filename"], metadata[schema.SOURCE], strict=True):
        number = catalogue_number(filename)
        if not number or filename in found:
            continue
        original, its_source = first.setdefault(number, (filename, source))
        if its_source != source:
            found[filename] = original, IDENTITY


def _alike(metadata: "pd.DataFrame", n_mels: int) -> Iterator[tuple[str, str]]:
    """Pairs ``(filename, earlier filename)`` of recordings with the same length and sound."""
    for frames, rows in metadata.groupby("frames", sort=False):
        if len(rows) < 2:
            continue
        entries, names = rows["entry"].tolist(), rows["filename"].tolist()
        prints = np.stack([_fingerprint(entry, n_mels, frames) for entry in entries])
        for later, earlier in _candidates(prints):
            if correlation(entries[later], entries[earlier], n_mels, frames) >= ALIKE:
                yield names[later], names[earlier]


def _fingerprint(entry: str, n_mels: int, frames: int) -> np.ndarray:
    """``(_DIRECTIONS,)`` float32 of length 1: the projection of a short segment.

    The cosine of two is about the correlation of their segments.
    """
    length = min(_STRETCH, frames)
    stretch = _centred(entry, n_mels, frames, (frames - length) // 2, length).ravel()
    return _unit(_projection(len(stretch)) @ stretch)


_projections: dict[int, np.ndarray] = {}


def _projection(size: int) -> np.ndarray:
    """``(_DIRECTIONS, size)``, the same for every segment of this size."""
    if size not in _projections:
        _projections.clear()  # recordings of the same length follow one another
        _projections[size] = np.random.default_rng(0).standard_normal((_DIRECTIONS, size), dtype=np.float32)
    return _projections[size]


def _candidates(prints: np.ndarray) -> Iterator[tuple[int, int]]:
    """``(later, earlier)`` rows of fingerprints whose cosine is high, block by block."""
    for start in range(0, len(prints), _BLOCK):
        block = prints[start : start + _BLOCK]
        for row, column in np.argwhere(block @ prints[: start + len(block)].T >= _CANDIDATE):
            if column < start + row:
                yield int(start + row), int(column)


def correlation(entry: str, other: str, n_mels: int, frames: int) -> float:
    """The correlation of two spectrograms in the cache, each band without its mean over time."""
    first, second = (_centred(path, n_mels, frames, 0, frames).ravel() for path in (entry, other))
    lengths = float(np.linalg.norm(first)) * float(np.linalg.norm(second))
    return float(first @ second) / lengths if lengths else 0.0


def _centred(entry: str, n_mels: int, frames: int, first: int, length: int) -> np.ndarray:
    """``(length, n_mels)`` float32 of an entry, each band without its mean over these frames."""
    window = np.empty((length, n_mels), dtype=np.float16)
    read_window(entry, n_mels, frames, first, window)
    values = window.astype(np.float32)
    return values - values.mean(axis=0)


def _unit(vector: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vector)
    return vector / length if length else vector


def merge_duplicates(metadata: "pd.DataFrame", duplicates: list[tuple[str, str, str]], *, drop: bool) -> "pd.DataFrame":
    """Join each recording and its duplicates.

    With ``drop`` only one of them is kept, with the labels and annotations of all. Without, they get one group, so that
    they are in one subset.
    """
    of = {filename: original for filename, original, _ in duplicates}
    rows = metadata.set_index("filename", drop=False)
    columns = [name for name in ("labels", "secondary_labels", schema.ANNOTATIONS) if name in metadata]
    values = {name: dict(rows[name]) for name in columns}
    groups = dict(rows["group"])
    joined: dict[str, str] = {}
    for copy, original in of.items():
        for of_name in values.values():
            of_name[original] = _both(of_name[original], of_name[copy])
        first, second = sorted((_last(joined, groups[copy]), _last(joined, groups[original])))
        if first != second:
            joined[second] = first
    merged = metadata.assign(group=[_last(joined, group) for group in metadata["group"]])
    if not drop:
        return merged
    for column, of_name in values.items():
        merged[column] = [of_name[name] for name in merged["filename"]]
    return merged[~merged["filename"].isin(of)].reset_index(drop=True)


def _both(first: tuple | None, second: tuple | None) -> tuple | None:
    """The items of both, each once; None (no annotations) adds nothing."""
    if not isinstance(first, tuple) or not isinstance(second, tuple):
        return first if isinstance(first, tuple) else second
    return tuple(dict.fromkeys(first + second))


def _last(joined: dict[str, str], group: str) -> str:
    """The group that ``group`` was joined to at last."""
    while group in joined:
        group = joined[group]
    return group
