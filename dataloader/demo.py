"""What can be trained on before there are any data? Synthetic birds, in the layout of BirdCLEF 2024 or another.

Every species has its own song; every recordist has their own site, noise, gain and microphone, and records several
species. So a classifier must learn the songs, and a split by recordist matters as much as with real recordings.

    python -m dataloader.demo --output demo
    python -m dataloader.demo --output nights --layout raven    long recordings, with annotations
"""

import argparse
import csv
import io
import json
import logging
import os
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from dataloader.tables.demo_layouts import LAYOUTS, arrange
from utils.errors import DataError, unknown

log = logging.getLogger(__name__)

SAMPLE_RATE = 32_000  # Hz, as BirdCLEF
BIRDCLEF = "birdclef"  # the layout of 2024
FORMAT = 1  # raise it when the same arguments give other files, so that old demos are made again
SIDECAR = "demo.json"  # the arguments that the demo was made with
DESKTOP = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})  # files that a desktop adds to a folder
CONTENTS = frozenset({SIDECAR, "train_audio", "train_metadata.csv", "test_soundscapes", "soundscape_labels.csv"})
COLUMNS = [
    "primary_label",
    "secondary_labels",
    "type",
    "latitude",
    "longitude",
    "scientific_name",
    "common_name",
    "author",
    "license",
    "rating",
    "url",
    "filename",
]

SPECIES, RECORDIST, RECORDING, SOUNDSCAPE, FIELDWORK = range(5)  # each of these has its own random numbers
SECONDS = (6.0, 9.0)  # length of a recording
SOUNDSCAPES, SOUNDSCAPE_S = 2, 60.0
NOISE_S = 8.0  # noise of a recordist, of which every recording has a part
BACKGROUND_SHARE = 0.25  # share of recordings with a second species in the background
FIRST_ID = 900_000_001  # far above any xeno-canto number

KINDS = {"sweep": "Sweepfinch", "trill": "Trillwren", "stack": "Hornthrush", "warble": "Wobblelark"}
COLOURS = [
    *("Amber", "Brindled", "Copper", "Dusky", "Ebony", "Flaxen", "Golden", "Hazel", "Indigo", "Jade"),
    *("Khaki", "Lilac", "Mauve", "Nutmeg", "Ochre", "Pearly", "Russet", "Slaty", "Tawny", "Umber"),
]


@dataclass(frozen=True)
class Syllable:
    """One sound: equal pulses that each sweep from one frequency to another.

    Attributes:
        start_hz, end_hz: frequency at the two ends of a pulse, linear between them.
        bend_hz: how far the middle is above this line.
        wobble_hz: depth of an added vibrato of 25 Hz.
        duration_s: of all pulses together.
        pulses: 1 is a whistle, many are a trill.
        harmonics: number of partials, the first included.
    """

    start_hz: float
    end_hz: float
    bend_hz: float
    wobble_hz: float
    duration_s: float
    pulses: int
    harmonics: int


@dataclass(frozen=True)
class SyntheticSpecies:
    """A synthetic bird: its names, and its song, which each individual varies a little."""

    label: str
    scientific_name: str
    common_name: str
    song: tuple[Syllable, ...]
    gap_s: float  # silence between two syllables


@dataclass(frozen=True, eq=False)
class Recordist:
    """A synthetic recordist, who always records at one site with the same recorder.

    Attributes:
        noise: ``(samples,)``: hiss, wind and hum of ``NOISE_S``, which can be repeated without a jump.
        microphone: a short filter, its frequency response.
        gain_db: of the recorder.
    """

    author: str
    latitude: float
    longitude: float
    noise: np.ndarray
    microphone: tuple[float, ...]
    gain_db: float


