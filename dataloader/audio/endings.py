"""Which files in a folder are recordings, by the endings of their names?"""

import importlib.util
import os
from collections import Counter
from collections.abc import Iterable

HAS_FFMPEG = importlib.util.find_spec("av") is not None  # the package av contains FFmpeg; find_spec does not import it

_BY_LIBSNDFILE = (
    ".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp2", ".mp3", ".oga", ".ogg", ".opus", ".rf64", ".w64", ".wav",
)  # fmt: skip
_BY_FFMPEG = (
    ".3gp", ".aac", ".ac3", ".amr", ".ape", ".m4a", ".m4b", ".mka", ".mp4", ".tta", ".weba", ".webm", ".wma",
    ".wv",
)  # fmt: skip
_BY_NONE = (".ra", ".rm", ".wac", ".zc")  # recordings that must be converted first

ENDINGS = tuple(sorted(_BY_LIBSNDFILE + (_BY_FFMPEG if HAS_FFMPEG else ())))  # of the recordings that are used


def sound_files_not_used(names: Iterable[str | os.PathLike[str]]) -> str | None:
    """One line that counts the sound files among ``names`` that no installed decoder reads; None if there are none.

    Args:
        names: of files, with or without their folders; hidden files and other files than sound are not counted.
    """
    shown = [base for name in names if not (base := os.path.basename(os.fspath(name))).startswith(".")]
    endings = [os.path.splitext(base)[1].lower() for base in shown]
    unread = Counter(ending for ending in endings if ending in _BY_FFMPEG + _BY_NONE and ending not in ENDINGS)
    if not unread:
        return None
    total = sum(unread.values())
    counted = ", ".join(f"{count} {ending}" for ending, count in sorted(unread.items()))
    cures = ["install the package av to use them"] if set(unread) & set(_BY_FFMPEG) else []
    cures += ["convert .wac and .zc files with the manufacturer's program"] if set(unread) & {".wac", ".zc"} else []
    cures += ["convert them to FLAC"] if not cures else []
    what = "sound file is" if total == 1 else "sound files are"
    return f"{total} {what} not used ({counted}): {'; '.join(cures)}"
