"""How does a config file become typed settings, and how are they written out again? Only this file knows INI.

``load_config`` turns a file and its overrides into a ``Config`` whose every value has the type that its field names, or
reports everything that is wrong with it at once. The classes themselves are in ``utils/settings.py``.
"""

import configparser
import functools
import logging
import os
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from utils.config_checks import contradictions, give_way
from utils.config_history import update
from utils.errors import ConfigError, Problem, unknown
from utils.settings import KEYS, SECRETS, SECTIONS, SOURCE, SOURCE_KEYS, SOURCE_NAME, Config, Source, as_text

log = logging.getLogger(__name__)

OVERRIDE = "--set"  # the source of a setting that the command line gives
TOKEN_VARIABLE = "NEPTUNE_API_TOKEN"

CheckChoices = Callable[[Config], Iterable[Problem]]


class _Setting(NamedTuple):
    """A value as the user wrote it, and where it was written."""

    text: str
    source: str
    folder: Path  # what a relative path is relative to


_Settings = dict[tuple[str, str], _Setting]


def load_config(path: Path | str, overrides: Sequence[str] = (), check_choices: CheckChoices | None = None) -> Config:
    """Read and check a config file.

    Args:
        path: an INI file. A key that it leaves out has the default of its class. A relative path in it is relative to
            its folder. A value that has a # or ; after a blank must be in double quotes.
        overrides: ``section.key=value``; they replace settings of the file. A relative path in one is relative to the
            current folder. The value is used as it is: it has no quotes or comments.
        check_choices: returns the problems with settings that no factory knows, so that one report has both kinds of
            problem. Only a command that trains gives it: an old run that was trained with a setting that has been
            removed since can still predict.

    Raises:
        ConfigError: with every problem found, in the order of the file.
    """
    path = Path(path)
    problems: list[Problem] = []
    removed: list[Problem] = []
    settings = _read_file(path, problems, removed) | _read_overrides(overrides, problems, removed)
    if check_choices:
        problems += removed
    else:
        for problem in removed:
            _report(str(problem))
    folder = Path(os.path.abspath(path)).parent
    try:
        _check_one_line(str(folder))  # every relative path begins with it
    except ValueError as error:
        raise ConfigError(Problem(f"the name of its folder is {error}", source=path.name)) from None
    sections, wrong = {}, set()
    sources = {name: Source for name, _ in settings if name.startswith(SOURCE)}
    for name, cls in [*SECTIONS.items(), *sources.items()]:
        values = {key: _absolute(getattr(cls(), key), folder) for key in _keys(name)}
        for key, hint in _keys(name).items():
            if (name, key) not in settings:
                continue
            try:
                _check_one_line(settings[name, key].text)
                values[key] = _parse(settings[name, key], hint)
            except ValueError as error:
                problems.append(Problem(str(error), name, key, settings[name, key].text))
                wrong.add((name, key))
        sections[name] = cls(**values)
    if os.environ.get(TOKEN_VARIABLE):
        sections["callbacks"] = replace(sections["callbacks"], neptune_token=os.environ[TOKEN_VARIABLE])
    several = tuple((name.removeprefix(SOURCE), sections.pop(name)) for name in sources)
    config = Config(**sections, sources=several, file=Path(os.path.abspath(path)), written=frozenset(settings))
    config, lines = give_way(config, lambda name: _rank(name, config, settings))
    for line in lines:
        _report(line)
    found = [*contradictions(config), *(check_choices(config) if check_choices else ())]
    problems += [problem for problem in found if (problem.section, problem.key) not in wrong]
    if problems:
        raise ConfigError(_with_source(problem, settings, path.name) for problem in problems)
    return config


def _rank(name: str, config: Config, settings: _Settings) -> int:
    """How a setting was written: 0 not at all (it has its default), 1 in a file, 2 by ``--set``."""
    section, _, key = name.rpartition(".")
    setting = settings.get((section, key))
    default = Source() if section.startswith(SOURCE) else SECTIONS[section]()
    if setting is None or getattr(config.section(section), key) == getattr(default, key):
        return 0
    return 2 if setting.source == OVERRIDE else 1


