"""Is the model's input images, waveforms or embeddings? [model] type -> the data set and transform of its input."""

from collections.abc import Callable
from dataclasses import dataclass

from dataloader.batches.augment import Augmenter
from dataloader.batches.dataset import WindowDataset
from dataloader.batches.embeddings import EmbeddingDataset, EmbeddingTransform
from dataloader.batches.images import ImageTransform
from dataloader.batches.waveforms import WaveformDataset, WaveformTransform, waveform_augmenter, window_samples
from dataloader.batches.windows import image_size, window_frames
from dataloader.encoders.table import is_encoder
from factory.wav2vec import WAVEFORM_MODELS
from utils.settings import DataProcess


@dataclass(frozen=True, kw_only=True)
class Frontend:
    """What differs outside the model between models on images, on waveforms and on embeddings.

    Attributes:
        window: the length of its input, in frames of a spectrogram or in samples.
        input_shape: of one input, without the batch.
        dataset: ``(metadata, windows, labels, process, rules)`` -> batches by rows.
        transform: ``(process, standardize_over, augmenter, mixer)`` -> what turns a batch into the model's input.
        augmenter: ``(augmentation, process, seed, background)`` -> what changes training inputs.
        sees_images: its windows come from the cache of spectrograms, and can be kept in GPU memory.
    """

    window: Callable[[DataProcess], int]
    input_shape: Callable[[DataProcess], tuple[int, ...]]
    dataset: type[WindowDataset]
    transform: Callable[..., ImageTransform | WaveformTransform | EmbeddingTransform]
    augmenter: Callable[..., Augmenter | None]
    sees_images: bool


IMAGES = Frontend(
    window=window_frames,
    input_shape=lambda process: (1, *image_size(process)),
    dataset=WindowDataset,
    transform=ImageTransform,
    augmenter=Augmenter,
    sees_images=True,
)
WAVEFORMS = Frontend(
    window=window_samples,
    input_shape=lambda process: (window_samples(process),),
    dataset=WaveformDataset,
    transform=lambda process, standardize_over, augmenter=None, mixer=None: WaveformTransform(augmenter, mixer),
    augmenter=lambda augmentation, process, seed, background: waveform_augmenter(augmentation, process, seed),
    sees_images=False,
)


def _samples(process: DataProcess) -> int:
    return round(process.max_length_s * process.sample_rate)


EMBEDDINGS = Frontend(
    window=_samples,  # of sound, from which the encoder computes an embedding
    input_shape=lambda process: (_samples(process),),
    dataset=EmbeddingDataset,
    transform=lambda process, standardize_over, augmenter=None, mixer=None, pool="mean", seed=None: EmbeddingTransform(
        pool, mixer, seed
    ),
    augmenter=lambda augmentation, process, seed, background: None,
    sees_images=False,
)


def frontend_of(model_type: str) -> Frontend:
    """The frontend of the network with this name."""
    if is_encoder(model_type):
        return EMBEDDINGS
    return WAVEFORMS if model_type in WAVEFORM_MODELS else IMAGES
