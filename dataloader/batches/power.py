"""How is the power of training windows changed before standardising, as between a bird and the microphone?

All functions take ``power`` ``(batch, n_mels, frames)`` of ``to_power``, draw from the generator that they are given,
and do not change a window that is not chosen, not even its last bit.
"""

import torch
from torch import Generator, Tensor

COLOURS = {"white": 0, "pink": 1, "brown": 2}  # power per Hz falls with this power of the frequency

_KNOTS = 5  # of the equaliser: both ends and three between them, so four segments; FilterAugment draws 3 to 6


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


def change_gain(power: Tensor, generator: Generator, *, p: float, max_db: float) -> Tensor:
    """Make windows louder or softer by up to ``max_db``."""
    gain = 10 ** (between(power, -max_db, max_db, generator) / 10)
    return torch.where(chosen(power, p, generator), power * gain, power)


def equalise(power: Tensor, generator: Generator, *, p: float, max_db: float) -> Tensor:
    """Apply a random equaliser: a gain in dB that is linear between random bands.

    This is the linear type of FilterAugment (Nam et al. 2022). It is like another microphone or distance.
    """
    batch, n_mels, _ = power.shape
    inner = torch.rand((batch, _KNOTS - 2), generator=generator, device=power.device).sort(dim=1).values
    knots = torch.nn.functional.pad(torch.nn.functional.pad(inner, (1, 0)), (0, 1), value=1.0) * (n_mels - 1)
    gains = (2 * torch.rand((batch, _KNOTS), generator=generator, device=power.device) - 1) * max_db
    bands = torch.arange(n_mels, device=power.device, dtype=knots.dtype).expand(batch, -1).contiguous()
    right = torch.searchsorted(knots, bands).clamp(1, _KNOTS - 1)  # the knot above each band
    left_at, right_at = knots.gather(1, right - 1), knots.gather(1, right)
    share = ((bands - left_at) / (right_at - left_at).clamp(min=1e-6)).clamp(0, 1)
    db = torch.lerp(gains.gather(1, right - 1), gains.gather(1, right), share)
    return torch.where(chosen(power, p, generator), power * 10 ** (db[:, :, None] / 10), power)


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


def add_hiss(
    power: Tensor, generator: Generator, *, p: float, colour: str, min_snr_db: float, max_snr_db: float,
    frequencies: Tensor, widths: Tensor, bin_hz: float,
) -> Tensor:  # fmt: skip
    """Add steady noise to the spectrogram.

    The mean of the power of k frequencies of Gaussian noise is Gamma(k) / k, drawn as
    ``(1 - 1 / (9 k) + z / (3 sqrt(k))) ** 3`` with a normal z (Wilson and Hilferty 1931).

    Args:
        colour: one of ``COLOURS``.
        frequencies, widths: ``(n_mels,)``, Hz: centres and widths of the bands.
        bin_hz: from one frequency of the FFT to the next. A band has ``2 * widths / bin_hz`` of them. Its triangle
            reduces their effective number to 3/4, and the Hann window this to 2/3, so k = ``widths / bin_hz``.
    """
    k = (widths / bin_hz).clamp(min=1)[:, None]
    z = torch.randn(power.shape, generator=generator, device=power.device)
    # If k is 1 the bracket can be below 0; limited there, the variation in dB is about as large as measured.
    noise = (1 - 1 / (9 * k) + z / (3 * k.sqrt())).clamp(min=0.25) ** 3
    noise = noise * ((frequencies / frequencies[-1]) ** -COLOURS[colour])[:, None]
    snr_db = between(power, min_snr_db, max_snr_db, generator)
    return _add(power, noise, snr_db, chosen(power, p, generator), widths)


def _add(power: Tensor, noise: Tensor, snr_db: Tensor, where: Tensor, widths: Tensor) -> Tensor:
    """``power`` plus as much ``noise`` as gives the ratio ``snr_db`` over the window.

    A mel band holds a mean over its frequencies (Slaney's norm), so its power is this mean times its width in Hz. Thus
    the ratio is that of the waveforms between f_min and f_max. A silent window stays silent.
    """
    widths = widths[:, None] / widths.sum()
    signal, other = ((part * widths).sum(dim=1, keepdim=True).mean(dim=2, keepdim=True) for part in (power, noise))
    factor = signal / other.clamp(min=torch.finfo(other.dtype).tiny) / 10 ** (snr_db / 10)
    factor = torch.where(where & (other > 0), factor, 0.0)
    return power + factor * noise
