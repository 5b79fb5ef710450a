"""A classifier on the waveform: Wav2Vec2's frames, their mean, a linear layer."""

from torch import Tensor, nn


class WaveformClassifier(nn.Module):
    """Logits ``(batch, n_classes)`` of waveforms ``(batch, samples)``, 16 kHz.

    Baevski et al. 2020, "wav2vec 2.0": seven convolutions make a vector of every 20 ms, a transformer relates the
    vectors, and what it was first trained for is replaced by the mean over the frames and a linear layer.

    Args:
        wav2vec: torchaudio's ``Wav2Vec2Model``.
        width: of its vectors.
        drop_rate: share of the mean's values dropped in training.
        freeze_encoder: the convolutions keep their weights, as in most fine-tuning of it.
    """

    def __init__(
        self, wav2vec: nn.Module, width: int, n_classes: int, *, drop_rate: float = 0.0, freeze_encoder: bool = False
    ):
        super().__init__()
        self.wav2vec = wav2vec
        self.dropout = nn.Dropout(drop_rate)
        self.head = nn.Linear(width, n_classes)
        self.wav2vec.feature_extractor.requires_grad_(not freeze_encoder)

    def forward(self, waveforms: Tensor) -> Tensor:
        frames, _ = self.wav2vec(waveforms)
        return self.head(self.dropout(frames.mean(dim=1)))
