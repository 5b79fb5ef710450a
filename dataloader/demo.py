"""What can be trained on before there are any data? Synthetic birds, in the layout of BirdCLEF 2024 or another.

Every species has its own song; every recordist has their own site, noise, gain and microphone, and records several
species. So a classifier must learn the songs, and a split by recordist matters as much as with real recordings.

    python -m dataloader.demo --output demo
    python -m dataloader.demo --output nights --layout raven    long recordings, with annotations
"""

import argparse
import csv
import json
import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from dataloader.synthetic.birds import (
    FIELDWORK,
    RECORDING,
    SAMPLE_RATE,
    SOUNDSCAPE,
    Recordist,
    SyntheticSpecies,
    make_recordist,
    make_species,
    place_songs,
    ratio,
    record,
)
from dataloader.synthetic.layouts import LAYOUTS, arrange
from dataloader.synthetic.ogg_writer import write_ogg
from utils.errors import DataError, counted, unknown

log = logging.getLogger(__name__)

BIRDCLEF = "birdclef"  # the layout of 2024
FORMAT = 1  # raise it when the same arguments give other files, so that old demos are made again
SIDECAR = "demo.json"  # the arguments that the demo was made with
DESKTOP = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})  # files that a desktop adds to a folder
CONTENTS = frozenset({SIDECAR, "train_audio", "train_metadata.csv", "test_soundscapes", "soundscape_labels.csv"})
COLUMNS = [
    *("primary_label", "secondary_labels", "type", "latitude", "longitude", "scientific_name", "common_name"),
    *("author", "license", "rating", "url", "filename"),
]

SECONDS = (6.0, 9.0)  # length of a recording
SOUNDSCAPES, SOUNDSCAPE_S = 2, 60.0
BACKGROUND_SHARE = 0.25  # share of recordings with a second species in the background
FIRST_ID = 900_000_001  # far above any xeno-canto number


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
        layout: ``birdclef``, which is that of 2024, or one of ``synthetic.layouts.LAYOUTS``.

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
    log.info("making %s of %d species in %s", counted(species * recordings, "synthetic recording"), species, output)
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


def _write_all(folder: Path, species: int, recordings: int, seed: int, *, soundscapes: int) -> None:
    birds = sorted((make_species(index, seed) for index in range(species)), key=lambda bird: bird.label)
    recordists = [make_recordist(index, seed) for index in range(max(8, 2 * recordings))]
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
    folder: Path, number: int, bird: SyntheticSpecies, recordist: Recordist, birds: Sequence[SyntheticSpecies],
    rng: np.random.Generator,
) -> dict[str, object]:  # fmt: skip
    """Write one training recording; return its row of the table."""
    seconds = round(rng.uniform(*SECONDS), 1)
    level_db = rng.uniform(-38.0, -18.0)  # near or far
    track, _ = place_songs(bird, seconds, rng.uniform(0.4, 1.6), rng)
    track *= ratio(level_db)
    others = [other for other in birds if other.label != bird.label]
    background = []
    if others and rng.random() < BACKGROUND_SHARE:
        background = [others[rng.integers(len(others))]]
        track += place_songs(background[0], seconds, 2.5, rng)[0] * ratio(level_db - rng.uniform(6.0, 14.0))
    filename = f"{bird.label}/XC{number}.ogg"
    write_ogg(folder / "train_audio" / filename, record(track, recordist, rng), SAMPLE_RATE, number)
    return {
        "primary_label": bird.label,
        "secondary_labels": str([other.label for other in background]),
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
    folder: Path, name: str, birds: Sequence[SyntheticSpecies], recordists: Sequence[Recordist],
    rng: np.random.Generator,
) -> list[dict[str, object]]:  # fmt: skip
    """Write a minute with up to four species; return its labels, in order of time."""
    present = [birds[index] for index in rng.permutation(len(birds))[:4]]
    recordist = recordists[rng.integers(len(recordists))]
    track, sung = np.zeros(round(SOUNDSCAPE_S * SAMPLE_RATE), dtype=np.float32), []
    for bird in present:  # each is placed independently, so that songs overlap
        voice, songs = place_songs(bird, SOUNDSCAPE_S, 8.0, rng)
        track += voice * ratio(rng.uniform(-34.0, -20.0))
        sung += songs
    write_ogg(folder / "test_soundscapes" / name, record(track, recordist, rng), SAMPLE_RATE, 1)
    return [
        {"filename": name, "start_s": f"{start:.2f}", "end_s": f"{end:.2f}", "label": label}
        for start, end, label in sorted(sung)
    ]


def _write_table(path: Path, columns: Sequence[str], rows: Sequence[dict[str, object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


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
