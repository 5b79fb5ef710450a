"""A classifier on the waveform: the frames of Wav2Vec2, their mean, and a linear layer."""

from torch import Tensor, nn


class WaveformClassifier(nn.Module):
    """Logits ``(batch, n_classes)`` of waveforms ``(batch, samples)``, 16 kHz.

    Baevski et al. 2020, "wav2vec 2.0": seven convolutions compute a vector for every 20 ms, and a transformer relates
    the vectors. The mean over the frames and a linear layer replace its original output.

    Args:
        wav2vec: torchaudio's ``Wav2Vec2Model``.
        width: the length of its vectors.
        drop_rate: share of the mean's values dropped in training.
        freeze_encoder: the convolutions keep their weights, as is usual in fine-tuning.
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
