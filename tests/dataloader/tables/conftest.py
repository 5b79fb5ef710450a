"""A folder of recordings and tables, and the table that is read from it."""

from dataloader.metadata import read_sources
from utils.settings import Config, Data, Paths


def make(folder, files):
    """Files by name; None: an empty file, as a sound that is not read here."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"" if text is None else text if isinstance(text, bytes) else text.encode())
    return folder


def read(folder, **data):
    data = {"output_dir": folder.parent / "cache"} | data
    return read_sources(Config(paths=Paths(data_dir=folder), data=Data(**data)))


def labels(table):
    return dict(zip(table["filename"], table["labels"], strict=True))


def times(table):
    return {
        name: None if found is None else [(one.start_s, one.end_s, one.label) for one in found]
        for name, found in zip(table["filename"], table["annotations"], strict=True)
    }


SOUNDS = {"a.wav": None, "b/c.flac": None}
