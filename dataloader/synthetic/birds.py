"""How do the synthetic birds of the demo sound? Songs, recordists with their noise and microphone, and recordings.

All random numbers of a species or recordist follow from the seed and its own number, so they do not depend on the
number of others.
"""

from dataclasses import dataclass

import numpy as np

SAMPLE_RATE = 32_000  # Hz, as BirdCLEF
SPECIES, RECORDIST, RECORDING, SOUNDSCAPE, FIELDWORK = range(5)  # each of these has its own random numbers
NOISE_S = 8.0  # noise of a recordist, of which every recording has a piece
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
    sounds = [sound for syllable in bird.song for sound in (_render(syllable, pitch, tempo), gap)]
    song = np.concatenate(sounds[:-1])
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


def make_recordist(index: int, seed: int) -> Recordist:
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
    hiss, wind, hum = (ratio(rng.uniform(*db)) for db in ((-62.0, -48.0), (-45.0, -25.0), (-65.0, -40.0)))
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


def place_songs(
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
        song = (sing(bird, rng) * ratio(rng.normal(0.0, 2.0)))[: len(track) - start]
        end = start + len(song)
        track[start:end] = song
        sung.append((start / SAMPLE_RATE, end / SAMPLE_RATE, bird.label))
        start = end + round(pause_s * rng.uniform(0.3, 1.7) * SAMPLE_RATE)
    return track, sung


def record(birds: np.ndarray, recordist: Recordist, rng: np.random.Generator) -> np.ndarray:
    """The recorded sound: birds and a piece of the noise, through the recorder.

    Args:
        birds: ``(samples,)``, with their loudness at the microphone.
    """
    noise = np.resize(np.roll(recordist.noise, rng.integers(len(recordist.noise))), len(birds))
    recorded = np.convolve(birds + noise, recordist.microphone)[: len(birds)]
    return np.clip(recorded * ratio(recordist.gain_db), -1.0, 1.0).astype(np.float32)


def ratio(db: float | np.ndarray) -> float | np.ndarray:
    """The factor of an amplitude for ``db`` decibels."""
    return 10.0 ** (db / 20.0)
