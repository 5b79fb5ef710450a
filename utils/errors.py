"""Errors that the user can correct: each problem is one line, and never a traceback."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


class UserError(Exception):
    """Something outside the program is wrong; the message names it and says what would be right."""

    exit_code = 1


class DataError(UserError):
    """A table, a recording or a folder is not what it should be."""


class CheckpointError(UserError):
    """A checkpoint is missing, damaged, or does not fit."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong with one setting.

    Attributes:
        text: what is wrong and what would be right.
        section, key: of the setting; an empty key means the whole section, both empty the whole file.
        value: as it was written; None where there is none to show.
        source: the file (or ``--set``) it was read from; empty where that is not known.
    """

    text: str
    section: str = ""
    key: str = ""
    value: object = None
    source: str = ""

    def __str__(self) -> str:
        setting = self.key if self.value is None else f"{self.key} = {str(self.value)!r}"
        where = [self.source, f"[{self.section}]" if self.section else "", setting]
        return f"{' '.join(filter(None, where))}: {self.text}"


class ConfigError(UserError):
    """The settings are wrong; every problem found is in ``problems``, one line each."""

    exit_code = 2

    def __init__(self, problems: Problem | Iterable[Problem]):
        self.problems = [problems] if isinstance(problems, Problem) else list(problems)
        super().__init__("\n".join(map(str, self.problems)))


def first_line(error: object) -> str:
    """What a library has to say, as far as it fits a message of ours; the kind of the error where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].strip()


def counted(number: int, one: str, many: str = "") -> str:
    """A number with its noun.

    >>> counted(1, "class", "classes"), counted(2, "recording")
    ('1 class', '2 recordings')
    """
    return f"{number} {one if number == 1 else many or one + 's'}"


def unknown(name: str, known: Sequence[str], *, nearest: int = 1, list_known: bool = True) -> str:
    """Word the message for a name that is not in ``known``: the nearest ones, then all.

    >>> unknown("adamv", ["adam", "sgd"])
    "unknown; did you mean 'adam'? Known: adam, sgd"
    """
    close = difflib.get_close_matches(str(name).lower(), known, n=nearest, cutoff=0.5)
    text = "unknown"
    if close:
        text += f"; did you mean {' or '.join(repr(match) for match in close)}?"
    if list_known:
        text += f"{'' if close else ';'} Known: {', '.join(known)}"
    return text
