"""Are the examples of docs/data.md read, and does the program report how it read them?"""

import re
from pathlib import Path

import pytest

from dataloader.metadata import read_sources
from utils.config import load_config

TEXT = (Path(__file__).parents[3] / "docs" / "data.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"```(?P<kind>text|csv|tsv|ini|said)(?: (?P<file>[^\n]+))?\n(?P<text>.*?)```", re.DOTALL)


def examples() -> list[list[re.Match]]:
    """The blocks of each example, which ends with what the program says."""
    found: list[list[re.Match]] = [[]]
    for block in BLOCK.finditer(TEXT):
        found[-1].append(block)
        if block["kind"] == "said":
            found.append([])
    return found[:-1]


@pytest.mark.parametrize("example", examples(), ids=lambda example: example[-1]["text"].strip()[:60])
def test_an_example_is_read_as_the_page_describes(tmp_path, caplog, example):
    caplog.set_level("INFO")
    settings = ["[data]\noutput_dir = cache\n"]
    for block in example:
        if block["kind"] == "text":
            for name in block["text"].split("\n"):
                if name:
                    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
                    (tmp_path / name).touch()
        elif block["kind"] in ("csv", "tsv"):
            (tmp_path / block["file"]).write_text(block["text"], encoding="utf-8")
        elif block["kind"] == "ini":
            settings.append(block["text"].removeprefix("[data]\n"))
    (tmp_path / "config.ini").write_text("".join(settings), encoding="utf-8")
    assert len(read_sources(load_config(tmp_path / "config.ini")))
    for line in example[-1]["text"].splitlines():
        assert line in caplog.text


def test_there_is_an_example_of_every_layout():
    said = "".join(example[-1]["text"] for example in examples())
    assert all(f"layout {layout} (" in said for layout in ("birdclef", "folders", "table", "annotations"))
    assert all(len(block["text"].splitlines()) <= 5 for example in examples() for block in example)
