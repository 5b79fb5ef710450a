"""Is a head on an encoder built as [model] says, and is what means nothing to it refused in a line?"""

import pytest
import torch

from dataloader.encoders.table import ENCODERS, settle
from factory.choices import check_choices
from factory.encoders import build_encoder_model
from factory.frontend import EMBEDDINGS, frontend_of
from factory.model import head_of
from utils.config import load_config
from utils.errors import ConfigError
from utils.settings import Model


def config(tmp_path, text):
    path = tmp_path / "config.ini"
    path.write_text(text)
    return settle(load_config(path, (), check_choices))


@pytest.mark.parametrize("name", [*ENCODERS, "encoder"])
@pytest.mark.parametrize("head", ["default", "linear", "mlp"])
@pytest.mark.parametrize("pool", ["windows", "mean", "attention"])
def test_every_head_and_pool_gives_logits_and_a_gradient(name, head, pool):
    model = build_encoder_model(Model(type=name, head=head, pool=pool, drop_rate=0.2), 3, size=8)
    assert frontend_of(name) is EMBEDDINGS
    assert (model.attention is not None) == (pool == "attention")
    logits = model(torch.rand(4, 2, 9))
    assert logits.shape == (4, 3)
    logits.square().sum().backward()
    assert all(weight.grad is not None for weight in head_of(model).parameters())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[model]\ntype = birdnet_v2.5", r"type = 'birdnet_v2.5': unknown; did you mean 'birdnet_v2.4'"),
        ("[model]\ntype = birdnet_v2.4\nhead = gem", r"head = 'gem': unknown.*Known: default, linear, mlp"),
        ("[model]\ntype = birdnet_v2.4\nfreeze_epochs = 2", r"freeze_epochs = '2': is for trained networks"),
        ("[model]\ntype = birdnet_v2.4\nencoder_window_s = 5", r"encoder_window_s = '5': is for type = encoder only"),
        (
            "[model]\ntype = birdnet_v2.4\ntransfer_learning = no",
            r"transfer_learning = 'no': birdnet_v2.4 is a pretrained",
        ),
        ("[model]\ntype = encoder\nencoder_window_s = 5", r"encoder_sample_rate = '0': type = encoder needs it"),
        (
            "[model]\npool = windows",
            r"pool = 'windows': is for encoders only",
        ),
        (
            "[model]\ntype = birdnet_v2.4\n[data_process]\nsample_rate = 32000",
            r"sample_rate = '32000': birdnet_v2.4 has 48000 Hz and windows of 3 s; remove this line",
        ),
        (
            "[model]\ntype = birdnet_v2.4\n[data_process]\nmax_length_s = 5",
            r"max_length_s = '5': birdnet_v2.4 has 48000 Hz",
        ),
        ("[model]\ntype = birdnet_v2.4\n[mixing]\npower_mix_p = 0.5", r"power_mix_p = '0.5': changes sounds"),
        (
            "[model]\ntype = birdnet_v2.4\n[augmentation]\naugment_random_crop = yes",
            r"augment_random_crop = 'yes': changes",
        ),
        ("[model]\ntype = birdnet_v2.4\n[data]\nkeep_quietest = 0.8", r"keep_quietest = '0.8': changes sounds"),
        ("[model]\ntype = birdnet_v2.4\npool = attention\n[mixing]\nmixup_p = 0.5", r"mixup_p = '0.5': mixes means"),
    ],
)
def test_what_means_nothing_to_an_encoder_is_a_line(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        config(tmp_path, text)


def test_the_values_of_the_encoder_may_be_written_as_in_the_config_of_a_run(tmp_path):
    text = "[model]\ntype = birdnet_v2.4\n[data_process]\nsample_rate = 48000\nmax_length_s = 3.0"
    assert config(tmp_path, text).data_process.sample_rate == 48_000
