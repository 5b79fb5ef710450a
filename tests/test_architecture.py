"""Do imports point one way and in no circle, and is nothing done at import that takes time?"""

import ast
import functools
import graphlib
import io
import subprocess
import sys
import time
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def room(path):
    """The folder at the top that a file lies in, however deep; "" for a script."""
    return path.relative_to(ROOT).parts[0] if path.parent != ROOT else ""


MAY_IMPORT = {
    "models": set(),
    "utils": {"utils"},
    "evaluation": {"evaluation", "utils"},
    "dataloader": {"dataloader", "utils"},
    "factory": {"factory", "models", "dataloader", "utils"},
    "inference": {"inference", "factory", "models", "dataloader", "evaluation", "utils"},
    "training": {"training", "inference", "factory", "models", "dataloader", "evaluation", "utils"},
    "reports": {"reports", "evaluation", "dataloader", "utils"},  # what it draws comes as arrays and tables
}
SOURCES = sorted(path for package in [*MAY_IMPORT, "benchmarks", "docs"] for path in (ROOT / package).rglob("*.py"))
SOURCES += sorted(ROOT.glob("*.py"))
CODE = [path for path in SOURCES if path.name != "__init__.py"]
SCRIPTS = {path.stem for path in ROOT.glob("*.py")}
OURS = {*MAY_IMPORT, "benchmarks", *SCRIPTS}


def name(path):
    return str(path.relative_to(ROOT))


def is_a_script(node):
    """Whether a statement is ``if __name__ == "__main__":``. The code under it may import every package."""
    return isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"


@functools.cache
def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def imports(path):
    """What a file imports, early or late, by its full name: of ``from a import b`` both ``a`` and ``a.b``."""
    names = set()
    for node in ast.walk(ast.Module([node for node in tree(path).body if not is_a_script(node)], [])):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide which way they point"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def rooms_imported(path):
    return {imported.split(".")[0] for imported in imports(path)}


def catches(handler):
    """The names of the exceptions that an ``except`` catches; none of a bare one."""
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return {ast.unparse(kind).split(".")[-1] for kind in kinds if kind is not None}


def reasons_in(path):
    """The lines that carry a comment in words; ``noqa`` is none."""
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline)
    comments = [(token.start[0], token.string) for token in tokens if token.type == tokenize.COMMENT]
    return {line for line, comment in comments if len(comment.split("noqa")[0].split()) > 2}


@pytest.mark.parametrize("path", [path for path in CODE if room(path) in MAY_IMPORT], ids=name)
def test_imports_point_one_way(path):
    assert rooms_imported(path) & OURS <= MAY_IMPORT[room(path)]


def test_only_scripts_import_the_reports():
    assert not [name(path) for path in CODE if room(path) not in ("", "reports") and "reports" in rooms_imported(path)]


def test_no_files_import_each_other_in_a_circle():
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in CODE}
    graph = {module: modules.keys() & imports(path) for module, path in modules.items()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as circle:
        pytest.fail(" -> ".join(reversed(circle.args[1])))


@pytest.mark.parametrize("path", [path for path in CODE if room(path) not in MAY_IMPORT], ids=name)
def test_nothing_imports_a_script(path):
    assert not rooms_imported(path) & SCRIPTS


@pytest.mark.parametrize("path", CODE, ids=name)
def test_the_first_line_of_a_file_is_about_its_purpose(path):
    docstring = ast.get_docstring(tree(path))
    assert docstring
    assert docstring.split("\n")[0].rstrip()[-1] in ".?:"


@pytest.mark.parametrize("path", [path for path in SOURCES if path.name == "__init__.py"], ids=name)
def test_packages_do_nothing_when_imported(path):
    assert path.read_text() == ""


@pytest.mark.parametrize("path", CODE, ids=name)
def test_no_except_catches_everything_without_a_reason_beside_it(path):
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ExceptHandler):
            place, caught = f"{name(path)}:{node.lineno}", catches(node)
            assert caught, f"{place}: name what is caught"
            if "BaseException" in caught:  # Ctrl-C is among them: for tidying up only
                assert isinstance(node.body[-1], ast.Raise), f"{place}: does not raise again"
                assert node.body[-1].exc is None, f"{place}: raises something else"
            elif "Exception" in caught:
                assert node.lineno in reasons_in(path), f"{place}: give the reason in a comment beside it"


def test_help_answers_at_once():
    line = [sys.executable, "-X", "importtime", "train_classifier.py", "--help"]
    started = time.perf_counter()
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - started
    assert "--resume" in done.stdout
    loaded = {text.split("|")[-1].strip() for text in done.stderr.splitlines()}
    assert not loaded & {"torch", "timm", "pandas", "numpy", "librosa", "sklearn", "neptune", "matplotlib"}
    assert seconds < 5  # far above the 0.2 s it takes, as a busy machine must not fail it
