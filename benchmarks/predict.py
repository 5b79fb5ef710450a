"""How fast is prediction, compared with its parts alone and with a simple program?

    python -m benchmarks.predict [--recordings N] [--rounds N] [--model NAME] [--memory]

In one run, these take turns on the same recordings (BIRDS_DIR, else ../shared/birds, else a demo):
* the bound: decoding alone, the spectrograms alone (one thread each), and the forward pass alone (batches in memory, as
  many threads as cores), with their times added, for each backend;
* this program (ours) with each backend, from files to scores;
* a simple program: librosa.load, librosa's spectrogram, one window at a time in PyTorch.
Because decoding and the forward pass overlap, ours can be faster than the bound. Figures are medians, as multiples of
real time. With ``--memory`` the peak memory for a recording of 10 hours is compared with that for one hour.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import soundfile as sf
import torch

from benchmarks.birds import recordings
from dataloader.audio.decoding import read_audio
from dataloader.batches.windows import image_size
from dataloader.cache.spectrogram import MelSpectrogram, standardise
from factory.model import build_model
from factory.model_card import ModelCard
from inference.backends import BACKENDS, Loaded, is_available
from inference.predictor import Predictor
from utils.arguments import at_least
from utils.command import run_command
from utils.settings import DataProcess, Model
from utils.utils import cores

PROCESS = DataProcess()
CONTEST_HOURS, CONTEST_LIMIT_MINUTES = 1100 * 4 / 60, 120
ROOT = Path(__file__).parents[1]


def make_run(folder: Path, model_type: str, n_classes: int) -> Path:
    """A checkpoint with random weights, as in a run; the speed does not depend on the weights."""
    torch.manual_seed(0)
    process, model = DataProcess(), Model(type=model_type, transfer_learning=False)
    network = build_model(model, n_classes, image_size=image_size(process))
    labels = tuple(f"species{number:03d}" for number in range(n_classes))
    card = ModelCard(model, labels, labels, labels, process, standardize_over="window")
    state = {"model": network.state_dict(), "optimizer": {}, "scheduler": {}, "epoch": 1, **card.plain()}
    torch.save(state, folder / "best.pt")
    return folder / "best.pt"


def spectrograms(waves: Sequence[np.ndarray], mel: MelSpectrogram) -> None:
    for wave in waves:
        mel.db(wave)


def forward(model: Loaded, batches: Sequence[np.ndarray]) -> None:
    with ThreadPoolExecutor(model.workers) as pool:
        list(pool.map(model.forward, batches))


def ours(predictor: Predictor, paths: Sequence[str]) -> None:
    for _ in predictor.predict_files(paths):
        pass


def simple_program(network: torch.nn.Module, paths: Sequence[str]) -> None:
    import librosa

    p, frames = PROCESS, 320
    for path in paths:
        wave, _ = librosa.load(path, sr=p.sample_rate)
        mel = librosa.feature.melspectrogram(
            y=wave, sr=p.sample_rate, n_fft=p.n_fft, hop_length=p.hop_length,
            n_mels=p.n_mels, fmin=p.f_min, fmax=p.f_max,
        )  # fmt: skip
        db = librosa.power_to_db(mel, top_db=None)
        for first in range(0, db.shape[1] - frames + 1, frames):
            image = torch.from_numpy(standardise(db[:, first : first + frames], p))
            with torch.no_grad():
                network(image[None, None]).sigmoid().numpy()


def seconds(work: Callable[..., None], *arguments: object) -> float:
    started = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - started


def in_a_thread(work: Callable[..., None], *arguments: object) -> float:
    """The seconds of ``work`` in a single thread, which is also PyTorch's only one."""

    def alone() -> float:
        torch.set_num_threads(1)
        return seconds(work, *arguments)

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(alone).result()


