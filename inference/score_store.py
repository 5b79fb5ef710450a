"""Where are the scores of a prediction job until its output is written? In a folder beside the output, by recording."""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from inference.combine import combine, smooth
from inference.predictor import Scores
from inference.tables import Result
from utils.errors import DataError
from utils.files import fitting_name, remove_leftovers, whole, write_text

log = logging.getLogger(__name__)

_SETTINGS = "job.json"
_ARRAYS = ("start_s", "end_s", "each", "seconds", "sample_rate", "problem", "time_expansion")


class ScoreStore:
    """A folder ``.<name of the output>.parts`` with one file for each recording that is scored.

    Args:
        output: what will be written in the end.
        settings: plain values on which the scores depend.
        resume: keep what an earlier job with the same settings left; otherwise start with an empty store.

    Raises:
        DataError: the earlier job had other settings.
        OSError: the folder of the output cannot be written.
    """

    def __init__(self, output: Path, settings: Mapping[str, object], *, resume: bool):
        output = Path(os.path.abspath(output))  # "." has no name of its own
        self._files: dict[Path, Path] = {}
        self.folder = output.with_name(fitting_name(f".{output.name}", ".parts"))
        earlier = self._earlier_settings() if resume else None
        if earlier is not None and earlier != settings:
            differing = ", ".join(key for key in {**earlier, **settings} if earlier.get(key) != settings.get(key))
            raise DataError(
                f"{self.folder}: the earlier job had another {differing}; "
                "use the same value, or start again without --resume"
            )
        if earlier is None:
            if resume:
                log.info("--resume: there is no earlier job; starting from the beginning")
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.folder)
        write_text(self.folder / _SETTINGS, json.dumps(settings))

    def __contains__(self, recording: Path) -> bool:
        return self._load(recording) is not None

    @property
    def is_empty(self) -> bool:
        return not any(self.folder.glob("*.npz"))

    def keep(self, scores: Scores) -> None:
        """Keep the scores of a recording, all of them or none."""
        path = self._file_of(scores.path)
        with whole(path, durable=False) as temporary, open(temporary, "wb") as file:
            np.savez(
                file, start_s=scores.start_s, end_s=scores.end_s, each=scores.each,
                seconds=scores.seconds, sample_rate=scores.sample_rate, problem=str(scores.problem or ""),
                time_expansion=scores.time_expansion,
            )  # fmt: skip

    def problems(self, recordings: Iterable[Path]) -> Iterator[tuple[Path, str]]:
        """The recordings that were scored although something is wrong with them."""
        for recording in recordings:
            if (kept := self._load(recording)) and (problem := str(kept["problem"])):
                yield recording, problem

    def results(self, recordings: Sequence[Path], how: str, smoothing: bool) -> Iterator[Result]:
        """The results of recordings that are scored, in their order: models combined, rows smoothed.

        Raises:
            DataError: the scores of a recording are no longer in the store.
        """
        if how == "rank":  # a rank is a rank among all rows, so all of them are needed at once
            combined = dict(zip(recordings, combine([self._kept(one)["each"] for one in recordings], how), strict=True))
        for recording in recordings:
            kept = self._kept(recording)
            scores = combined[recording] if how == "rank" else combine([kept["each"]], how)[0]
            yield Result(
                recording, kept["start_s"], kept["end_s"], smooth(scores) if smoothing else scores,
                float(kept["seconds"]), int(kept["sample_rate"]), time_expansion=float(kept["time_expansion"]),
            )  # fmt: skip

    def remove(self) -> None:
        """Remove the folder, once the output is written."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _earlier_settings(self) -> dict[str, object] | None:
        try:
            earlier = json.loads((self.folder / _SETTINGS).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):  # ValueError: the file is damaged
            return None
        return earlier if isinstance(earlier, dict) else None

    def _file_of(self, recording: Path) -> Path:
        """The file for the scores of a recording; a recording that changed has another file.

        The state of the recording counts when this job first asks for it, which is before it is scored. If it
        changes or disappears later, this job still writes its scores, and the next job scores it again.
        """
        if recording not in self._files:
            stat = os.stat(recording)
            identity = f"{os.path.abspath(recording)}\0{stat.st_size}\0{stat.st_mtime_ns}"
            name = hashlib.sha256(os.fsencode(identity)).hexdigest()[:32]
            self._files[recording] = self.folder / f"{name}.npz"
        return self._files[recording]

    def _kept(self, recording: Path) -> dict[str, np.ndarray]:
        if (kept := self._load(recording)) is None:
            raise DataError(f"{recording}: its kept scores are missing or damaged; score it again with --resume")
        return kept

    def _load(self, recording: Path) -> dict[str, np.ndarray] | None:
        try:
            with np.load(self._file_of(recording)) as kept:  # a zip file, so a changed byte is noticed
                return {name: kept[name] for name in _ARRAYS}
        except FileNotFoundError:
            return None
        except Exception as error:  # a changed byte makes numpy and zipfile raise a dozen kinds of error
            log.warning("%s: its kept scores cannot be read, so it is scored again (%s)", recording, error)
            return None
