"""How are the embeddings of recordings computed and cached, in place of spectrograms?

An entry has the format of a spectrogram whose bands are the numbers of an embedding and whose frames are windows, one
after another: ``(size, windows)`` float16. Its ``mean`` is 0, and its ``scale`` is one power of 2 for all bands, so
that embeddings of any magnitude fit float16: ``embedding = value * scale``.
"""

import math
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from dataloader.audio.decoding import AudioStream, BadRecording
from dataloader.batches.windows import window_starts
from dataloader.cache.entries import FORMAT, Footer, Record, key_of, write_entry
from dataloader.cache.prepare import Job
from dataloader.encoders.files import digest_of, find_file
from dataloader.encoders.runtimes import Opened, open_encoder
from dataloader.encoders.table import Encoder, encoder_of
from utils.errors import counted
from utils.settings import DataProcess, Model

_BLOCK = 8  # windows decoded and embedded at once
# Of a stored value; far below the limit of float16, so that usual values have a precision of a thousandth.
_LARGEST = 1024.0


class Embeddings:
    """The stage that makes embeddings, see ``dataloader.cache.prepare.Stage``.

    It is picklable: each worker opens the encoder once.

    Raises:
        UserError: the encoder's file or its runtime is missing, or the file does not match its type.
    """

    what = "embeddings"

    def __init__(self, model: Model, process: DataProcess):
        self.encoder, self.path = encoder_of(model), find_file(encoder_of(model), model.weights_path)
        self.n_features = opened(self.encoder, self.path).size
        self._digest, self._max_s = digest_of(self.path), process.max_recording_s

    def settings(self) -> dict[str, object]:
        """All settings that change the arrays."""
        encoder = self.encoder
        return {
            "format": FORMAT,
            "encoder": self._digest,
            "output": encoder.embedding,
            "sample_rate": encoder.sample_rate,
            "window_s": float(encoder.window_s),
            "step_s": float(encoder.window_s),
            "max_recording_s": float(self._max_s),
            **({"peak": encoder.peak} if encoder.peak else {}),
        }

    def key(self) -> str:
        """The key of the settings, like that of ``dataloader.cache.entries.cache_key``."""
        return key_of(self.settings())

    def frames(self, seconds: float) -> int:
        """The number of windows of a recording of this length, approximately."""
        return max(1, round(seconds / self.encoder.window_s))

    def make(self, job: Job, path: Path, digest: bytes, size: int) -> Footer:
        """Write the entry of a recording.

        Raises:
            BadRecording: it cannot be used.
        """
        forward = opened(self.encoder, self.path).forward
        block_s = _BLOCK * self.encoder.window_s
        stream = AudioStream(
            job.path, self.encoder.sample_rate, block_s, max_s=self._max_s, time_expansion=job.time_expansion
        )
        blocks = [forward(windows).embeddings for windows in windows_of(stream, self.encoder.samples)]
        embeddings = np.concatenate(blocks) if blocks else np.empty((0, self.n_features), np.float32)
        if not len(embeddings):
            raise BadRecording("too_short", f"{stream.decoded} samples")
        if not np.isfinite(embeddings).all():
            raise BadRecording("not_finite", "its embedding is not finite")
        scale = 2.0 ** max(-100, math.ceil(math.log2(max(np.abs(embeddings).max(), 1e-30) / _LARGEST)))
        path.parent.mkdir(parents=True, exist_ok=True)
        n = self.n_features
        footer = Footer(digest, size, stream.length, stream.info.sample_rate, len(embeddings), 0)
        values = (embeddings / np.float32(scale)).astype(np.float16)
        write_entry(path, [values], (n, len(embeddings)), np.zeros(n), np.full(n, scale), footer)
        return footer

    def warnings(self, records: Sequence[Record]) -> Iterator[str]:
        """Recordings that give the encoder less than it was made for."""
        encoder, total = self.encoder, counted(len(records), "recording")
        if slow := [record for record in records if record.source_rate < encoder.sample_rate]:
            lowest = min(slow, key=lambda record: record.source_rate)
            yield (
                f"{len(slow)} of {total} have a lower sample rate than the {encoder.sample_rate} Hz of {encoder.name} "
                f"(the lowest: {lowest.filename}, {lowest.source_rate} Hz), so it gets no sound above half of their "
                "rate; where there are originals with a higher rate, use those"
            )
        if short := [record for record in records if record.seconds < encoder.window_s]:
            yield (
                f"{len(short)} of {total} are shorter than the {encoder.window_s:g} s that {encoder.name} needs at "
                f"once (the first: {short[0].filename}, {short[0].seconds:.2f} s) and are repeated to fill a window; "
                f"to leave them out: [data] min_recording_s = {encoder.window_s:g}"
            )


_of_thread = threading.local()


def opened(encoder: Encoder, path: Path) -> Opened:
    """The encoder, opened for its embeddings only; once in each thread, because a TFLite runtime cannot be shared."""
    if getattr(_of_thread, "key", None) != (key := (encoder, path, digest_of(path))):
        _of_thread.key, _of_thread.opened = key, open_encoder(encoder, path, scores=False)
    return _of_thread.opened


def windows_of(blocks: Iterator[np.ndarray], length: int) -> Iterator[np.ndarray]:
    """The windows of a recording, several at a time, ``(windows, length)``, as in ``window_starts``.

    A tail of at least half a window becomes a last window that ends with the recording; a recording that is shorter
    than a window is repeated until it fills one.

    Args:
        blocks: samples of the recording, block by block.
        length: samples of a window.
    """
    held, begun = np.empty(0, np.float32), False  # the samples that are still needed; whether there was a window
    for block in blocks:
        held = np.concatenate([held, block])
        skip = length * begun  # the window before, into which a tail reaches back
        if count := (len(held) - skip) // length:
            yield held[skip : skip + count * length].reshape(count, length)
            begun, held = True, held[skip + (count - 1) * length :]
    if not begun and len(held):
        yield np.resize(held, (1, length))
    elif begun and window_starts(len(held), length)[-1] > 0:
        yield held[-length:][None]
