"""Is the trainer refused where nothing is left to validate with?"""

from dataclasses import replace

import pytest
import torch

from training.build import build_trainer
from utils.distributed import Processes
from utils.errors import ConfigError
from utils.settings import Agent, Config, DataProcess, TrainerSettings

PLAIN = Config(data_process=DataProcess(n_mels=8, max_length_s=1.0))


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"trainer": TrainerSettings(early_stop=1)}, "early_stop"),
        ({"agent": Agent(lr_decay_type="plateau")}, "lr_decay_type"),
    ],
)
def test_settings_that_need_validation_are_refused_where_no_group_is_left_for_it(metadata, tmp_path, settings, key):
    table = metadata.assign(split="train")
    with pytest.raises(ConfigError, match=rf"{key}: .* no group of recordings is left for it .*; "):
        build_trainer(replace(PLAIN, **settings), None, table, tmp_path, torch.device("cpu"), Processes())
