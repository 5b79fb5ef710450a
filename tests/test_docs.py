"""Do the examples, commands, names and links of README.md and docs/ work as they are printed?"""

import queue
import re
import shlex
import shutil
import subprocess
import sys
import threading
import types
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

import export
import predict
from dataloader.cache import entries as cache
from docs.file_map import page_with_map
from factory.model import build_model
from tests.forked import run_forked
from utils.settings import KEYS, DataProcess, Model

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(ROOT.glob("docs/**/*.md"))
GUIDES = [page for page in PAGES if page.parent.name != "experiments" and page.name != "experiments.md"]  # not records
RATE = 32_000  # Hz
SECTIONS = re.compile(r"--set\s+([a-z_]+)\.([a-z_0-9]+)=")
every_guide = pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.name)


def text_of(page):
    return page.read_text(encoding="utf-8")


def code_blocks(page, language="python"):
    return re.findall(rf"^```{language}\n(.*?)^```", text_of(page), re.DOTALL | re.MULTILINE)


def commands(page, script):
    """The lines of a page that call a script, whole though a backslash breaks them; and what stands in inline code."""
    text = text_of(page).replace("\\\n", " ")
    return re.findall(rf"python {re.escape(script)}\b([^\n`#]*)", text)


# names and links


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        linked = (page.parent / name).resolve() if name else page
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", text_of(linked), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}, (
                target
            )


@every_guide
def test_every_setting_that_a_command_changes_is_known(page):
    added = re.findall(r"^\+    (\w+): ", text_of(page), re.MULTILINE)  # the setting that docs/extending.md adds
    for section, key in SECTIONS.findall(text_of(page)):
        assert section == "section" or key in (*KEYS[section], *added), f"{section}.{key}"


@every_guide
def test_every_option_of_a_command_is_known(page):
    scripts = {name: name for name in ("train_classifier.py", "predict.py", "export.py", "evaluate.py")}
    modules = {
        m: f"{m.replace('.', '/')}.py"
        for m in re.findall(r"python -m ([\w.]+)", text_of(page))
        if m not in ("venv", "pytest")
    }
    for script, file in (scripts | {f"-m {module}": file for module, file in modules.items()}).items():
        if script.startswith("-m pip"):
            continue
        for line in commands(page, script):
            assert (ROOT / file).is_file(), file
            known = known_options(ROOT / file)
            assert set(re.findall(r"(?<![\w-])--[a-z]+(?:-[a-z]+)*", line)) <= known, (script, line)


def known_options(file):
    """The options in a script and in the files of its own room that it imports."""
    text = text_of(file)
    for module in re.findall(r"^\s*(?:from|import) ([\w.]+)", text, re.MULTILINE):
        imported = ROOT / f"{module.replace('.', '/')}.py"
        if imported.is_file():
            text += text_of(imported)
    return set(re.findall(r'"(--[a-z-]+)"', text))


def test_architecture_has_a_line_for_every_file():
    assert text_of(ROOT / "docs/architecture.md") == page_with_map(), "run: python -m docs.file_map"


# docs/predict.md

(LISTEN,) = code_blocks(ROOT / "docs/predict.md")


@pytest.fixture
def the_run_it_names(tmp_path, monkeypatch):
    """A run of that name, whose model hears an owl in everything."""
    run = tmp_path / re.search(r'Predictor\("(.*?)"', LISTEN)[1]
    run.mkdir(parents=True)
    (run / "config.ini").touch()
    network = build_model(Model(type="mobilenetv3_small_050", transfer_learning=False), 2, image_size=(128, 320))
    torch.nn.init.zeros_(network.get_classifier().weight)
    network.get_classifier().bias.data[:] = torch.tensor([-3.0, 3.0])
    state = {
        "model": network.state_dict(),
        "model_type": "mobilenetv3_small_050",
        "epoch": 1,
        "labels": ["wren", "owl"],
        "common_names": ["Wren", "Owl"],
        "data_process": asdict(DataProcess()),
        "standardize_over": "window",
    }
    torch.save(state, run / "best.pt")
    monkeypatch.chdir(tmp_path)


