"""How do the processes of a run work together: one, or as many as torchrun started?"""

import datetime
import os
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn

from utils.errors import UserError

Value = TypeVar("Value")


@dataclass(frozen=True)
class Processes:
    """This process among those of the run. If there is only one, no method needs communication.

    Attributes:
        cpu_group: the group for all communication but gradients, on CPUs; None: the group that exchanges gradients.
    """

    rank: int = 0
    world: int = 1
    cpu_group: dist.ProcessGroup | None = None

    @property
    def is_main(self) -> bool:
        """Only the main process writes and reports."""
        return self.rank == 0

    def gather(self, value: Value) -> list[Value]:
        """The ``value`` of every process, in the order of their ranks."""
        if self.world == 1:
            return [value]
        values: list[Value | None] = [None] * self.world
        dist.all_gather_object(values, value, group=self.cpu_group)
        return values

    def from_main(self, value: Value) -> Value:
        """The main process's ``value``, in every process."""
        if self.world == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self.cpu_group)
        return values[0]

    def largest(self, *numbers: float) -> list[float]:
        """The largest of each number over all processes."""
        if self.world == 1:
            return list(numbers)
        tensor = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX, group=self.cpu_group)
        return tensor.tolist()

    def share_buffers(self, model: nn.Module) -> None:
        """Copy the buffers of the main process to all: each has seen other batches, which BatchNorm has counted."""
        if self.world > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)

    def wait(self) -> None:
        """Wait until all processes have called this."""
        if self.world > 1:
            dist.barrier(group=self.cpu_group)


def join_processes(device: torch.device) -> tuple[Processes, torch.device]:
    """Connect to the other processes that torchrun started, and choose the device of this one.

    Raises:
        UserError: there are more processes than GPUs.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Processes(), device
    if device.type == "cuda":
        rank, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if rank >= gpus:
            raise UserError(
                f"process {rank + 1} of this machine has no GPU; there are {gpus}, so start {gpus} processes"
            )
        device = torch.device("cuda", rank)
        torch.cuda.set_device(device)
    # The others wait while rank 0 prepares data, which may take hours. torchrun notices a process that dies;
    # this limit does not have to.
    patience = datetime.timedelta(days=2)
    if device.type == "cuda":
        # Waiting by NCCL keeps a GPU and a core busy, so it is used for gradients only, which take seconds.
        dist.init_process_group("nccl")
        cpu_group = dist.new_group(backend="gloo", timeout=patience)
    else:
        dist.init_process_group("gloo", timeout=patience)
        cpu_group = None
    return Processes(dist.get_rank(), dist.get_world_size(), cpu_group), device
