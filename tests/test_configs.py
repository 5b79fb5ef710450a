"""Do the recipes in configs/ train?"""

import math
from pathlib import Path

import pytest
import torch

from dataloader.encoders.table import OWN, is_encoder, settle
from factory.choices import check_choices
from tests.dataloader.encoders.conftest import RATE, WINDOW_S, write_torchscript
from training.build import build_and_dry_run, build_trainer
from training.recordings import cache_folder, load_table, prepare, split_recordings
from utils.config import load_config
from utils.distributed import Processes

ROOT = Path(__file__).parents[1]
RECIPES = sorted((ROOT / "configs").glob("*.ini"))
every_recipe = pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
SMALL = ["trainer.batch_size_train=2", "trainer.num_workers=0", "trainer.device=cpu", "model.transfer_learning=false",
         "data.num_workers=1", "data.multi_threading=true"]  # a process would import everything again  # fmt: skip
SMALLER = {"wav2vec2.ini": ["model.wav2vec_layers=1", "data_process.max_length_s=1"]}  # of 12 layers, and of 5 s
OWN_SPECTROGRAMS = {"small_cpu.ini", "pretrained_cnn.ini"}


@pytest.fixture(scope="module")
def place(tmp_path_factory, demo):
    """A folder with the data in it, and the one cache of all recipes."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "data").symlink_to(demo)
    return folder


@every_recipe
def test_every_recipe_is_a_config_for_all_of_the_data(path):
    assert not load_config(path, check_choices=check_choices).testing.testing


@every_recipe
def test_every_recipe_means_the_folders_of_config_ini_and_most_share_its_spectrograms(path):
    recipe, shipped = load_config(path), load_config(ROOT / "config.ini")
    assert recipe.paths == shipped.paths
    assert recipe.data.hash_path == shipped.data.hash_path
    assert recipe.data.output_dir == shipped.data.output_dir
    if is_encoder(recipe.model.type):
        return  # its embeddings are in a folder of their own
    assert (cache_folder(recipe) != cache_folder(shipped)) == (path.name in OWN_SPECTROGRAMS)


def test_the_first_places_recipe_has_its_published_settings():
    """Those of configs/effnet_seg20_80low.json and src/ of github.com/arpoyda/BirdCLEF_2024."""
    recipe = load_config(ROOT / "configs/birdclef2024_first_place.ini")
    published = {
        "trainer": {"batch_size_train": 96, "n_epochs": 7, "grad_clip": 0.0},
        "callbacks": {"model_checkpoint": False},
        "agent": {"loss": "cross_entropy", "optimizer": "adamw", "lr_warmup_end": 0.003, "lr_decay_type": "cosine",
                  "lr_end": 0.0, "weight_decay": 0.01},
        "model": {"type": "efficientnet_b0", "transfer_learning": True, "head": "default"},
        "data": {"duplicates": "drop", "train_ratio": 1.0, "keep_quietest": 0.8, "segment_max_s": 20.0,
                 "crops_per_segment": 1},
        "labels": {"secondary": "hard"},
        "data_process": {"sample_rate": 32_000, "n_fft": 1024, "hop_length": 500, "n_mels": 128, "f_min": 40.0,
                         "f_max": 15_000.0, "max_length_s": 10.0},
        "augmentation": {"augment_random_crop": True, "augment_add_noise": False, "augment_spec_augment": False,
                         "xy_masks_p": 0.9, "xy_time_masks": 12, "xy_frequency_masks": 3, "xy_mask_min": 8,
                         "xy_mask_max": 16},
        "mixing": {"cutmix_p": 0.9, "cutmix_alpha": 1.0, "cutmix_labels": "linear", "mixup_p": 0.0,
                   "power_mix_p": 0.0},
    }  # fmt: skip
    for section, values in published.items():
        assert {key: getattr(getattr(recipe, section), key) for key in values} == values


@every_recipe
def test_every_recipe_takes_two_steps(path, place, monkeypatch):
    folders = [f"paths.{name}_dir={place / name}" for name in ("data", "runs", "demo")]
    folders += [f"data.output_dir={place / 'cache'}", f"data.hash_path={place / 'last_key'}"]
    smaller = an_encoder(place / "small.pt") if path.name == "birdnet.ini" else SMALLER.get(path.name, [])
    config = settle(load_config(path, folders + SMALL + smaller, check_choices))
    trainer = begin(config, place / path.stem)
    before = [weight.detach().clone() for weight in trainer.model.parameters()]
    monkeypatch.setattr(type(trainer.train_subset.order), "__len__", lambda order: 2)
    trainer._train_epoch()
    assert trainer.progress.step == 2
    assert math.isfinite(trainer.progress.loss_sum)
    changed = [not torch.equal(*pair) for pair in zip(before, trainer.model.parameters(), strict=True)]
    assert sum(changed) > len(changed) / 2


def an_encoder(path):
    """What puts a small encoder in the place of BirdNET, which may not be installed."""
    write_torchscript(path)
    keys = {"type": OWN, "weights_path": path, "encoder_sample_rate": RATE, "encoder_window_s": WINDOW_S}
    keys |= {"encoder_output": 1, "transfer_learning": "true"}
    return [f"model.{key}={value}" for key, value in keys.items()]


def begin(config, folder):
    """What train_classifier.py does until the first step."""
    folder.mkdir()
    processes = Processes()
    table = load_table(config, processes)
    model = build_and_dry_run(config, table)
    metadata = split_recordings(config, prepare(config, table, processes), folder)
    return build_trainer(config, model, metadata, folder, torch.device("cpu"), processes)
