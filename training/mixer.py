"""Which examples of a batch are mixed, with whom and how much? [mixing] -> models.mixing, drawn by step_key."""

import numpy as np
import torch
from torch import Tensor

from models.mixing import add_partner, as_shares, cutmix, mix_targets, mixup, smooth_targets
from utils.settings import Mixing
from utils.utils import seed_for

StepKey = tuple[int, ...]

_LARGEST = 0.999  # largest share of a partner's power: 30 dB louder, so that the example itself stays in the mixture


class Mixer:
    """Mixes the examples of training batches, each kind with its own random generator.

    The few numbers of each example are drawn on the CPU, so that they are the same on every device.

    Args:
        smoothing: of [labels]. It is done last, because ``mix_targets`` needs targets of exactly 0 to find unknown
            ones.
        nocall_index: the class of recordings in which no bird calls; None: there is none.
        shares: whether the loss divides each example's targets by their sum, like cross-entropy. Then this is also done
            before mixing; else a recording of three species would count three times as much as one of one species.
    """

    def __init__(
        self, mixing: Mixing, seed: int, smoothing: float = 0.0, nocall_index: int | None = None, *,
        shares: bool = False,
    ):  # fmt: skip
        self._mixing, self._seed, self._smoothing, self._nocall_index, self._shares = (
            mixing,
            seed,
            smoothing,
            nocall_index,
            shares,
        )

    @property
    def on_power(self) -> bool:
        """Whether ``power`` can change anything."""
        return self._mixing.power_mix_p > 0

    def power(self, power: Tensor, targets: Tensor, step_key: StepKey) -> tuple[Tensor, Tensor]:
        """Add spectrograms of power.

        Args:
            power: ``(batch, n_mels, frames)``, not in dB.
            targets: ``(batch, classes)``; below 0: unknown.
            step_key: (epoch, step, rank) of the batch.
        """
        settings = self._mixing
        if not settings.power_mix_p:
            return power, targets
        rng, partner, mixed = self._draw("power_mix", settings.power_mix_p, len(power), step_key)
        share = rng.beta(settings.power_mix_alpha, settings.power_mix_alpha, len(power)).clip(max=_LARGEST)
        partner, weight, share = _to(power.device, partner, mixed * share / (1 - share), mixed * share)
        return add_partner(power, partner, weight), self._mix_targets(targets, partner, share, "max")

    def images(self, images: Tensor, targets: Tensor, step_key: StepKey) -> tuple[Tensor, Tensor]:
        """Mix standardised images: mixup, then CutMix; smooth the targets. The shapes are those of ``power``."""
        settings = self._mixing
        if settings.mixup_p:
            rng, partner, mixed = self._draw("mixup", settings.mixup_p, len(images), step_key)
            share = mixed * rng.beta(settings.mixup_alpha, settings.mixup_alpha, len(images))
            partner, share = _to(images.device, partner, share)
            images = mixup(images, partner, share)
            targets = self._mix_targets(targets, partner, share, settings.mixup_labels)
        if settings.cutmix_p:
            frames = images.shape[-1]
            rng, partner, mixed = self._draw("cutmix", settings.cutmix_p, len(images), step_key)
            share = mixed * rng.beta(settings.cutmix_alpha, settings.cutmix_alpha, len(images))
            width = np.rint(share * frames).astype(np.int64)
            first = rng.integers(0, frames - width, endpoint=True)
            partner, first, width, share = _to(images.device, partner, first, width, width / frames)
            images = cutmix(images, partner, first, width)
            targets = self._mix_targets(targets, partner, share, settings.cutmix_labels)
        return images, smooth_targets(targets, self._smoothing) if self._smoothing else targets

    def _mix_targets(self, targets: Tensor, partner: Tensor, share: Tensor, labels: str) -> Tensor:
        return mix_targets(as_shares(targets) if self._shares else targets, partner, share, labels, self._nocall_index)

    def _draw(
        self, name: str, p: float, batch: int, step_key: StepKey
    ) -> tuple[np.random.Generator, np.ndarray, np.ndarray]:
        """A generator, each example's partner, and which examples are mixed, each with the chance ``p``.

        The partner is the next example of the shuffled batch, so no example is mixed with itself.
        """
        rng = np.random.default_rng(seed_for(self._seed, name, *step_key))
        order = rng.permutation(batch)
        partner = np.empty_like(order)
        partner[order] = np.roll(order, 1)
        mixed = (rng.random(batch) < p) & (batch > 1)
        return rng, partner, mixed


def _to(device: torch.device, *arrays: np.ndarray) -> list[Tensor]:
    """Arrays as tensors on ``device``; those that are not integers as float32."""
    tensors = [torch.from_numpy(array) for array in arrays]
    return [
        (tensor.float() if tensor.is_floating_point() else tensor).to(device, non_blocking=True) for tensor in tensors
    ]
