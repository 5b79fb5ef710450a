"""Which errors can a user correct? Each problem is one line, and never a traceback."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


class UserError(Exception):
    """Something outside the program is wrong; the message says what it is and what to do."""

    exit_code = 1


class DataError(UserError):
    """A table, a recording or a folder cannot be used."""


class CheckpointError(UserError):
    """A checkpoint is missing, damaged, or does not fit."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong with one setting.

    Attributes:
        text: what is wrong and what to do.
        section, key: of the setting; if the key is empty, the whole section; if both are empty, the whole file.
        value: the value as it was written; None if there is none to show.
        source: the file (or ``--set``) that it was read from; empty if that is not known.
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
    """The settings are wrong; ``problems`` has every problem that was found, one line each."""

    exit_code = 2

    def __init__(self, problems: Problem | Iterable[Problem]):
        self.problems = [problems] if isinstance(problems, Problem) else list(problems)
        super().__init__("\n".join(map(str, self.problems)))


def first_line(error: object) -> str:
    """The first line of a library's error, for a message of this program; if it is empty, the class of the error."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].strip()


def counted(number: int, one: str, many: str = "") -> str:
    """A number with its noun.

    >>> counted(1, "class", "classes"), counted(2000, "recording")
    ('1 class', '2,000 recordings')
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def unknown(name: str, known: Sequence[str], *, nearest: int = 1, list_known: bool = True) -> str:
    """The message for a name that is not in ``known``: the nearest names, then all of them.

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