def make_demo(
    output: Path | str, *, species: int = 12, recordings: int = 10, seed: int = 1, layout: str = "birdclef"
) -> Path:
    """Make a small data set of synthetic birds, unless an earlier call has made it.

    It is written completely or not at all. The same arguments give files with the same bytes, if the versions of numpy
    and libsndfile are the same.

    Args:
        output: the folder; it may be missing, empty, or have an earlier demo, which is replaced.
        species: number of species.
        recordings: number of recordings of each species; layouts with long recordings have as many recordings of a
            minute as species.
        layout: ``birdclef``, which is that of 2024, or one of ``demo_layouts.LAYOUTS``.

    Returns:
        ``output``, which holds ``train_metadata.csv``, ``train_audio/<label>/XC<id>.ogg``,
        ``test_soundscapes/`` and their labels in ``soundscape_labels.csv``; or what another layout has in their place.

    Raises:
        DataError: an argument is out of range, or the folder has other files.
    """
    output = Path(output)
    made_with = {"format": FORMAT, "species": species, "recordings": recordings, "seed": seed}
    if layout != BIRDCLEF:
        if layout not in LAYOUTS:
            raise DataError(f"demo: layout = {layout!r}: {unknown(layout, [BIRDCLEF, *LAYOUTS])}")
        made_with["layout"] = layout
    for name, low in ("species", 1), ("recordings", 1), ("seed", 0):
        if made_with[name] < low:
            raise DataError(f"demo: {name} = {made_with[name]}: must be at least {low}")
    if _holds(output) == made_with:
        return output
    target = output.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    log.info("making %d synthetic recordings of %d species in %s", species * recordings, species, output)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as work:
        made = Path(work, "made")
        _write_all(made, species, recordings, seed, soundscapes=SOUNDSCAPES if layout == BIRDCLEF else species)
        sidecar = dict(made_with)
        if layout != BIRDCLEF:
            arrange(made, layout)
            sidecar["contents"] = sorted(path.name for path in made.iterdir())
        made.joinpath(SIDECAR).write_text(json.dumps(sidecar) + "\n", encoding="utf-8")
        if _holds(output) == made_with:  # another process was faster
            return output
        if target.exists():
            os.replace(target, Path(work, "earlier"))  # removed with the temporary folder
        os.replace(made, target)
    return output


def make_species(index: int, seed: int) -> SyntheticSpecies:
    """Make the species with this number; it does not depend on the number of others."""
    rng = np.random.default_rng([seed, SPECIES, index])
    # Multiples of the golden ratio spread any number of species evenly over the (log) frequency axis.
    centre_hz = 1_800.0 * (7_500.0 / 1_800.0) ** ((0.5 + index * 0.618034) % 1.0)
    main = list(KINDS)[index % len(KINDS)]
    repertoire = [_make_syllable(kind, centre_hz, rng) for kind in (main, main, rng.choice(list(KINDS)))]
    order = rng.integers(len(repertoire), size=rng.integers(2, 6))
    colour, round_ = COLOURS[index % len(COLOURS)], 1 + index // len(COLOURS)
    return SyntheticSpecies(
        label=f"{colour[:3]}{KINDS[main][:2]}{round_}".lower(),
        scientific_name=f"Fictavis {colour.lower()}{'i' * round_}",
        common_name=f"Imaginary {colour} {KINDS[main]}{'' if round_ == 1 else f' {round_}'}",
        song=(repertoire[0], *(repertoire[i] for i in order)),
        gap_s=rng.uniform(0.03, 0.20),
    )


def sing(bird: SyntheticSpecies, rng: np.random.Generator) -> np.ndarray:
    """One song of one individual, which varies the pitch and tempo of the species a little.

    Returns:
        ``(samples,)``, with unit RMS over the syllables, so that loudness does not show the species.
    """
    pitch, tempo = rng.uniform(0.96, 1.04), rng.uniform(0.9, 1.1)
    gap = np.zeros(round(bird.gap_s * tempo * SAMPLE_RATE))
    parts = [part for syllable in bird.song for part in (_render(syllable, pitch, tempo), gap)]
    song = np.concatenate(parts[:-1])
    return song / np.sqrt(np.mean(song[song != 0.0] ** 2))


def _make_syllable(kind: str, centre_hz: float, rng: np.random.Generator) -> Syllable:
    """Draw a syllable; all its frequencies are between 1 and 12 kHz."""
    pulses, harmonics, wobble_hz = 1, 1, 0.0
    ratio, duration_s = rng.uniform(1.2, 1.6), rng.uniform(0.08, 0.30)
    if kind == "trill":
        pulses, duration_s = int(rng.integers(6, 18)), rng.uniform(0.35, 0.80)
    elif kind == "stack":
        harmonics = int(rng.integers(4, 7))
        centre_hz, ratio = 1_200.0 + centre_hz / 15.0, rng.uniform(1.02, 1.15)
    elif kind == "warble":
        wobble_hz, ratio, duration_s = centre_hz * rng.uniform(0.06, 0.15), 1.1, rng.uniform(0.25, 0.60)
    ends = centre_hz * ratio ** rng.permutation([-0.5, 0.5])  # up or down
    return Syllable(*ends, centre_hz * rng.uniform(-0.08, 0.08), wobble_hz, duration_s, pulses, harmonics)