@functools.cache
def _report(line: str) -> None:
    """Log a line only once, because a run reads its config several times."""
    log.info("%s", line)


def to_ini(config: Config) -> str:
    """The whole config as an INI file, without its secrets; ``load_config`` reads it back."""
    lines = []
    for section in config.section_names:
        lines.append(f"[{section}]")
        for key in _keys(section):
            if (section, key) not in SECRETS:
                lines.append(f"{key} = {_quoted(as_text(getattr(config.section(section), key)))}".rstrip())
        lines.append("")
    return "\n".join(lines)


def differences(old: Config, new: Config) -> list[tuple[str, str, Any, Any]]:
    """``(section, key, old value, new value)`` of every setting that differs, secrets left out."""
    return [
        (section, key, before, after)
        for section in dict.fromkeys(old.section_names + new.section_names)
        for key in _keys(section)
        if (section, key) not in SECRETS
        and (before := getattr(old.section(section), key)) != (after := getattr(new.section(section), key))
    ]


def _with_source(problem: Problem, settings: _Settings, file: str) -> Problem:
    setting = settings.get((problem.section, problem.key))
    if problem.source or not problem.section:
        return problem
    if setting is None:
        return replace(problem, source=file)
    return replace(problem, source=setting.source, value=setting.text)


def _read_file(path: Path, problems: list[Problem], removed: list[Problem]) -> _Settings:
    """The file's settings; a line that is not a setting becomes a problem, or is added to ``removed``."""
    # Without interpolation a % is a %. Without a default section, [DEFAULT] cannot change all other sections.
    parser = configparser.ConfigParser(interpolation=None, default_section="no such section")
    parser.optionxform = str  # keys keep their case, so that a wrong one is reported as it was written
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
        parser.read_string("\n".join(map(_without_comment, lines)), source=path.name)
    except FileNotFoundError:
        raise ConfigError(Problem("no such file; name one with --config", source=str(path))) from None
    except IsADirectoryError:
        raise ConfigError(Problem("is a folder; name a file with --config", source=str(path))) from None
    except UnicodeDecodeError as error:
        raise ConfigError(Problem(f"not UTF-8 at byte {error.start}; save it as UTF-8", source=str(path))) from None
    except configparser.Error as error:
        raise ConfigError(Problem(_explain(error), source=path.name)) from None
    settings = {}
    for section in parser.sections():
        if _known_section(section, path.name, problems):
            for key, text in parser.items(section):
                setting = _Setting(_unquoted(text), path.name, Path(os.path.abspath(path)).parent)
                _take(section, key, setting, settings, problems, removed)
    return settings


# A value in double quotes, in which # and ; are ordinary characters and "" is a quote. Only a comment may follow it.
_QUOTED = r'"(?:[^"]|"")*"'
_QUOTED_LINE = re.compile(rf"[^=:]*[=:]\s*{_QUOTED}(?=\s*$|\s+[#;])")
_COMMENT = re.compile(r"\s[#;]")


def _without_comment(line: str) -> str:
    """The line without a comment, which begins with a blank and then # or ;."""
    quoted = _QUOTED_LINE.match(line)
    comment = _COMMENT.search(line, quoted.end() if quoted else 0)
    return line[: comment.start()] if comment else line


def _unquoted(text: str) -> str:
    return text[1:-1].replace('""', '"') if re.fullmatch(_QUOTED, text) else text


def _quoted(text: str) -> str:
    """The text, in quotes if it would not be read back unchanged."""
    plain = text == text.strip() and not text.startswith(('"', "#", ";")) and not _COMMENT.search(text)
    return text if plain else '"' + text.replace('"', '""') + '"'


def _read_overrides(overrides: Sequence[str], problems: list[Problem], removed: list[Problem]) -> _Settings:
    settings = {}
    for override in overrides:
        name, equals, text = override.partition("=")
        name = name.strip()
        section, dot, key = name.rpartition(".") if name.startswith(SOURCE) else name.partition(".")
        if not equals or not dot:
            problems.append(Problem("expected section.key=value", source=f"--set {override}"))
        elif _known_section(section, OVERRIDE, problems):
            _take(section, key, _Setting(text.strip(), OVERRIDE, Path.cwd()), settings, problems, removed)
    return settings


