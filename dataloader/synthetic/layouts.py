"""What is the demo like in other layouts? The synthetic birds are rearranged like the data that people share."""

import ast
import csv
import json
import math
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from dataloader.tables.schema import NOCALL

Row = dict[str, str]
_ROW_S = 5  # seconds of a row of soundscape labels
_LONG = "long"  # folder of the long recordings


def arrange(folder: Path, layout: str) -> None:
    """Rearrange a demo in the layout of BirdCLEF 2024, whose recordings and labels are in ``folder``."""
    recordings = _read(folder / "train_metadata.csv")
    truth = _read(folder / "soundscape_labels.csv")
    for name in ("train_metadata.csv", "soundscape_labels.csv"):
        (folder / name).unlink()
    LAYOUTS[layout](folder, recordings, truth)


def _folders(folder: Path, recordings: Sequence[Row], truth: Sequence[Row]) -> None:
    for species in sorted((folder / "train_audio").iterdir()):
        species.rename(folder / species.name)
    (folder / "train_audio").rmdir()
    shutil.rmtree(folder / "test_soundscapes")


def _table(folder: Path, recordings: Sequence[Row], truth: Sequence[Row]) -> None:
    """One table with semicolons: short recordings with one label each, long ones with times."""
    (folder / "train_audio").rename(folder / "recordings")
    (folder / "test_soundscapes").rename(folder / _LONG)
    rows = [
        {"file": f"recordings/{row['filename']}", "species": row["primary_label"], "begin": "", "end": "",
         "recordist": row["author"]}
        for row in recordings
    ]  # fmt: skip
    rows += [
        {"file": f"{_LONG}/{row['filename']}", "species": row["label"], "begin": row["start_s"].replace(".", ","),
         "end": row["end_s"].replace(".", ","), "recordist": "Demo Recorder"}
        for row in truth
    ]  # fmt: skip
    _write(folder / "birds.csv", rows, ";")


def _raven(folder: Path, recordings: Sequence[Row], truth: Sequence[Row]) -> None:
    """Long recordings with selection tables, each box once for the waveform and once for the spectrogram."""
    for name, rows in _long_alone(folder, truth).items():
        lines = [
            {"Selection": str(number), "View": view, "Channel": "1", "Begin Time (s)": row["start_s"],
             "End Time (s)": row["end_s"], "Low Freq (Hz)": "1000.0", "High Freq (Hz)": "12000.0",
             "Species": row["label"]}
            for number, row in enumerate(rows, start=1)
            for view in ("Waveform 1", "Spectrogram 1")
        ]  # fmt: skip
        _write(folder / _LONG / f"{Path(name).stem}.Table.1.selections.txt", lines, "\t")


def _audacity(folder: Path, recordings: Sequence[Row], truth: Sequence[Row]) -> None:
    for name, rows in _long_alone(folder, truth).items():
        lines = [f"{row['start_s']}\t{row['end_s']}\t{row['label']}\n\\\t1000.0\t12000.0\n" for row in rows]
        (folder / _LONG / f"{Path(name).stem}.txt").write_text("".join(lines), encoding="utf-8")


def _birdclef_2021(folder: Path, recordings: Sequence[Row], truth: Sequence[Row]) -> None:
    (folder / "train_audio").rename(folder / "train_short_audio")
    _write(folder / "train_metadata.csv", [row | {"filename": row["filename"].split("/")[1]} for row in recordings])
    (folder / "test_soundscapes").rename(folder / "train_soundscapes")
    labels = []
    for number, (name, rows) in enumerate(_by_recording(truth).items(), start=1):
        site = f"DEM_2026050{number}"
        (folder / "train_soundscapes" / name).rename(folder / "train_soundscapes" / f"{number}_{site}.ogg")
        for end, found in _rows_of_five_seconds(rows):
            labels.append(
                {"row_id": f"{number}_DEM_{end}", "site": "DEM", "audio_id": str(number), "seconds": str(end),
                 "birds": " ".join(found) or NOCALL}
            )  # fmt: skip
    _write(folder / "train_soundscape_labels.csv", labels)
    _write(folder / "sample_submission.csv", [{"row_id": row["row_id"], "birds": NOCALL} for row in labels])


def _birdclef_2022(folder: Path, recordings: Sequence[Row], truth: Sequence[Row]) -> None:
    rows = [{name: row[name] for name in list(row)[:-2]} | {"time": "06:30", **row} for row in recordings]
    _write(folder / "train_metadata.csv", rows)
    labels = sorted({row["primary_label"] for row in recordings})
    (folder / "scored_birds.json").write_text(json.dumps(labels), encoding="utf-8")
    ids = [f"{stem}_{label}_{end}" for stem, end in _rows_to_score(folder / "test_soundscapes") for label in labels]
    _write(folder / "sample_submission.csv", [{"row_id": name, "target": "False"} for name in ids])


