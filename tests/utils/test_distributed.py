"""Do the processes of a run agree on what must be one?"""

import torch
from torch import distributed as dist
from torch import nn

from utils.distributed import Processes


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
