"""Does the README's example run as it is printed, and do its lines name what is there?"""

import queue
import re
import sys
import threading
import types
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from dataloader.cache import entries as cache
from factory.model import build_model
from utils.config import DataProcess, Model

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
(EXAMPLE,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
RATE = 32_000  # Hz


@pytest.fixture
def the_run_it_names(tmp_path, monkeypatch):
    """A run of that name, whose model hears an owl in everything."""
    run = tmp_path / re.search(r'Predictor\("(.*?)"', EXAMPLE)[1]
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


def test_the_example_tells_what_it_hears_while_the_sound_goes_on(the_run_it_names, monkeypatch):
    told, sound = queue.Queue(), queue.Queue()
    noise = np.random.default_rng(1).integers(-1000, 1000, 10 * RATE).astype("<i2").tobytes()
    heard = types.SimpleNamespace(read=lambda _: sound.get(timeout=20))
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=heard))
    listening = threading.Thread(target=exec, args=(EXAMPLE, {"print": lambda text, **_: told.put(text)}), daemon=True)
    listening.start()
    sound.put(noise[: 6 * 2 * RATE + RATE])  # six seconds and a half, and no end
    assert told.get(timeout=120) == "0 to 5 s: Owl 0.95"  # the model is exported first
    assert told.get(timeout=20) == "1 to 6 s: Owl 0.95"
    sound.put(noise[6 * 2 * RATE + RATE :])
    sound.put(b"")
    listening.join(timeout=20)
    assert [told.get(timeout=1)[:8] for _ in range(told.qsize())] == ["2 to 7 s", "3 to 8 s", "4 to 9 s", "5 to 10 "]


def test_the_example_of_docs_data_reads_the_cache_that_was_last_prepared(tmp_path, monkeypatch):
    process = DataProcess(n_mels=16)
    folder = tmp_path / "cache" / "spectrograms" / cache.cache_key(process)
    (folder / "a").mkdir(parents=True)
    (tmp_path / "cache" / "last_key").write_text(folder.name + "\n")
    (folder / "settings.json").write_text(cache.settings_text(process))
    records = [
        cache.Record(f"a/{name}.ogg", 1, 1, "", 32_000, 0, 0, reason) for name, reason in (("1", "silent"), ("2", ""))
    ]
    cache.write_index(folder, {record.filename: record for record in records})
    array = np.random.default_rng(1).normal(size=(700, 16)).astype(np.float16)
    statistics = np.full(16, -50.0), np.full(16, 5.0)
    cache.write_entry(folder / "a" / "2.npy", [array], (16, 700), *statistics, cache.Footer(b"x" * 16, 1, 1, 1, 700, 0))
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "data.md").read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    exec(example, names := {})
    np.testing.assert_array_equal(names["window"], array.T[:, 128:448])
    np.testing.assert_allclose(names["db"], array.T.astype(np.float32) * 5.0 - 50.0, atol=1e-3)
    assert names["hertz"].shape == (16,)


def test_the_example_is_as_short_as_it_is_said_to_be():
    assert len([line for line in EXAMPLE.splitlines() if line]) <= 12


def test_every_option_that_the_readme_names_for_prediction_is_known():
    (section,) = re.findall(r"## From a run to hours of audio\n(.*?)\n## ", README, re.DOTALL)
    scripts = "".join((ROOT / name).read_text(encoding="utf-8") for name in ("predict.py", "export.py"))
    known = set(re.findall(r'"(--[a-z-]+)"', scripts))
    assert set(re.findall(r"--[a-z]+(?:-[a-z]+)*", section)) <= known