def test_the_live_example_prints_what_it_hears_while_the_sound_continues(the_run_it_names, monkeypatch):
    printed, sound = queue.Queue(), queue.Queue()
    noise = np.random.default_rng(1).integers(-1000, 1000, 10 * RATE).astype("<i2").tobytes()
    heard = types.SimpleNamespace(read=lambda _: sound.get(timeout=20))
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=heard))
    names = {"print": lambda text, **_: printed.put(text)}
    listening = threading.Thread(target=exec, args=(LISTEN, names), daemon=True)
    listening.start()
    sound.put(noise[: 6 * 2 * RATE + RATE])  # six seconds and a half, and no end
    assert printed.get(timeout=120) == "0 to 5 s: Owl 0.95"  # the model is exported first
    assert printed.get(timeout=20) == "1 to 6 s: Owl 0.95"
    sound.put(noise[6 * 2 * RATE + RATE :])
    sound.put(b"")
    listening.join(timeout=20)
    assert [printed.get(timeout=1)[:8] for _ in range(printed.qsize())] == [
        "2 to 7 s",
        "3 to 8 s",
        "4 to 9 s",
        "5 to 10 ",
    ]


# docs/kaggle.md


@pytest.mark.parametrize("hidden", [True, False], ids=["scored", "saved"])
def test_the_cells_for_kaggle_write_a_submission(hidden, tiny_run, sound, tmp_path, monkeypatch):
    """Kaggle's folders are made beneath ``tmp_path``; what a cell calls by ``!python`` runs in this process."""
    pytest.importorskip("onnxruntime")
    competition = tmp_path / "input/birdclef-2024"
    for folder in ("test_soundscapes", "unlabeled_soundscapes"):
        (competition / folder).mkdir(parents=True)
    (tmp_path / "working").mkdir()
    sf.write(competition / "unlabeled_soundscapes/1001.ogg", sound(11.0), 16_000)
    sf.write(competition / "unlabeled_soundscapes/1002.ogg", sound(11.0), 16_000)
    labels = ["asbfly", "bkskit1", "comgre", "never1"]
    if hidden:
        sf.write(competition / "test_soundscapes/soundscape_7.ogg", sound(10.0), 16_000)
        rows = [f"soundscape_7_{end},{','.join('0' * len(labels))}" for end in (5, 10)]
        (competition / "sample_submission.csv").write_text("\n".join([f"row_id,{','.join(labels)}", *rows]) + "\n")
    shutil.copytree(tiny_run, tmp_path / "input/run", ignore=shutil.ignore_patterns("*.onnx"))
    monkeypatch.chdir(tmp_path)
    audio = str(competition / "unlabeled_soundscapes/1001.ogg")
    export.main(["--run", str(tmp_path / "input/run"), "--to", "onnx", "--audio", audio])

    page = text_of(ROOT / "docs/kaggle.md").split("## 3. The notebook")[1].replace("/kaggle/", f"{tmp_path}/")
    names = {}
    for language, cell in re.findall(r"^```(python|)\n(.*?)^```", page, re.DOTALL | re.MULTILINE):
        if language:
            exec(cell, names)
        for line in re.findall(r"^!python predict.py (.*)", cell, re.MULTILINE):
            predict.main(shlex.split(line.format_map(names)))
    header, *rows = (tmp_path / "working/submission.csv").read_text().splitlines()
    assert header == "row_id," + ",".join(labels if hidden else labels[:3])
    stem = "soundscape_7" if hidden else "1001"
    assert [row.split(",")[0] for row in rows] == [f"{stem}_5", f"{stem}_10"]


# docs/data.md


def test_the_example_of_docs_data_reads_the_cache_that_was_last_prepared(tmp_path, monkeypatch):
    process = DataProcess(n_mels=16)
    folder = tmp_path / "cache" / "spectrograms" / cache.cache_key(process)
    (folder / "a").mkdir(parents=True)
    (tmp_path / "cache" / "last_key").write_text(folder.name + "\n")
    (folder / "settings.json").write_text(cache.settings_text(cache.cache_settings(process)))
    records = [
        cache.Record(f"a/{name}.ogg", 1, 1, "", 32_000, 0, 0, reason) for name, reason in (("1", "silent"), ("2", ""))
    ]
    cache.write_index(folder, {record.filename: record for record in records})
    array = np.random.default_rng(1).normal(size=(700, 16)).astype(np.float16)
    statistics = np.full(16, -50.0), np.full(16, 5.0)
    cache.write_entry(folder / "a" / "2.npy", [array], (16, 700), *statistics, cache.Footer(b"x" * 16, 1, 1, 1, 700, 0))
    (example,) = [block for block in code_blocks(ROOT / "docs/data.md") if "last_key" in block]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    exec(example, names := {})
    np.testing.assert_array_equal(names["window"], array.T[:, 128:448])
    np.testing.assert_allclose(names["db"], array.T.astype(np.float32) * 5.0 - 50.0, atol=1e-3)
    assert names["hertz"].shape == (16,)


