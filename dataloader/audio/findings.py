"""What do the bytes of a sound file show about its end, before anything is decoded?"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Findings:
    """The findings about a file. Each default means that nothing was found.

    Attributes:
        fault: ``(reason, detail)`` of a fault that no decoder can change; see ``errors.REASONS``.
        unread: why libsndfile would not read the file to its end, if FFmpeg does.
        frames: samples of each channel in the file, as counted; 0 if they were not counted.
        parts: the number of recordings that were joined into the file.
        missing: samples that the header states beyond the end of the file, too few to matter.
        span: ``(first byte, end)`` of the bytes that libsndfile should read; None: all of the file.
    """

    fault: tuple[str, str] | None = None
    unread: str | None = None
    frames: int = 0
    parts: int = 1
    missing: int = 0
    span: tuple[int, int] | None = None


SOUND = Findings()  # nothing is wrong with the file


def truncated(detail: str) -> Findings:
    return Findings(fault=("truncated", detail))
