"""Is a run alone in its folder, and can its processes share its batches?"""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from training import environment
from training.environment import open_folder, processes_of
from utils.distributed import Processes
from utils.errors import ConfigError, DataError
from utils.settings import Config, Mixing, TrainerSettings

ROOT = Path(__file__).parents[2]


def test_two_processes_do_not_train_one_run(tmp_path):
    (tmp_path / "run").mkdir()
    code = (
        "import sys; from pathlib import Path; from utils.lock import alone\n"
        "with alone(Path(sys.argv[1]) / 'run', ''): print('held', flush=True); sys.stdin.read()"
    )
    line = [sys.executable, "-c", code, str(tmp_path / "run")]
    with subprocess.Popen(line, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        with (
            pytest.raises(DataError, match=r"run: another process trains this run; wait for its end, or stop it"),
            open_folder(Config(), tmp_path / "run", Processes()),
        ):
            pass
        other.stdin.close()


@pytest.mark.parametrize(
    ("size", "mixing", "why"),
    [
        (3, Mixing(), "cannot be divided equally among 2 processes; make it a multiple of 2"),
        (
            2,
            Mixing(mixup_p=0.5),
            r"gives each of 2 processes one window in a batch, but \[mixing\] needs a second window",
        ),
    ],
)
def test_a_batch_that_the_processes_cannot_share_is_reported_in_a_line(monkeypatch, size, mixing, why):
    monkeypatch.setattr(environment, "join_processes", lambda device: (Processes(rank=0, world=2), device))
    config = Config(trainer=TrainerSettings(device="cpu", batch_size_train=size), mixing=mixing)
    with pytest.raises(ConfigError, match=rf"\[trainer\] batch_size_train = '{size}': {why}"), processes_of(config):
        pass


def test_deterministic_is_handed_to_torch():
    try:
        with processes_of(Config(trainer=TrainerSettings(device="cpu", deterministic=True))):
            assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
