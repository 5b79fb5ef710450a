"""How are recordings and live sound scored? From the same spectrograms and windows as in training."""

import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.special import expit

from dataloader.audio.decoding import AudioStream, BadRecording
from dataloader.audio.errors import too_short
from dataloader.batches.dataset import Batch
from dataloader.batches.embeddings import weighted
from factory.frontend import EMBEDDINGS
from factory.model_card import ModelCard
from inference.backends import Loaded, load
from inference.choices import RECORDING
from inference.detections import Detection
from inference.pipeline import Batches, ReadAhead
from inference.sources import Live, Source, source_key, source_of
from inference.species import read_species
from inference.thresholds import fitted_rules
from inference.window_plan import SPAN_S, Completed, Grid, Row, Windower, WindowPlan
from utils.errors import DataError, UserError
from utils.utils import cores

_BLOCK_S = 10.0  # seconds of audio that are decoded and transformed at once
_AHEAD = 4  # blocks that each thread reads ahead


@dataclass(frozen=True)
class Scores:
    """The scores of one recording.

    Attributes:
        path: the recording.
        start_s, end_s: start and end of each row, ``(rows,)``, seconds.
        each: the scores of each model, ``(models, rows, classes)`` float32, between 0 and 1.
        seconds: the length of the recording.
        sample_rate: the sample rate of the file, Hz, times its expansion.
        problem: what is wrong with the recording, although it could be scored; None if nothing is wrong.
        time_expansion: how many times slower the file plays than the original sound; all times here are of the sound.
    """

    path: Path
    start_s: np.ndarray
    end_s: np.ndarray
    each: np.ndarray
    seconds: float
    sample_rate: int
    problem: BadRecording | None = None
    time_expansion: float = 1.0


