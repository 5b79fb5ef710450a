"""Do the classes, config.ini and docs/settings.md say the same?"""

import re
from pathlib import Path

import pytest

from docs import settings
from factory.choices import check_choices
from utils.config import load_config
from utils.settings import KEYS, SECRETS, SECTIONS, Config, Source

ROOT = Path(__file__).parents[1]
LINE = re.compile(r"^(?P<key>\w+) =(?P<value>.*?)\s+# (?P<text>.+)$")


def shipped() -> dict[str, list[tuple[str, str]]]:
    """``(key, value)`` of every line of config.ini, by section."""
    found: dict[str, list[tuple[str, str]]] = {}
    for line in (ROOT / "config.ini").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            keys = found.setdefault(line.strip("[]"), [])
        elif line and not line.startswith("#"):
            match = LINE.match(line)
            assert match, f"config.ini: no explanation in {line!r}"
            keys.append((match["key"], match["value"].strip()))
    return found


def test_config_ini_holds_keys_of_the_classes_in_their_order_and_at_most_70():
    for section, keys in shipped().items():
        named = [key for key, _ in keys]
        assert named == [key for key in KEYS[section] if key in named]
    assert sum(map(len, shipped().values())) <= 70


def test_config_ini_holds_the_defaults_of_the_classes_but_is_a_trial(tmp_path):
    (tmp_path / "empty.ini").write_text("[testing]\ntesting = true\n")
    (tmp_path / "config.ini").write_text((ROOT / "config.ini").read_text(encoding="utf-8"), encoding="utf-8")
    assert load_config(tmp_path / "config.ini", check_choices=check_choices) == load_config(tmp_path / "empty.ini")
    assert not Config().testing.testing


def test_no_secret_is_shipped():
    values = {(section, key): value for section, keys in shipped().items() for key, value in keys}
    assert all(values[secret] == "" for secret in SECRETS)


@pytest.mark.parametrize("section", [*SECTIONS.values(), Source], ids=lambda section: section.__name__)
def test_every_setting_is_explained(section):
    assert [key for key, text in settings.explanations(section).items() if not text] == []


def test_the_page_of_settings_is_what_the_classes_say():
    assert settings.PAGE.read_text(encoding="utf-8") == settings.page(), f"stale: {settings.COMMAND}"
