"""A head on the embeddings of a frozen encoder: which species are in a recording, by pooling its windows?"""

import math

import torch
from torch import Tensor, nn


class EmbeddingClassifier(nn.Module):
    """Logits ``(batch, n_classes)`` of examples ``(batch, windows, 1 + size)``: a window's weight, then its embedding.

    The windows are pooled before they are classified, because a label holds for a recording and not for each of its
    windows. A head for single windows is the same module, because one window is its own mean.

    Args:
        size: the length of an embedding.
        hidden: width of the layer before the last; 0: a linear head.
        attention: pool with learned weights in place of the mean.
        drop_rate: share of the pooled embedding's values, and of the hidden layer's, dropped in training.
    """

    def __init__(self, size: int, n_classes: int, *, hidden: int = 0, attention: bool = False, drop_rate: float = 0.0):
        super().__init__()
        self.input_shape = (1, 1 + size)
        # Encoders differ in the scale of their numbers, so each number is normalised by its spread in training.
        self.norm = nn.BatchNorm1d(size, affine=False)
        self.attention = GatedAttention(size) if attention else None
        self.hidden = (
            nn.Sequential(nn.Dropout(drop_rate), nn.Linear(size, hidden), nn.ReLU()) if hidden else nn.Identity()
        )
        self.dropout = nn.Dropout(drop_rate)
        self.head = nn.Linear(hidden or size, n_classes)
        # At first all species are equally likely, one of n_classes.
        nn.init.zeros_(self.head.weight)
        nn.init.constant_(self.head.bias, -math.log(max(n_classes - 1, 1)))

    def forward(self, examples: Tensor) -> Tensor:
        weights, embeddings = examples[..., 0], examples[..., 1:]
        if self.attention is not None:
            weights = self.attention(embeddings, weights)
        pooled = (weights[..., None] * embeddings).sum(dim=1) / weights.sum(dim=1, keepdim=True)
        return self.head(self.dropout(self.hidden(self.norm(pooled))))


class GatedAttention(nn.Module):
    """The weight of each window of an example, at first equal for all.

    Ilse, Tomczak, Welling 2018, "Attention-based deep multiple instance learning", eq. 9.

    Args:
        size: the length of an embedding.
    """

    def __init__(self, size: int):
        super().__init__()
        width = 64  # of the two layers whose product is the score of a window
        self.norm = nn.LayerNorm(size)
        self.content, self.gate, self.score = nn.Linear(size, width), nn.Linear(size, width), nn.Linear(width, 1)
        nn.init.zeros_(self.score.weight)
        nn.init.zeros_(self.score.bias)

    def forward(self, embeddings: Tensor, weights: Tensor) -> Tensor:
        """Weights ``(batch, windows)`` with the sum 1, from ``weights`` and embeddings ``(batch, windows, size)``."""
        values = self.norm(embeddings)
        scores = self.score(torch.tanh(self.content(values)) * torch.sigmoid(self.gate(values)))[..., 0]
        scores = torch.where(weights > 0, scores, torch.finfo(scores.dtype).min)
        exponents = weights * (scores - scores.amax(dim=1, keepdim=True)).exp()
        return exponents / exponents.sum(dim=1, keepdim=True)
