"""Which classes of a model are on a list of species? Only these are kept in the results."""

import logging
from pathlib import Path

from factory.model_card import ModelCard
from utils.errors import DataError, counted
from utils.files import read_lines

log = logging.getLogger(__name__)


def read_species(path: Path, card: ModelCard) -> list[int]:
    """The indices of the labels that a list of species names, in the order of the labels.

    Each line has a label, a scientific or a common name, or ``Scientific name_Common name`` as BirdNET writes it.
    Empty lines and lines that begin with # are ignored; case does not matter.

    Raises:
        DataError: the file cannot be read, or names none of the model's species.
    """
    lines = read_lines(path, "--species takes a text file with one species on each line")
    wanted = [line for line in lines if not line.startswith("#")]
    index: dict[str, set[int]] = {}
    for number, names in enumerate(zip(card.labels, card.scientific_names, card.common_names, strict=True)):
        for name in filter(None, names):
            index.setdefault(name.casefold(), set()).add(number)
    found: set[int] = set()
    unknown = []
    for line in wanted:
        numbers = index.get(line.casefold()) or index.get(line.partition("_")[0].casefold())
        if numbers:
            found |= numbers
        else:
            unknown.append(line)
    if not found:
        first = f", the first is {unknown[0]!r}" if unknown else ""
        raise DataError(
            f"{path}: none of its {counted(len(wanted), 'line')} names a species of the model{first}; the model has "
            f"{card.labels[0]}, {card.scientific_names[0] or '-'} ..."
        )
    if unknown:
        some = ", ".join(unknown[:5]) + (" ..." if len(unknown) > 5 else "")
        log.warning("%s: the model does not know %s of %d: %s", path, len(unknown), len(wanted), some)
    return sorted(found)