class Predictor:
    """Scores recordings with one or several trained models.

    Args:
        runs: folders of runs, checkpoints, files that export.py wrote, or names of pretrained encoders; all must have
            the same labels.
        window_s: seconds of a row of the result; None: the exact length of the first model's windows, so that the
            rows are the windows of its training; ``recording``: one row for each recording, from the same windows.
        step_s: seconds from row to row; None: ``window_s``.
        shift_tta: also score the windows half a window earlier and later, each with half the weight.
        backend: ``auto``, ``torch``, ``onnx`` or ``openvino``.
        device: ``auto``, ``cpu`` or ``cuda``.
        labels: a file with the labels of an encoder, where ``runs`` names the encoder's file.
        species: a file with the species to keep, see ``read_species``; None: all.

    Attributes:
        card: of the first model, with the labels that are kept.
        columns: indices of the labels that are kept; None: all.

    Raises:
        DataError: the file of species cannot be read, or names none of the model's.
        CheckpointError: a run does not exist, is damaged, or lacks what prediction needs.
        UserError: the labels of the runs differ, or a backend is not installed.
    """

    def __init__(
        self, runs: Path | str | Sequence[Path | str], *, window_s: float | str | None = None,
        step_s: float | None = None, shift_tta: bool = False, backend: str = "auto", device: str = "auto",
        labels: Path | None = None, species: Path | None = None,
    ):  # fmt: skip
        paths = [runs] if isinstance(runs, (str, Path)) else list(runs)
        self.models = [load(Path(path), backend, device, labels) for path in paths]
        _must_share_labels(self.models)
        card = self.models[0].card
        self.columns = None if species is None else read_species(species, card)
        self.card = card = card if self.columns is None else _with_labels(card, self.columns)
        self.labels, self.scientific_names, self.common_names = card.labels, card.scientific_names, card.common_names
        self.min_recording_s = max(model.card.min_recording_s for model in self.models)
        keys = [source_key(model.card) for model in self.models]
        self._sources = {key: source_of(model.card) for key, model in zip(keys, self.models, strict=True)}
        self._source_of_model = [list(self._sources).index(key) for key in keys]  # models may share a source
        rate = self._sources[keys[0]].rate
        self.one_row = window_s == RECORDING
        if self.one_row or not window_s:
            window_s = card.frontend.window(card.process) / rate
        self.grid = Grid(window_s, step_s or window_s, shift_tta)
        self._plans = [
            plan_of(model.card, self.grid, self._sources[key]) for model, key in zip(self.models, keys, strict=True)
        ]
        self._scorers = [
            _Scorer(model, plan, self.columns) for model, plan in zip(self.models, self._plans, strict=True)
        ]

    def predict_file(self, path: Path | str, time_expansion: float = 1.0) -> Scores:
        """Score one recording.

        Args:
            time_expansion: how many times slower the file plays than the original sound.

        Raises:
            BadRecording: nothing of it can be scored.
            DataError: as of ``predict_files``.
        """
        ((_, result),) = self.predict_files([path], {Path(path): time_expansion})
        if isinstance(result, BadRecording):
            raise result
        return result

    def predict_files(
        self, paths: Iterable[Path | str], expansions: Mapping[Path, float] | None = None
    ) -> Iterator[tuple[Path, Scores | BadRecording]]:
        """Score recordings. Each is yielded as soon as it is ready, so the order is not that of ``paths``.

        Recordings are read and transformed while the models compute. Apart from its scores, the memory does not
        depend on the length of a recording.

        Args:
            expansions: the time expansion of each recording that has one.

        Raises:
            DataError: the output of a model is not finite.
        """
        expansions = expansions or {}
        workers = max(model.workers for model in self.models)
        # Shared by all models: on a CPU, threads for each model would be more threads than cores.
        pool = ThreadPoolExecutor(min(sum(model.workers for model in self.models), cores()))
        batches = [
            Batches(scorer.of_windows, pool, size=scorer.model.batch, under_way=workers + 1) for scorer in self._scorers
        ]
        pieces = (self._pieces(path, expansions.get(path, 1.0)) for path in map(Path, paths))
        readers = ReadAhead(pieces, max(1, cores() // 2), _AHEAD)
        unscored: list[_Recording] = []  # read completely, but some of their windows wait in a batch
        try:
            with readers:
                for recording, piece in readers:
                    if isinstance(piece, BadRecording):
                        yield recording.path, piece
                    elif piece is None:
                        unscored.append(recording)
                    else:
                        recording.add(piece, batches)
                    yield from _scored(unscored)
            for one in batches:
                one.finish()
            yield from _scored(unscored)
        finally:
            pool.shutdown(cancel_futures=True)

    def stream(self, chunks: Iterable[np.ndarray], sample_rate: int) -> Iterator[tuple[float, float, np.ndarray]]:
        """Score live audio in constant memory: each row as soon as all its audio has arrived.

        A model whose windows are longer than the rows, or one that was trained on images standardised over the
        recording, also needs audio after the row, so its scores come that much later.

        Args:
            chunks: ``(samples,)`` or ``(samples, channels)``, float, full scale 1; of any length.
            sample_rate: of the chunks, Hz.

        Yields:
            ``(start_s, end_s, scores)`` with scores ``(classes,)``, the mean over the models.

        Raises:
            DataError: the output of a model is not finite.
            UserError: one row for each recording was asked for.
        """
        if self.one_row:
            raise UserError(
                "a live stream has no end, so --window-s recording is not possible; give a number of seconds"
            )
        windower = Windower(self._plans, self._source_of_model)
        streams = [Live(source, sample_rate) for source in self._sources.values()]
        scores: list[dict[int, np.ndarray]] = [{} for _ in self.models]  # of windows that later rows may need
        counts, received = [0] * len(self.models), 0

        def rows(completed: Completed) -> Iterator[tuple[float, float, np.ndarray]]:
            for number, (model, windows) in enumerate(zip(self.models, completed.windows, strict=True)):
                for first in range(0, len(windows), model.batch):  # a chunk may be an hour
                    new = self._scorers[number].of_windows(windows[first : first + model.batch])
                    if not np.isfinite(new).all():
                        raise DataError(f"{model.source}: the output of the model is not finite; train the model again")
                    scores[number].update(enumerate(new, counts[number]))
                    counts[number] += len(new)
            for row in completed.rows:
                yield row.start_s, row.end_s, _of_row(row, self._scorers, scores).mean(axis=0)
                for known, windows in zip(scores, row.windows, strict=True):
                    oldest = min(window for window, _ in windows)
                    for window in [window for window in known if window < oldest]:
                        del known[window]

        for chunk in chunks:
            mono = _mono(chunk)
            received += len(mono)
            yield from rows(windower.push([stream.push(mono) for stream in streams]))
        yield from rows(windower.push([stream.finish() for stream in streams]))
        yield from rows(windower.finish(received / sample_rate))

    def stream_detections(
        self, chunks: Iterable[np.ndarray], sample_rate: int, aim: str = "auto"
    ) -> Iterator[Detection]:
        """The detections in live audio, by the thresholds that evaluate.py fitted for the run.

        Args:
            chunks, sample_rate: as of ``stream``.
            aim: such as ``precision=0.9``; ``auto``: the thresholds that were fitted last.

        Raises:
            UserError: no thresholds were fitted for this aim.
        """
        thresholds = np.asarray(
            fitted_rules(self.models, aim, calibrated=False, columns=self.columns).thresholds, np.float32
        )
        for start_s, end_s, scores in self.stream(chunks, sample_rate):
            for label in np.flatnonzero(scores >= thresholds):
                yield Detection(start_s, end_s, int(label), float(scores[label]), start_s)

    def _pieces(
        self, path: Path, time_expansion: float
    ) -> Iterator[tuple["_Recording", Completed | BadRecording | None]]:
        """The windows of a recording while it is decoded; at the end None, or the reason why it cannot be scored."""
        torch.set_num_threads(1)  # for this thread; the models need the other cores
        recording = _Recording(path, self._scorers, one_row=self.one_row, time_expansion=time_expansion)
        try:
            for completed in self._completed_of(recording):
                yield recording, completed
            yield recording, None
        except BadRecording as bad:
            yield recording, bad

    def _completed_of(self, recording: "_Recording") -> Iterator[Completed]:
        sources = self._sources.values()
        how = {"strict": False, "time_expansion": recording.time_expansion}
        audio = [AudioStream(recording.path, source.sample_rate, _BLOCK_S, **how) for source in sources]
        streams = [source.stream() for source in sources]
        windower = Windower(self._plans, self._source_of_model)
        nothing = np.empty(0, np.float32)  # at one sample rate there may be one more block than at another
        for blocks in itertools.zip_longest(*audio, fillvalue=nothing):
            yield windower.push([stream.push(block) for stream, block in zip(streams, blocks, strict=True)])
        recording.sample_rate, recording.problem = audio[0].info.sample_rate, audio[0].problem
        recording.seconds = audio[0].decoded / recording.sample_rate
        if short := too_short(recording.seconds, self.min_recording_s, "the run was trained on recordings of at least"):
            raise recording.problem or short
        yield windower.push([stream.finish() for stream in streams])
        if not windower.has_frames:
            raise BadRecording("too_short", f"{recording.seconds:.2f} s is less than one frame")
        yield windower.finish(recording.seconds)


class _Recording:
    """A recording that is being scored: its rows so far, and the scores of its windows so far."""

    def __init__(self, path: Path, scorers: Sequence["_Scorer"], *, one_row: bool, time_expansion: float):
        self.time_expansion = time_expansion
        self.path, self.seconds, self.sample_rate, self.problem = path, 0.0, 0, None
        self._scorers, self._one_row = scorers, one_row
        self.unscored = 0  # windows
        self._rows: list[Row] = []
        self._scores: list[list[np.ndarray]] = [[] for _ in scorers]

    def add(self, completed: Completed, batches: Sequence[Batches]) -> None:
        """Add new rows, and give their windows to the models."""
        self._rows += completed.rows
        for windows, scores, batch in zip(completed.windows, self._scores, batches, strict=True):
            self.unscored += len(windows)
            for window in windows:
                batch.add(window, functools.partial(self._receive, scores))

    def result(self) -> Scores:
        """The scores, once every window is scored."""
        rows = [_joined(self._rows, self.seconds)] if self._one_row else self._rows
        each = np.stack([_of_row(row, self._scorers, self._scores) for row in rows], axis=1)
        start_s, end_s = (np.array([getattr(row, name) for row in rows]) for name in ("start_s", "end_s"))
        return Scores(
            self.path, start_s, end_s, each, self.seconds, self.sample_rate, self.problem, self.time_expansion
        )

    def _receive(self, scores: list[np.ndarray], score: np.ndarray) -> None:
        if not np.isfinite(score).all():
            raise DataError(f"{self.path}: the output of the model is not finite; train the model again")
        scores.append(score)
        self.unscored -= 1


def _scored(recordings: list[_Recording]) -> Iterator[tuple[Path, Scores]]:
    """Remove the recordings whose windows are all scored, and yield their scores."""
    for recording in [one for one in recordings if not one.unscored]:
        recordings.remove(recording)
        yield recording.path, recording.result()


def inputs_of(windows: Sequence[np.ndarray], plan: WindowPlan) -> np.ndarray:
    """The input of the model, ``(windows, 1, n_mels, frames)`` or ``(windows, samples)``, computed as in training."""
    windows = torch.from_numpy(np.stack(windows))
    bands = (len(windows), windows.shape[2] if windows.ndim == 3 else 0)
    # The windows are in dB, as if the cache held them without standardising.
    batch = Batch(windows, torch.zeros(bands), torch.ones(bands), torch.empty(0), torch.empty(0))
    return plan.transform(batch)[0].contiguous().numpy()


class _Scorer:
    """One model that scores windows and rows.

    Args:
        columns: indices of the classes that are kept; None: all.
    """

    def __init__(self, model: Loaded, plan: WindowPlan, columns: Sequence[int] | None):
        self.model, self._plan, self._columns = model, plan, columns

    def of_windows(self, windows: Sequence[np.ndarray]) -> np.ndarray:
        """``(windows, classes)``: the sigmoid of the logits, for every loss; for a model with a head, embeddings."""
        values = self.model.forward(inputs_of(windows, self._plan))
        return values if self.model.head is not None else self._kept(expit(values))

    def of_row(self, windows: Sequence[tuple[int, float]], scores: Sequence[np.ndarray] | Mapping[int, np.ndarray]):
        """``(classes,)``: the weighted mean of the windows of a row, each with its number and weight.

        A model with a head pools the embeddings of the windows, as it did in training.
        """
        if self.model.head is not None:
            embeddings = np.stack([scores[window] for window, _ in windows])
            example = weighted(embeddings, np.array([weight for _, weight in windows]))
            return self._kept(expit(self.model.head(example[None].astype(np.float32))))[0]
        return sum(np.float32(weight) * scores[window] for window, weight in windows)

    def _kept(self, scores: np.ndarray) -> np.ndarray:
        return scores if self._columns is None else scores[:, self._columns]


def _of_row(row: Row, scorers: Sequence[_Scorer], scores: Sequence[Sequence[np.ndarray] | Mapping]) -> np.ndarray:
    """``(models, classes)``: the scores of each model for a row."""
    of_models = zip(scorers, scores, row.windows, strict=True)
    return np.stack([scorer.of_row(windows, known) for scorer, known, windows in of_models])


def _joined(rows: Sequence[Row], seconds: float) -> Row:
    """The rows of a recording as one row."""
    windows = [
        [(window, weight / len(rows)) for row in rows for window, weight in row.windows[number]]
        for number in range(len(rows[0].windows))
    ]
    return Row(0.0, seconds, windows)


def _with_labels(card: ModelCard, columns: Sequence[int]) -> ModelCard:
    kept = {
        name: tuple(getattr(card, name)[column] for column in columns)
        for name in ("labels", "scientific_names", "common_names")
    }
    return replace(card, **kept)


def _mono(chunk: np.ndarray) -> np.ndarray:
    """``(samples,)`` float32; values that are not finite become silence."""
    samples = np.asarray(chunk, dtype=np.float32)
    return np.nan_to_num(samples.mean(axis=1) if samples.ndim == 2 else samples, nan=0.0, posinf=0.0, neginf=0.0)


def plan_of(card: ModelCard, grid: Grid, source: Source) -> WindowPlan:
    """The window plan of a model."""
    process, length = card.process, card.frontend.window(card.process)
    over_recording = card.standardize_over == "recording" and process.standardize != "none"
    span = max(length, round(SPAN_S * source.rate)) if over_recording and card.frontend.sees_images else 0
    if card.frontend is EMBEDDINGS:  # the encoder takes the sound as it is
        return WindowPlan(grid, source.rate, length, process, span, lambda batch: (batch.windows, batch.targets))
    transform = card.frontend.transform(process, card.standardize_over)
    return WindowPlan(grid, source.rate, length, process, span, transform)


def _must_share_labels(models: Sequence[Loaded]) -> None:
    first = models[0]
    for other in models[1:]:
        if other.card.labels != first.card.labels:
            differing = sorted(set(first.card.labels) ^ set(other.card.labels))
            what = f"only one of them has {differing[0]}" if differing else "the order is different"
            raise UserError(
                f"{other.source}: its labels differ from those of {first.source} ({what}); "
                "only runs with the same labels can be combined"
            )
