"""Small encoders, as files of each kind."""

import pytest
import torch
from torch import Tensor, nn

RATE, WINDOW_S, SIZE, LABELS = 8_000, 0.5, 6, 4
SAMPLES = round(RATE * WINDOW_S)


class Small(nn.Module):
    """Scores, and the embedding they come from: how loud six parts of the window are."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weights", torch.linspace(-1, 1, SIZE * LABELS).reshape(SIZE, LABELS))

    def forward(self, sound: Tensor) -> tuple[Tensor, Tensor]:
        parts = sound[:, : SAMPLES // SIZE * SIZE].reshape(-1, SIZE, SAMPLES // SIZE)
        embedding = parts.abs().mean(dim=2)
        return torch.sigmoid(embedding @ self.weights), embedding


def write_torchscript(path):
    torch.jit.trace(Small(), torch.zeros(2, SAMPLES)).save(str(path))
    return path


def write_onnx(path, names=("scores", "embedding")):
    torch.onnx.export(
        Small(), (torch.zeros(2, SAMPLES),), str(path), dynamo=False, input_names=["sound"],
        output_names=list(names), dynamic_axes={"sound": {0: "batch"}, **{name: {0: "batch"} for name in names}},
    )  # fmt: skip
    return path


@pytest.fixture(params=[".pt", ".onnx"])
def encoder_file(request, tmp_path):
    if request.param == ".onnx":
        pytest.importorskip("onnxruntime")
        return write_onnx(tmp_path / "small.onnx")
    return write_torchscript(tmp_path / "small.pt")