# docs/extending.md

EXAMPLE = re.compile(
    r"^(In|New file|At the end of) `([^`]+)`:\n\n```(?:diff|python)\n(.*?)^```", re.DOTALL | re.MULTILINE
)
COMMENT = re.compile(r"\s+# .*$")  # explanations may change; the code is what an example needs


def replaced(text, hunk):
    """``text`` with one hunk of a diff done, whose lines have to be there once, but for their comments."""
    old = [line[1:] for line in hunk if line[0] in " -"]
    bare = [COMMENT.sub("", line) for line in old]
    lines = text.splitlines()
    plain = [COMMENT.sub("", line) for line in lines]
    found = [at for at in range(len(lines)) if plain[at : at + len(bare)] == bare]
    assert len(found) == 1, f"{len(found)} times in the file: {old}"
    at, new = found[0], []
    for line in hunk:
        if line[0] == "+":
            new.append(line[1:])
        else:
            new += [lines[at]] if line[0] == " " else []
            at += 1
    return "\n".join([*lines[: found[0]], *new, *lines[at:]]) + "\n"


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """A copy of the repository in which all that docs/extending.md adds is there."""
    copy = tmp_path_factory.mktemp("extended") / "repository"
    copy.mkdir()
    for entry in ROOT.iterdir():  # no data, no runs, no environment
        if entry.is_dir() and any(entry.rglob("*.py")) and not entry.name.startswith("."):
            shutil.copytree(entry, copy / entry.name, ignore=shutil.ignore_patterns("__pycache__", "*.png"))
        elif entry.is_file():
            shutil.copy(entry, copy)
    examples = EXAMPLE.findall(text_of(ROOT / "docs/extending.md"))
    for how, name, code in examples:
        file = copy / name
        if how == "New file":
            assert not file.exists(), name
            file.write_text(code)
        elif how == "In":
            for hunk in filter(None, re.split(r"^@@.*\n", code, flags=re.MULTILINE)):
                file.write_text(replaced(file.read_text(), [line or " " for line in hunk.splitlines()]))
        else:
            file.write_text(file.read_text().rstrip() + "\n\n\n" + code)
    return copy, [name for _, name, _ in examples]


def test_what_extending_adds_passes_the_tests_that_it_names(extended, tmp_path):
    copy, names = extended
    tests = [name for name in names if name.startswith("tests/")] + ["tests/factory/test_loss.py"]
    chosen = "asymmetric or every_loss or nadam or four_blocks or reversed or every_change or cost"
    tests += ["tests/factory/test_optimizer.py", "tests/training/test_contact_sheet.py"]
    line = ["-m", "pytest", "-q", "-k", chosen, "-p", "no:cacheprovider", *dict.fromkeys(tests)]
    done = run_forked(line, tmp_path, cwd=copy, own_modules=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert "four_blocks" not in (ROOT / "factory/image_model.py").read_text()  # the copy alone was changed


def test_what_extending_adds_passes_the_lint(extended):
    copy, names = extended
    files = sorted({name for name in names if name.endswith(".py")})
    for check in (["check"], ["format", "--check"]):
        done = subprocess.run([sys.executable, "-m", "ruff", *check, *files], cwd=copy, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


# docs/recipes.md


@pytest.mark.parametrize("recipe", sorted(ROOT.glob("configs/*.ini")), ids=lambda recipe: recipe.name)
def test_recipes_names_every_recipe(recipe):
    assert f"configs/{recipe.name}" in text_of(ROOT / "docs/recipes.md")
