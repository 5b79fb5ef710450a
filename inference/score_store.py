"""A long job: what is scored is kept, recording by recording, beside the output until that is written."""

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
from utils.files import remove_leftovers, whole, write_text

log = logging.getLogger(__name__)

_SETTINGS = "job.json"
_PARTS = ("start_s", "end_s", "each", "seconds", "sample_rate", "problem")


class ScoreStore:
    """The scored recordings of a job, each in a file of its own in ``.<output's name>.parts``.

    Args:
        output: what will be written in the end.
        settings: plain values on which the scores depend.
        resume: go on from what a job with the same settings has left; otherwise begin anew.

    Raises:
        DataError: the job to go on with had other settings.
        OSError: the output's folder cannot be written.
    """

    def __init__(self, output: Path, settings: Mapping[str, object], *, resume: bool):
        output = Path(os.path.abspath(output))  # of ".", the name
        self._parts: dict[Path, Path] = {}
        self.folder = output.with_name(f".{output.name}.parts")
        known = self._settings() if resume else None
        if known is not None and known != settings:
            differing = ", ".join(key for key in {**known, **settings} if known.get(key) != settings.get(key))
            raise DataError(
                f"{self.folder}: that job had another {differing}; give the same, or begin anew without --resume"
            )
        if known is None:
            if resume:
                log.info("nothing is there to go on from; beginning anew")
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.folder)
        write_text(self.folder / _SETTINGS, json.dumps(settings))

    def __contains__(self, recording: Path) -> bool:
        return self._load(recording) is not None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is kept."""
        return not any(self.folder.glob("*.npz"))

    def keep(self, scores: Scores) -> None:
        """Keep the scores of a recording, whole or not at all."""
        path = self._part(scores.path)
        with whole(path, durable=False) as temporary, open(temporary, "wb") as file:
            np.savez(
                file, start_s=scores.start_s, end_s=scores.end_s, each=scores.each,
                seconds=scores.seconds, sample_rate=scores.sample_rate, problem=str(scores.problem or ""),
            )  # fmt: skip

    def problems(self, recordings: Iterable[Path]) -> Iterator[tuple[Path, str]]:
        """The recordings that were scored though something is wrong with them."""
        for recording in recordings:
            if (part := self._load(recording)) and (problem := str(part["problem"])):
                yield recording, problem

    def results(self, recordings: Sequence[Path], how: str, smoothing: bool) -> Iterator[Result]:
        """What is known of recordings that are scored, in order: models combined, rows smoothed.

        Raises:
            DataError: what was kept of one is there no more.
        """
        if how == "rank":  # ranks are among all rows: all of them at once
            combined = dict(zip(recordings, combine([self._kept(one)["each"] for one in recordings], how), strict=True))
        for recording in recordings:
            part = self._kept(recording)
            scores = combined[recording] if how == "rank" else combine([part["each"]], how)[0]
            yield Result(
                recording, part["start_s"], part["end_s"], smooth(scores) if smoothing else scores,
                float(part["seconds"]), int(part["sample_rate"]),
            )  # fmt: skip

    def remove(self) -> None:
        """The output is written: nothing needs to be kept."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _settings(self) -> dict[str, object] | None:
        try:
            known = json.loads((self.folder / _SETTINGS).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):  # ValueError: damaged
            return None
        return known if isinstance(known, dict) else None

    def _part(self, recording: Path) -> Path:
        """Where a recording's scores are: another file where the recording has changed.

        As it was when this job first asked, before scoring it: one that changes or goes afterwards is written all
        the same, and the next job scores it again.
        """
        if recording not in self._parts:
            stat = os.stat(recording)
            identity = f"{os.path.abspath(recording)}\0{stat.st_size}\0{stat.st_mtime_ns}"
            name = hashlib.sha256(os.fsencode(identity)).hexdigest()[:32]
            self._parts[recording] = self.folder / f"{name}.npz"
        return self._parts[recording]

    def _kept(self, recording: Path) -> dict[str, np.ndarray]:
        if (part := self._load(recording)) is None:
            raise DataError(f"{recording}: what was kept of it is gone, or damaged; go on with --resume")
        return part

    def _load(self, recording: Path) -> dict[str, np.ndarray] | None:
        try:
            with np.load(self._part(recording)) as part:  # a zip: a changed byte does not pass
                return {name: part[name] for name in _PARTS}
        except FileNotFoundError:
            return None
        except Exception as error:  # a changed byte makes numpy and zipfile raise a dozen kinds
            log.warning("%s: what was kept of it cannot be read, so it is scored again (%s)", recording, error)
            return None
