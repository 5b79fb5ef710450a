"""Networks and files of weights for the tests of models."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from utils.settings import Model

IMAGE = (32, 64)  # bands, frames


def plain(name: str) -> Model:
    return Model(type=name, transfer_learning=False)


def weights_of(network: nn.Module, path, key: str | None = None):
    """``path``, with the network's weights in it."""
    state = network.state_dict()
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({key: state, "epoch": 3, "labels": ["a"]} if key else state, path)
    return path


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """Nothing downloaded so far, and a proxy that refuses."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "torch"))
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
