"""Do the classes, config.ini and docs/settings.md say the same?"""

import re
from collections.abc import Iterator
from pathlib import Path

from factory.choices import check_choices
from utils.config import KEYS, SECRETS, Config, load_config

ROOT = Path(__file__).parents[1]
LINE = re.compile(r"^(?P<key>\w+) =(?P<value>.*?)\s+# (?P<text>.+)$")


def blocks() -> Iterator[tuple[str, str, list[str]]]:
    """``(section, comment, lines)``: what config.ini says above some of its lines, and these."""
    section, comment, lines = "", [], []
    for line in [*(ROOT / "config.ini").read_text(encoding="utf-8").splitlines(), ""]:
        if (not line or line.startswith("#")) and lines:
            yield section, " ".join(comment), lines
            comment, lines = [], []
        if not line:
            comment = []
        elif line.startswith("#"):
            comment.append(line.removeprefix("# "))
        elif line.startswith("["):
            section = line.strip("[]")
        else:
            lines.append(line)


def explained(line: str) -> tuple[str, str, str]:
    """Its key, value and explanation."""
    match = LINE.match(line)
    assert match, f"config.ini: no explanation in {line!r}"
    return match["key"], match["value"].strip(), match["text"]


def settings() -> dict[str, list[tuple[str, str, str]]]:
    """``(key, value, explanation)`` of every line of config.ini, by section."""
    found: dict[str, list[tuple[str, str, str]]] = {}
    for section, _, lines in blocks():
        found.setdefault(section, []).extend(map(explained, lines))
    return found


def settings_table() -> str:
    """The tables of docs/settings.md: the words of config.ini, which so exist once."""
    table, before = [], ""
    for section, comment, lines in blocks():
        table += [] if section == before else ["", f"**[{section}]**"]
        table += ["", *([comment, ""] if comment else []), "| key | default | |", "|---|---|---|"]
        table += [
            f"| `{key}` | {f'`{value}`' if value else ''} | {text} |" for key, value, text in map(explained, lines)
        ]
        before = section
    return "\n".join(table).strip()


def test_config_ini_lists_fields_of_the_classes_in_their_order():
    for section, keys in settings().items():
        named = [key for key, _, _ in keys]
        assert named == [key for key in KEYS[section] if key in named]


def test_config_ini_holds_the_defaults_of_the_classes(tmp_path):
    (tmp_path / "empty.ini").write_text("")
    (tmp_path / "config.ini").write_text((ROOT / "config.ini").read_text(encoding="utf-8"), encoding="utf-8")
    shipped = load_config(tmp_path / "config.ini", check_choices=check_choices)
    assert shipped == load_config(tmp_path / "empty.ini")
    assert shipped.testing == Config().testing


def test_no_secret_is_shipped():
    values = {(section, key): value for section, keys in settings().items() for key, value, _ in keys}
    assert all(values[secret] == "" for secret in SECRETS)


def test_docs_settings_lists_every_setting_with_its_default():
    page = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
    assert settings_table() in page, "paste what settings_table() of this test gives into docs/settings.md"
