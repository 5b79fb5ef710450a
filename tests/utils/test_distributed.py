"""Do the processes of a run agree on what must be one?"""

import datetime

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


def test_more_processes_than_gpus_are_reported(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name, value in (("WORLD_SIZE", "3"), ("LOCAL_RANK", "2")):
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="process 3 of this machine has no GPU; there are 2, so start 2 processes"):
        join_processes(torch.device("cuda"))


def test_processes_with_gpus_talk_on_their_cpus_and_have_hours_to_wait(monkeypatch):
    begun = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(dist, "init_process_group", lambda backend: begun.append(backend))
    monkeypatch.setattr(dist, "new_group", lambda **settings: begun.append(settings) or "words")
    monkeypatch.setattr(dist, "get_rank", lambda: 1)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    processes, device = join_processes(torch.device("cuda"))
    assert (processes, device) == (Processes(1, 2, "words"), torch.device("cuda", 1))
    assert begun == ["nccl", {"backend": "gloo", "timeout": datetime.timedelta(days=2)}]
    used = []
    for name in ("all_gather_object", "broadcast_object_list", "all_reduce", "barrier"):
        monkeypatch.setattr(dist, name, lambda *_, group, **__: used.append(group))
    processes.gather(1)
    processes.from_main(1)
    processes.largest(1.0)
    processes.wait()
    assert used == ["words"] * 4
