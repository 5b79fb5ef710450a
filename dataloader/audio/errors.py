"""What can be wrong with a recording? The reasons, and the exception that carries one."""

REASONS = (
    "missing",  # there is no such file
    "unreadable",  # it is not a recording, or the operating system refuses to read it
    "empty",  # no bytes or no samples
    "truncated",  # the end is missing, or no installed decoder reads up to it
    "hole",  # the end is there, but samples before it are missing
    "silent",  # nothing but zeros, or one constant value
    "not_finite",  # NaN, infinity, or values far beyond those of sound
    "too_short",  # raised by the caller, who knows how long is long enough
    "crashed",  # recorded by the caller, whose worker process died while decoding
)


class BadRecording(Exception):  # noqa: N818 - named for the recording; it is caught rather than shown
    """A recording that cannot be used. Its message is ``reason: detail``; the caller adds the name of the file.

    Attributes:
        reason: one of ``REASONS``.
        detail: what was found, written for the user.
    """

    def __init__(self, reason: str, detail: str):
        if reason not in REASONS:
            raise ValueError(f"{reason!r} is not one of {', '.join(REASONS)}")
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


def too_short(seconds: float, least_s: float, rule: str) -> BadRecording | None:
    """What is wrong with a recording that is shorter than the shortest that is used; None if it is long enough.

    Args:
        least_s: of the shortest, seconds.
        rule: where that number comes from, as the text before it.
    """
    if seconds >= least_s:
        return None
    return BadRecording("too_short", f"{seconds:.2f} s long; {rule} {least_s:g} s")