def _take(
    section: str, key: str, setting: _Setting, settings: _Settings, problems: list[Problem], removed: list[Problem]
) -> None:
    """Add a setting to ``settings``, with its present name and value."""
    now = update(section, key, setting.text)
    if now.problem:
        removed.append(Problem(now.problem, section, key, setting.text, setting.source))
    if now.line:
        _report(f"{setting.source}: {now.line}")
    if now.key is not None and _known_key(section, now.key, setting.source, problems):
        settings[section, now.key] = setting._replace(text=now.text)


def _known_section(section: str, source: str, problems: list[Problem]) -> bool:
    if section.startswith(SOURCE):
        known = bool(SOURCE_NAME.fullmatch(section.removeprefix(SOURCE)))
        text = "the name of a source is letters, digits, _ and -; rename it"
    else:
        known, text = section in SECTIONS, unknown(section, list(SECTIONS))
    if not known:
        problems.append(Problem(text, section, source=source))
    return known


def _known_key(section: str, key: str, source: str, problems: list[Problem]) -> bool:
    if key not in _keys(section):
        problems.append(Problem(unknown(key, list(_keys(section))), section, key, source=source))
    return key in _keys(section)


def _keys(section: str) -> Mapping[str, Any]:
    """The keys of a section and their types."""
    return SOURCE_KEYS if section.startswith(SOURCE) else KEYS[section]


def _explain(error: configparser.Error) -> str:
    """An error of configparser, explained for the user who edits the file."""
    match error:
        case configparser.DuplicateSectionError():
            return f"line {error.lineno}: section [{error.section}] is there twice; join both"
        case configparser.DuplicateOptionError():
            return f"line {error.lineno}: [{error.section}] {error.option} is there twice; keep one"
        case configparser.MissingSectionHeaderError():
            return f"line {error.lineno}: a setting before the first [section]; write its section above it"
        case configparser.ParsingError(errors=[(line, text), *_]):
            text = text[1:-1].removesuffix("\\n")  # configparser returns the repr of the line
            return f"line {line}: {text!r} is neither a [section] nor key = value"
    return str(error)


def _check_one_line(text: str) -> None:
    """Refuse a text that ``load_config`` could not read after ``to_ini`` has written it.

    Raises:
        ValueError: its text is part of the report.
    """
    if "\n" in text or "\r" in text:
        raise ValueError("a line break; write the value in one line")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # bytes of the command line that are not UTF-8, such as a name in Latin-1
        raise ValueError("not UTF-8; rename it, or make a link to it with another name") from None


TRUE, FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def _parse(setting: _Setting, hint: Any) -> Any:
    """Convert text to the type of its field.

    Raises:
        ValueError: its text is part of the report.
    """
    text = setting.text
    if typing.get_origin(hint) is Annotated:
        kind, bounds = typing.get_args(hint)
        value = _parse(setting, kind)
        if complaint := bounds.complaint(value):
            raise ValueError(complaint)
        return value
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        if text not in choices:
            raise ValueError(unknown(text, choices))
        return text
    if isinstance(hint, types.UnionType):  # Path | None
        return _parse(setting, Path) if text else None
    if hint is str:
        return text
    if not text:
        raise ValueError("empty; give a value or remove the line")
    if hint is bool:
        if text.lower() not in TRUE + FALSE:
            raise ValueError("neither true nor false")
        return text.lower() in TRUE
    if hint is Path:
        try:
            return _absolute(Path(text).expanduser(), setting.folder)
        except RuntimeError:
            raise ValueError("there is no such user; write the whole path") from None
    return _number(text, hint)


def _number(text: str, kind: type) -> int | float:
    try:
        value = kind(text)
    except ValueError:
        raise ValueError("not a whole number" if kind is int else "not a number") from None
    if value != value or value in (float("inf"), float("-inf")):
        raise ValueError("not a finite number")
    return value


def _absolute(value: Any, folder: Path) -> Any:
    return Path(os.path.normpath(folder / value)) if isinstance(value, Path) else value
