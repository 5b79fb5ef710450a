"""Which keys and values of an older config.ini have changed since, so that old runs can still be resumed?"""

from typing import NamedTuple

RENAMED = {  # section, key before -> key now
    ("data", "sample_max_s"): "segment_max_s",
    ("data", "crops_per_sample"): "crops_per_segment",
}
REPLACED = {  # section, key, value before -> value now
    ("data", "backend", "ray"): "local",
}


class Removed(NamedTuple):
    """A key that does not exist any more.

    Attributes:
        neutral: the value that means what the program does now, as it was written; any other value is refused.
        why: the reason why there is no such setting any more.
    """

    neutral: str
    why: str


REMOVED: dict[tuple[str, str], Removed] = {}


class Update(NamedTuple):
    """The present form of a setting of an older version.

    Attributes:
        key, text: its present key and value; None: the setting does not exist any more.
        line: a line for the log; empty if nothing has changed.
        problem: why it cannot be used; empty if it can.
    """

    key: str | None
    text: str | None
    line: str = ""
    problem: str = ""


def update(section: str, key: str, text: str) -> Update:
    """The present form of a setting."""
    if removed := REMOVED.get((section, key)):
        problem = "" if text == removed.neutral else f"no longer a setting ({removed.why}); remove the line"
        return Update(None, None, f"[{section}] {key} is no longer a setting: {removed.why}", problem)
    if new := RENAMED.get((section, key)):
        return Update(new, text, f"[{section}] {key} is called {new} now")
    if (new := REPLACED.get((section, key, text))) is not None:
        return Update(key, new, f"[{section}] {key} = {text} is {new} now")
    return Update(key, text)