def _render(syllable: Syllable, pitch: float, tempo: float) -> np.ndarray:
    """The syllable as a waveform ``(samples,)``."""
    seconds = np.arange(round(syllable.duration_s * tempo * SAMPLE_RATE)) / SAMPLE_RATE
    position = np.linspace(0.0, syllable.pulses, len(seconds), endpoint=False) % 1.0  # within its pulse
    arch = np.sin(np.pi * position)
    hz = syllable.start_hz + (syllable.end_hz - syllable.start_hz) * position
    hz += syllable.bend_hz * arch + syllable.wobble_hz * np.sin(2 * np.pi * 25.0 * seconds)
    phase = 2 * np.pi * (np.cumsum(pitch * hz) / SAMPLE_RATE % 1.0).astype(np.float32)  # sines are faster in float32
    return sum(np.sin(n * phase) / n for n in range(1, syllable.harmonics + 1)) * arch


def _make_recordist(index: int, seed: int) -> Recordist:
    rng = np.random.default_rng([seed, RECORDIST, index])
    return Recordist(
        author=f"Demo Recordist {index + 1:02d}",
        latitude=round(rng.uniform(-50.0, 65.0), 4),
        longitude=round(rng.uniform(-180.0, 180.0), 4),
        noise=_make_noise(rng),
        microphone=(1.0, *rng.uniform(-0.3, 0.3, size=2)),
        gain_db=rng.uniform(-12.0, 6.0),
    )


