"""How do training windows become power and dB again, and how is background added to their power?

``power`` is ``(batch, n_mels, frames)``, of ``to_power``. A window that is not chosen does not change, not even its
last bit.
"""

import torch
from torch import Generator, Tensor


def to_power(db: Tensor, floor_db: float) -> Tensor:
    """Power above the floor, so that what is at the floor is silence, and adding it changes nothing."""
    return (10 ** (db / 10) - 10 ** (floor_db / 10)).clamp(min=0)


def to_db(power: Tensor, floor_db: float) -> Tensor:
    """The inverse of ``to_power``: dB re full scale, at least ``floor_db``."""
    return 10 * torch.log10(power + 10 ** (floor_db / 10))


def chosen(power: Tensor, p: float, generator: Generator) -> Tensor:
    """``(batch, 1, 1)`` bool: which windows are changed, each with the chance ``p``."""
    return torch.rand((len(power), 1, 1), generator=generator, device=power.device) < p


def between(power: Tensor, low: float, high: float, generator: Generator) -> Tensor:
    """``(batch, 1, 1)``: a number for each window, drawn evenly between ``low`` and ``high``."""
    return low + (high - low) * torch.rand((len(power), 1, 1), generator=generator, device=power.device)


def add_background(
    power: Tensor, generator: Generator, *, p: float, background_db: Tensor, floor_db: float,
    min_snr_db: float, max_snr_db: float, widths: Tensor,
) -> Tensor:  # fmt: skip
    """Add a random segment of other recordings.

    Args:
        background_db: ``(frames, n_mels)``, dB; recordings one after another, repeated if they are short.
        widths: ``(n_mels,)``, Hz, of the bands.
    """
    batch, _, frames = power.shape
    start = torch.rand((batch, 1), generator=generator, device=power.device, dtype=torch.float64)
    start = (start * len(background_db)).long()
    stretch = (start + torch.arange(frames, device=power.device)) % len(background_db)
    noise = to_power(background_db[stretch].float().transpose(1, 2), floor_db)
    snr_db = between(power, min_snr_db, max_snr_db, generator)
    return _add(power, noise, snr_db, chosen(power, p, generator), widths)


def _add(power: Tensor, noise: Tensor, snr_db: Tensor, where: Tensor, widths: Tensor) -> Tensor:
    """``power`` plus as much ``noise`` as gives the ratio ``snr_db`` over the window.

    A mel band holds a mean over its frequencies (Slaney's norm), so its power is this mean times its width in Hz. Thus
    the ratio is that of the waveforms between f_min and f_max. A silent window stays silent.
    """
    widths = widths[:, None] / widths.sum()
    signal, other = ((sound * widths).sum(dim=1, keepdim=True).mean(dim=2, keepdim=True) for sound in (power, noise))
    factor = signal / other.clamp(min=torch.finfo(other.dtype).tiny) / 10 ** (snr_db / 10)
    factor = torch.where(where & (other > 0), factor, 0.0)
    return power + factor * noise
