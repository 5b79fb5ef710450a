"""Is a list of species read as people write it?"""

import pytest

from factory.model_card import ModelCard
from inference.species import read_species
from utils.errors import DataError
from utils.settings import DataProcess, Model

CARD = ModelCard(
    Model(), ("asbfly", "nocall", "comgre"), ("Muscicapa dauurica", "", "Tringa nebularia"),
    ("Asian Brown Flycatcher", "", "Common Greenshank"), DataProcess(), "window",
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("asbfly\ncomgre\n", [0, 2]),
        ("# by week 20\n\nTringa nebularia_Common Greenshank\r\n", [2]),
        ("\ufeffasian brown flycatcher", [0]),
        ("muscicapa dauurica_another name\nnocall", [0, 1]),
    ],
)
def test_labels_scientific_and_common_names_are_found(tmp_path, text, found):
    (tmp_path / "s.txt").write_text(text, encoding="utf-8")
    assert read_species(tmp_path / "s.txt", CARD) == found


def test_species_that_the_model_does_not_know_are_counted(tmp_path, caplog):
    (tmp_path / "s.txt").write_text("asbfly\nDodo\n")
    assert read_species(tmp_path / "s.txt", CARD) == [0]
    assert "the model does not know 1 of 2: Dodo" in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"Dodo\n", "none of its 1 line names a species of the model, the first is 'Dodo'; the model has asbfly"),
        (b"", "none of its 0 lines"),
        (b"\xff\xfe\x00", "this is not a text file"),
        (None, "no such file; --species takes"),
    ],
)
def test_a_list_that_cannot_be_used_is_one_line(tmp_path, content, message):
    if content is not None:
        (tmp_path / "s.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_species(tmp_path / "s.txt", CARD)