def _make_noise(rng: np.random.Generator) -> np.ndarray:
    """Hiss, wind and hum: ``(samples,)``, which can be repeated without a jump."""
    hiss, wind, hum = (_ratio(rng.uniform(*db)) for db in ((-62.0, -48.0), (-45.0, -25.0), (-65.0, -40.0)))
    samples = round(NOISE_S * SAMPLE_RATE)
    # Drawn as a spectrum: the hiss is flat, the wind's power falls by 12 dB an octave from about 200 Hz.
    hz = np.fft.rfftfreq(samples, 1.0 / SAMPLE_RATE)
    # 200 of 16,000 Hz have an 80th of the power of flat noise, so a factor of 9 gives the wind its level.
    shape = hiss + 9.0 * wind * (hz > 20.0) / (1.0 + np.square(hz / 200.0))
    spectrum = shape * (rng.standard_normal(len(hz)) + 1j * rng.standard_normal(len(hz)))
    noise = np.fft.irfft(spectrum * np.sqrt(samples / 2.0), samples)
    turns = rng.choice([50, 60]) * np.arange(SAMPLE_RATE // 10) / SAMPLE_RATE  # whole periods in a tenth of a second
    noise += hum * np.resize(sum(np.sin(2 * np.pi * n * turns + n) / n for n in (1, 2, 3, 5)), samples)
    return noise.astype(np.float32)


def _place_songs(
    bird: SyntheticSpecies, seconds: float, pause_s: float, rng: np.random.Generator
) -> tuple[np.ndarray, list[tuple[float, float, str]]]:
    """Repeat the song of a bird, with pauses of ``pause_s`` on average.

    Returns:
        The waveform ``(samples,)`` and ``(start_s, end_s, label)`` of every song. The end may cut off
        the last song, as in a real recording.
    """
    track = np.zeros(round(seconds * SAMPLE_RATE), dtype=np.float32)
    sung = []
    start = round(rng.uniform(0.0, min(pause_s, 1.5)) * SAMPLE_RATE)
    while start < len(track) - SAMPLE_RATE // 2:
        song = (sing(bird, rng) * _ratio(rng.normal(0.0, 2.0)))[: len(track) - start]
        end = start + len(song)
        track[start:end] = song
        sung.append((start / SAMPLE_RATE, end / SAMPLE_RATE, bird.label))
        start = end + round(pause_s * rng.uniform(0.3, 1.7) * SAMPLE_RATE)
    return track, sung


def _record(birds: np.ndarray, recordist: Recordist, rng: np.random.Generator) -> np.ndarray:
    """The recorded sound: birds and a part of the noise, through the recorder.

    Args:
        birds: ``(samples,)``, with their loudness at the microphone.
    """
    noise = np.resize(np.roll(recordist.noise, rng.integers(len(recordist.noise))), len(birds))
    heard = np.convolve(birds + noise, recordist.microphone)[: len(birds)]
    return np.clip(heard * _ratio(recordist.gain_db), -1.0, 1.0).astype(np.float32)


def _ratio(db: float | np.ndarray) -> float | np.ndarray:
    """The factor of an amplitude for ``db`` decibels."""
    return 10.0 ** (db / 20.0)


def _write_all(folder: Path, species: int, recordings: int, seed: int, *, soundscapes: int = SOUNDSCAPES) -> None:
    birds = sorted((make_species(index, seed) for index in range(species)), key=lambda bird: bird.label)
    recordists = [_make_recordist(index, seed) for index in range(max(8, 2 * recordings))]
    rows = []
    jobs = [
        (bird, recordist)
        for index, bird in enumerate(birds)
        for recordist in _fieldwork(index, recordists, recordings, seed)
    ]
    for number, (bird, recordist) in enumerate(tqdm(jobs, desc="demo", unit="recording", leave=False, disable=None)):
        rng = np.random.default_rng([seed, RECORDING, number])
        rows.append(_write_recording(folder, FIRST_ID + number, bird, recordist, birds, rng))
    _write_table(folder / "train_metadata.csv", COLUMNS, rows)
    truth = []
    for number in range(soundscapes):
        rng = np.random.default_rng([seed, SOUNDSCAPE, number])
        truth += _write_soundscape(folder, f"soundscape_{number + 1}.ogg", birds, recordists, rng)
    _write_table(folder / "soundscape_labels.csv", ["filename", "start_s", "end_s", "label"], truth)


def _fieldwork(index: int, recordists: Sequence[Recordist], recordings: int, seed: int) -> Iterator[Recordist]:
    """The recordist of each recording of a species: recordists in random order, with 1 to 3 recordings each."""
    rng = np.random.default_rng([seed, FIELDWORK, index])
    chosen = [who for who in rng.permutation(len(recordists)) for _ in range(rng.integers(1, 4))]
    return (recordists[who] for who in sorted(chosen[:recordings]))


def _write_recording(
    folder: Path,
    number: int,
    bird: SyntheticSpecies,
    recordist: Recordist,
    birds: Sequence[SyntheticSpecies],
    rng: np.random.Generator,
) -> dict[str, object]:
    """Write one training recording; return its row of the table."""
    seconds = round(rng.uniform(*SECONDS), 1)
    level_db = rng.uniform(-38.0, -18.0)  # near or far
    track, _ = _place_songs(bird, seconds, rng.uniform(0.4, 1.6), rng)
    track *= _ratio(level_db)
    others = [other for other in birds if other.label != bird.label]
    behind = []
    if others and rng.random() < BACKGROUND_SHARE:
        behind = [others[rng.integers(len(others))]]
        track += _place_songs(behind[0], seconds, 2.5, rng)[0] * _ratio(level_db - rng.uniform(6.0, 14.0))
    filename = f"{bird.label}/XC{number}.ogg"
    _write_ogg(folder / "train_audio" / filename, _record(track, recordist, rng), number)
    return {
        "primary_label": bird.label,
        "secondary_labels": str([other.label for other in behind]),
        "type": str([str(rng.choice(["song", "call"]))]),
        "latitude": recordist.latitude,
        "longitude": recordist.longitude,
        "scientific_name": bird.scientific_name,
        "common_name": bird.common_name,
        "author": recordist.author,
        "license": "CC0 1.0",
        "rating": rng.integers(4, 11) / 2,  # 2.0 to 5.0
        "url": f"https://example.org/XC{number}",
        "filename": filename,
    }


def _write_soundscape(
    folder: Path,
    name: str,
    birds: Sequence[SyntheticSpecies],
    recordists: Sequence[Recordist],
    rng: np.random.Generator,
) -> list[dict[str, object]]:
    """Write a minute with up to four species; return its labels, in order of time."""
    present = [birds[index] for index in rng.permutation(len(birds))[:4]]
    recordist = recordists[rng.integers(len(recordists))]
    track, sung = np.zeros(round(SOUNDSCAPE_S * SAMPLE_RATE), dtype=np.float32), []
    for bird in present:  # each is placed independently, so that songs overlap
        voice, songs = _place_songs(bird, SOUNDSCAPE_S, 8.0, rng)
        track += voice * _ratio(rng.uniform(-34.0, -20.0))
        sung += songs
    _write_ogg(folder / "test_soundscapes" / name, _record(track, recordist, rng), 1)
    return [
        {"filename": name, "start_s": f"{start:.2f}", "end_s": f"{end:.2f}", "label": label}
        for start, end, label in sorted(sung)
    ]


def _write_table(path: Path, columns: Sequence[str], rows: Sequence[dict[str, object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _write_ogg(path: Path, waveform: np.ndarray, serial: int) -> None:
    import soundfile

    path.parent.mkdir(parents=True, exist_ok=True)
    memory = io.BytesIO()
    with soundfile.SoundFile(memory, "w", SAMPLE_RATE, 1, format="OGG", subtype="VORBIS") as file:
        for block in np.split(waveform, range(10 * SAMPLE_RATE, len(waveform), 10 * SAMPLE_RATE)):
            file.write(block)  # in blocks, because libsndfile crashes when it writes minutes of Vorbis at once
    path.write_bytes(with_serial(memory.getvalue(), serial))


def with_serial(ogg: bytes, serial: int) -> bytes:
    """Give an Ogg stream this serial number, in place of the random one of libsndfile.

    Then the same sound gives the same file. The format of a page is in RFC 3533, section 6: the
    serial number at byte 14, the checksum at 22, the number of segments at 26, then their sizes.

    Args:
        ogg: one logical stream, well formed.
    """
    pages, start = bytearray(ogg), 0
    while start < len(pages):
        body = start + 27 + pages[start + 26]
        end = body + sum(pages[start + 27 : body])
        pages[start + 14 : start + 18] = serial.to_bytes(4, "little")
        pages[start + 22 : start + 26] = bytes(4)  # counts as zero in its own checksum
        pages[start + 22 : start + 26] = _ogg_checksum(bytes(pages[start:end])).to_bytes(4, "little")
        start = end
    return bytes(pages)


MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))  # each byte with its bits reversed


def _ogg_checksum(page: bytes) -> int:
    """Ogg's CRC-32: zlib's polynomial, but with reversed bits and no inversions."""
    mirrored = zlib.crc32(page.translate(MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2)


def is_there(folder: Path) -> bool:
    """Whether ``folder`` has a demo of this program, with any number of species and recordings."""
    try:
        return json.loads((folder / SIDECAR).read_text(encoding="utf-8"))["format"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _holds(output: Path) -> dict[str, int] | None:
    """The arguments that the demo in ``output`` was made with; None if there is nothing yet.

    Raises:
        DataError: the folder has other files than those of a demo.
    """
    remedy = "name another folder (--output, or [paths] demo_dir), or empty this one"
    if output.exists() and not output.is_dir():
        raise DataError(f"{output}: is a file, not a folder; name a folder (--output, or [paths] demo_dir)")
    names = {entry.name for entry in output.iterdir() if entry.name not in DESKTOP} if output.is_dir() else set()
    if not names:
        return None
    if SIDECAR not in names:
        raise DataError(
            f"{output}: has a file that is not part of a demo, {min(names - CONTENTS or names)!r}; {remedy}"
        )
    try:
        made_with = json.loads(output.joinpath(SIDECAR).read_text(encoding="utf-8"))
        contents = CONTENTS | set(made_with.pop("contents", ()))  # another layout has its own names
    except (ValueError, TypeError, AttributeError):
        raise DataError(f"{output / SIDECAR}: damaged; {remedy}") from None
    if strange := names - contents:
        raise DataError(f"{output}: has a file that is not part of a demo, {min(strange)!r}; {remedy}")
    return made_with


def main(arguments: Sequence[str] | None = None) -> None:
    """``python -m dataloader.demo``: make the demo and print its path."""
    parser = argparse.ArgumentParser(prog="python -m dataloader.demo", description="Make synthetic birds.")
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="a folder that is missing, empty, or has an earlier demo",
    )
    parser.add_argument("--species", type=int, default=12, metavar="N", help="number of species (12)")
    parser.add_argument("--recordings", type=int, default=10, metavar="N", help="recordings of each species (10)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="another seed gives other birds (1)")
    layouts = [BIRDCLEF, *LAYOUTS]
    parser.add_argument("--layout", choices=layouts, default=BIRDCLEF, help="the layout of files and labels")
    chosen = parser.parse_args(arguments)
    numbers = {"species": chosen.species, "recordings": chosen.recordings, "seed": chosen.seed}
    folder = make_demo(chosen.output, **numbers, layout=chosen.layout)
    print(f"demo: {folder.resolve()}")


if __name__ == "__main__":
    from utils.command import run_command

    run_command(main)
