"""What is each file for? Writes this list into ``docs/architecture.md``, from the first line of each file.

python -m docs.file_map
"""

import ast
import itertools
from pathlib import Path

from utils.command import run_command
from utils.files import write_text

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
PACKAGES = [
    "dataloader",
    "models",
    "factory",
    "training",
    "inference",
    "evaluation",
    "reports",
    "utils",
    "benchmarks",
    "docs",
]
HEADING, NEXT = "## One line for each file\n", "## Decisions\n"


def file_map() -> str:
    """The list in Markdown: a table for each folder, with the first line of every file's docstring."""
    files = sorted(ROOT.glob("*.py"))
    for package in PACKAGES:
        files += sorted((ROOT / package).rglob("*.py"), key=lambda file: (file.parent, file.name))
    files = [file for file in files if file.name != "__init__.py"]
    lines = []
    for folder, group in itertools.groupby(files, key=lambda file: file.parent.relative_to(ROOT).as_posix()):
        lines += ["", f"| `{folder}/` | |" if folder != "." else "| at the top | |", "|---|---|"]
        lines += [f"| [{file.name}](../{file.relative_to(ROOT).as_posix()}) | {purpose(file)} |" for file in group]
    return "\n".join(lines).strip() + "\n"


def purpose(file: Path) -> str:
    """The first line of its docstring."""
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return docstring.split("\n")[0].replace("``", "`").replace("|", "\\|")


def page_with_map() -> str:
    """The text of ``docs/architecture.md`` with today's list in it."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(HEADING)
    _, _, after = rest.partition(NEXT)
    return f"{before}{HEADING}\n{file_map()}\n{NEXT}{after}"


if __name__ == "__main__":
    run_command(lambda _: write_text(PAGE, page_with_map()))