def compare(model_type: str, n_recordings: int, rounds: int) -> None:
    paths = recordings(n_recordings)
    waves = [read_audio(path, PROCESS.sample_rate) for path in paths]
    audio = sum(sf.info(path).duration for path in paths)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(action="ignore"):
        run = make_run(Path(folder), model_type, 182)
        predictors = {name: Predictor(run, backend=name, device="cpu") for name in BACKENDS if is_available(name)}
        size = next(iter(predictors.values())).models[0].batch
        n_batches = round(audio / PROCESS.max_length_s / size)
        batches = [np.random.default_rng(0).standard_normal((size, 1, 128, 320), np.float32)] * n_batches
        eager = build_model(Model(type=model_type, transfer_learning=False), 182, image_size=(128, 320)).eval()
        mel = MelSpectrogram(PROCESS)
        ways = {
            "decoding alone": lambda: in_a_thread(lambda: [sf.read(path, dtype="float32") for path in paths]),
            "spectrograms alone": lambda: in_a_thread(spectrograms, waves, mel),
            "a simple program": lambda: seconds(simple_program, eager, paths),
        }
        for name, predictor in predictors.items():
            ways[f"forward alone, {name}"] = lambda p=predictor: seconds(forward, p.models[0], batches)
            ways[f"ours, {name}"] = lambda p=predictor: seconds(ours, p, paths)
        for name in ways:
            if name != "a simple program":
                ways[name]()  # imports, page cache, first calls
        taken = [{name: work() for name, work in ways.items()} for _ in range(rounds)]
    times = {name: statistics.median(one[name] for one in taken) for name in ways}
    scale = audio / (n_batches * size * PROCESS.max_length_s)  # complete batches have a little more or less audio
    print(f"{model_type}, {cores()} cores, {len(paths)} recordings, {audio / 60:.1f} min, {rounds} rounds, medians")
    for name, time_taken in times.items():
        print(f"  {name:<28}{audio / time_taken:8.0f} x real time")
    for name in predictors:
        bound = times["decoding alone"] + times["spectrograms alone"] + scale * times[f"forward alone, {name}"]
        mine = times[f"ours, {name}"]
        print(f"  ours / the bound, {name:<22}{bound / mine:6.2f}   goal: at least 0.85")
        print(f"  ours / a simple program, {name:<18}{times['a simple program'] / mine:6.2f}   goal: at least 3")
        minutes = CONTEST_HOURS * 3600 / (audio / mine) / 60
        limit = f"limit: {CONTEST_LIMIT_MINUTES} min on 4 cores"
        print(f"  1,100 soundscapes of 4 min, {name:<12}{minutes:6.1f} min   {limit}")


def peak_megabytes(path: Path, run: Path) -> float:
    """Peak memory of a separate process that scores ``path``."""
    code = f"import benchmarks.predict as b; b.report_peak({str(path)!r}, {str(run)!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def report_peak(path: str, run: str) -> None:
    predictor = Predictor(run, device="cpu")
    predictor.predict_file(path)
    # Not ru_maxrss, which a new process inherits from its parent.
    print(int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024)


def compare_memory(model_type: str) -> None:
    """Compare the peak memory for one hour with that for ten hours, of noise, because the content does not matter."""
    rng = np.random.default_rng(0)
    minute = (0.05 * rng.standard_normal(60 * PROCESS.sample_rate)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        run, peaks = make_run(Path(folder), model_type, 182), {}
        for hours in (1, 10):
            path = Path(folder) / f"{hours}h.wav"
            with sf.SoundFile(path, "w", PROCESS.sample_rate, 1, "PCM_16") as file:
                for _ in range(60 * hours):
                    file.write(minute)
            peaks[hours] = peak_megabytes(path, run)
            path.unlink()
    print(f"peak memory: 1 h {peaks[1]:.0f} MB, 10 h {peaks[10]:.0f} MB   goal: below 1500 MB")
    print(f"10 h / 1 h: {peaks[10] / peaks[1]:.3f}   goal: at most 1.1")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--recordings", type=at_least(1), default=60)
    parser.add_argument("--rounds", type=at_least(1), default=3)
    parser.add_argument("--model", default="efficientnet_b0")
    parser.add_argument("--memory", action="store_true", help="compare 10 hours with one (2.5 GB of disk; on Linux)")
    options = parser.parse_args(arguments)
    compare(options.model, options.recordings, options.rounds)
    if options.memory:
        compare_memory(options.model)


if __name__ == "__main__":
    run_command(main)
