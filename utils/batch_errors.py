"""Which errors in the computation of a batch can the user correct? They are reported in one line with the remedy."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from utils.errors import UserError, first_line


@contextlib.contextmanager
def explained(batch: Any, device: torch.device) -> Iterator[None]:
    """Report in one line that a batch is too large for the memory, or too small, or that the network is not compiled.

    Raises:
        UserError: in place of the error of torch.
    """
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one; on a CPU it is a plain one
        if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            why = f"this network cannot be compiled here ({first_line(error)})"
            raise UserError(f"[trainer] compile = true: {why}; set it to false") from None
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        windows, *shape = batch.windows.shape
        size = " x ".join(map(str, shape))
        raise UserError(
            f"out of memory on {device} with a batch of {windows} windows of {size} values; "
            "lower [trainer] batch_size_train (and raise accumulate), batch_size_val or batch_size_test"
        ) from None
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise UserError(
            f"this network cannot learn from a batch of {len(batch.windows)}: its norms need more than one value "
            "of each feature; raise [trainer] batch_size_train, or use more recordings"
        ) from None
