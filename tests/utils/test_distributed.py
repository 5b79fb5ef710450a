"""Do the processes of a run agree on what must be one?"""

import pytest
import torch
from torch import distributed as dist
from torch import nn

from utils.distributed import Processes, join_processes
from utils.errors import UserError


def test_every_process_scores_with_the_running_statistics_of_the_main_one(monkeypatch):
    main, other = nn.BatchNorm1d(4), nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    main(torch.randn(8, 4))
    sent = iter(main.buffers())

    def broadcast(tensor, src):
        assert src == 0
        tensor.copy_(next(sent))

    monkeypatch.setattr(dist, "broadcast", broadcast)
    Processes(rank=1, world=2).share_buffers(other)
    for ours, theirs in zip(other.buffers(), main.buffers(), strict=True):
        assert torch.equal(ours, theirs)


def test_more_processes_than_gpus_are_told(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name, value in (("WORLD_SIZE", "3"), ("LOCAL_RANK", "2")):
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="process 3 of this machine has no GPU, as there are 2; start as many"):
        join_processes(torch.device("cuda"))
