"""How does every factory find the builder of a name?"""

from collections.abc import Mapping
from typing import TypeVar

from utils.errors import ConfigError, Problem, unknown

Choice = TypeVar("Choice")


def lookup(section: str, key: str, name: str, table: Mapping[str, Choice]) -> Choice:
    """The entry of ``table`` with this name.

    Raises:
        ConfigError: no entry has that name; the message gives the nearest and lists all.
    """
    if name not in table:
        raise ConfigError(Problem(unknown(name, list(table)), section, key, name))
    return table[name]