def _birdclef_2023(folder: Path, recordings: Sequence[Row], truth: Sequence[Row]) -> None:
    """That of 2023, and of 2024."""
    _write(folder / "train_metadata.csv", recordings)
    names = {row["primary_label"]: row for row in recordings}
    taxonomy = [
        {"TAXON_ORDER": str(number), "CATEGORY": "species", "SPECIES_CODE": label,
         "PRIMARY_COM_NAME": row["common_name"], "SCI_NAME": row["scientific_name"]}
        for number, (label, row) in enumerate(sorted(names.items()), start=1)
    ]  # fmt: skip
    _write(folder / "eBird_Taxonomy_v2021.csv", taxonomy)
    _write_sample(folder, "test_soundscapes", recordings)


def _write_sample(folder: Path, soundscapes: str, recordings: Sequence[Row]) -> None:
    """A sample submission as from 2023 on: a row for each five seconds, a column for each species."""
    labels = sorted({row["primary_label"] for row in recordings})
    share = {label: f"{1 / len(labels):.6f}" for label in labels}
    ids = [f"{stem}_{end}" for stem, end in _rows_to_score(folder / soundscapes)]
    _write(folder / "sample_submission.csv", [{"row_id": name, **share} for name in ids])


def _rows_to_score(folder: Path) -> list[tuple[str, int]]:
    """The name and the end second of each row of the long recordings."""
    import soundfile

    counts = {path.stem: math.ceil(soundfile.info(path).duration / _ROW_S) for path in sorted(folder.iterdir())}
    return [(stem, _ROW_S * row) for stem, count in counts.items() for row in range(1, count + 1)]


def _birdclef_2025(folder: Path, recordings: Sequence[Row], truth: Sequence[Row]) -> None:
    rows = [
        row | {"secondary_labels": str(ast.literal_eval(row["secondary_labels"]) or [""]), "collection": "XC"}
        for row in recordings
    ]
    _write(folder / "train.csv", rows)
    names = {row["primary_label"]: row for row in recordings}
    taxonomy = [
        {"primary_label": label, "inat_taxon_id": str(number), "scientific_name": row["scientific_name"],
         "common_name": row["common_name"], "class_name": "Aves"}
        for number, (label, row) in enumerate(sorted(names.items()), start=1)
    ]  # fmt: skip
    _write(folder / "taxonomy.csv", taxonomy)
    (folder / "test_soundscapes").rename(folder / "train_soundscapes")  # without labels
    _write_sample(folder, "train_soundscapes", recordings)


def _birdclef_2026(folder: Path, recordings: Sequence[Row], truth: Sequence[Row]) -> None:
    _birdclef_2025(folder, recordings, truth)
    labels = [
        {"filename": name, "start": _clock(end - _ROW_S), "end": _clock(end), "primary_label": ";".join(found)}
        for name, rows in _by_recording(truth).items()
        for end, found in _rows_of_five_seconds(rows)
        if found
    ]
    _write(folder / "train_soundscapes_labels.csv", labels)


def _long_alone(folder: Path, truth: Sequence[Row]) -> dict[str, list[Row]]:
    """Keep only the long recordings, and return their labels."""
    shutil.rmtree(folder / "train_audio")
    (folder / "test_soundscapes").rename(folder / _LONG)
    return _by_recording(truth)


def _by_recording(truth: Iterable[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in truth:
        found.setdefault(row["filename"], []).append(row)
    return found


def _rows_of_five_seconds(rows: Sequence[Row]) -> list[tuple[int, list[str]]]:
    """``(end, labels)`` of each five seconds up to the last label."""
    last = max(float(row["end_s"]) for row in rows)
    ends = range(_ROW_S, _ROW_S * math.ceil(last / _ROW_S) + 1, _ROW_S)
    return [
        (end, sorted({r["label"] for r in rows if float(r["start_s"]) < end and float(r["end_s"]) > end - _ROW_S}))
        for end in ends
    ]


def _clock(seconds: int) -> str:
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _read(path: Path) -> list[Row]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _write(path: Path, rows: Sequence[Mapping[str, str]], separator: str = ",") -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=separator, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


LAYOUTS: Mapping[str, Callable[[Path, Sequence[Row], Sequence[Row]], None]] = {
    "folders": _folders,
    "table": _table,
    "raven": _raven,
    "audacity": _audacity,
    "birdclef-2021": _birdclef_2021,
    "birdclef-2022": _birdclef_2022,
    "birdclef-2023": _birdclef_2023,
    "birdclef-2024": _birdclef_2023,
    "birdclef-2025": _birdclef_2025,
    "birdclef-2026": _birdclef_2026,
}
