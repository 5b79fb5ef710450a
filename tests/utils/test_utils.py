"""What does a run take from its machine?"""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.forked import run_forked
from utils.errors import ConfigError
from utils.utils import choose_device, make_run_folder, seed_everything, seed_for


def test_a_step_key_has_a_seed_of_its_own_on_every_machine():
    seeds = {seed_for(1, "a", 1), seed_for(1, "a", 2), seed_for(2, "a", 1), seed_for(1, "b", 1), seed_for(1, "a", 1, 1)}
    assert len(seeds) == 5
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_one_seed_gives_one_stream_of_every_generator():
    drawn = []
    for _ in range(2):
        seed_everything(2**62 + 5)
        drawn.append((np.random.rand(), torch.rand(1).item()))
    assert drawn[0] == drawn[1]


def test_cuda_that_is_not_there_is_reported(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(ConfigError, match=r"\[trainer\] device = 'cuda': no CUDA device found; use cpu or auto"):
        choose_device("cuda")


def test_two_runs_in_one_second_have_two_folders(tmp_path):
    folders = [make_run_folder(tmp_path / "runs", "a/b") for _ in range(3)]
    assert len(set(folders)) == 3
    assert all(re.match(r"\d{8}-\d{6}-a_b", folder.name) for folder in folders)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_freed_memory_is_kept_for_the_next_step(tmp_path):
    code = """
from pathlib import Path
import torch
from utils.utils import keep_freed_memory
pages = lambda: int(Path("/proc/self/statm").read_text().split()[1])
keep_freed_memory()
block = torch.ones(25_000_000)  # 100 MB
held = pages()
del block
print(held - pages())
"""
    # In a process of its own: one that has run other tests may have other room for the block.
    done = run_forked(["-c", code], tmp_path)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 10_000  # pages; 25,000 would have gone
