"""What the bytes of a sound file say about its end, before anything is decoded."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Findings:
    """What was found. Every field has a value that means "nothing was found".

    Attributes:
        fault: ``(reason, detail)`` of what is wrong whatever decodes the file; see ``errors.REASONS``.
        unread: why libsndfile would not read the file to its end, where FFmpeg does.
        frames: samples of each channel in the file, by counting; 0 where they were not counted.
        parts: how many recordings the file is joined of.
        missing: samples that the header promises beyond the file's end, too few to matter.
        span: ``(first byte, end)`` of what libsndfile should see of the file; None: all of it.
    """

    fault: tuple[str, str] | None = None
    unread: str | None = None
    frames: int = 0
    parts: int = 1
    missing: int = 0
    span: tuple[int, int] | None = None


SOUND = Findings()  # nothing is wrong


def truncated(detail: str) -> Findings:
    return Findings(fault=("truncated", detail))
