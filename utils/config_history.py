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
        neutral: the values that mean what the program does now, as they were written. With any other value, nothing is
            trained. None: the key did nothing alone, so that every value is ignored.
        why: the reason why there is no such setting any more.
    """

    neutral: tuple[str, ...] | None
    why: str


_OFF = ("0", "0.0")
_NO_GAIN = "in experiments it made no difference"
REMOVED = {
    ("augmentation", "eq_p"): Removed(_OFF, _NO_GAIN),
    ("augmentation", "gain_p"): Removed(_OFF, _NO_GAIN),
    ("augmentation", "hiss_p"): Removed(_OFF, f"{_NO_GAIN}; background_p adds recorded noise"),
    ("augmentation", "time_shift_p"): Removed(_OFF, f"{_NO_GAIN}; augment_random_crop moves windows"),
    ("augmentation", "frequency_shift_p"): Removed(_OFF, _NO_GAIN),
    **{
        ("augmentation", key): Removed(None, "the augmentation that it belonged to does not exist any more")
        for key in (
            "eq_max_db", "gain_max_db", "hiss_colour", "hiss_min_snr_db", "hiss_max_snr_db", "time_shift_max_s",
            "frequency_shift_max_bands",
        )
    },
}  # fmt: skip


class Update(NamedTuple):
    """The present form of a setting of an older version.

    Attributes:
        key, text: its present key and value; None: the setting does not exist any more.
        line: a line for the log; empty if nothing has changed.
        problem: why nothing can be trained with this setting; empty if it does not prevent training.
    """

    key: str | None
    text: str | None
    line: str = ""
    problem: str = ""


def update(section: str, key: str, text: str) -> Update:
    """The present form of a setting."""
    if removed := REMOVED.get((section, key)):
        if removed.neutral is None or text in removed.neutral:
            return Update(None, None)
        return Update(None, None, problem=f"no longer a setting ({removed.why}); remove the line")
    if new := RENAMED.get((section, key)):
        return Update(new, text, f"[{section}] {key} is called {new} now")
    if (new := REPLACED.get((section, key, text))) is not None:
        return Update(key, new, f"[{section}] {key} = {text} is {new} now")
    return Update(key, text)
