"""Does a run on waveforms take the same steps as a run on images?"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import train_classifier
from dataloader.demo import make_demo
from factory.choices import check_choices
from factory.frontend import IMAGES, WAVEFORMS, frontend_of
from utils.interrupt import Stopped
from utils.settings import Augmentation, Config, Data, DataProcess, Model, TrainerSettings

SETTINGS = {
    "model.type": "wav2vec2_tiny",
    "model.transfer_learning": "false",
    "data_process.n_mels": 16,
    "data_process.max_length_s": 2,
    "data.num_workers": 1,
    "data.multi_threading": True,
    "trainer.n_epochs": 1,
    "trainer.batch_size_train": 8,
    "trainer.device": "cpu",
    "trainer.ema": 0.9,
    "agent.lr_warmup_epochs": 0,
}


def test_the_type_decides_the_kind_of_input():
    assert frontend_of("wav2vec2_tiny") is WAVEFORMS
    assert frontend_of("efficientnet_b0") is IMAGES
    process = DataProcess(n_mels=64, max_length_s=5.0)
    assert WAVEFORMS.input_shape(process) == (80_000,)
    assert IMAGES.input_shape(process) == (1, 64, 320)


def test_keeping_recordings_in_gpu_memory_is_refused():
    config = Config(model=Model(type="wav2vec2_tiny"), trainer=TrainerSettings(cache_on_device="yes"))
    [problem] = check_choices(config)
    assert "[trainer] cache_on_device = 'yes': keeps spectrograms, but wav2vec2_tiny reads" in str(problem)


def test_what_is_for_images_is_refused_unless_it_is_off():
    settings = Augmentation(xy_masks_p=0.5, xy_frequency_masks=0, frequency_masks=0)
    config = Config(model=Model(type="wav2vec2_tiny"), augmentation=settings, data=Data(standardize_over="recording"))
    why = "is for images, but wav2vec2_tiny uses the waveform; leave it at"
    assert [str(problem) for problem in check_choices(config)] == [
        f"[data] standardize_over = 'recording': {why} window",
        f"[augmentation] xy_masks_p = '0.5': {why} 0.0",
    ]
    off = replace(config, augmentation=replace(settings, data_augmentation=False), data=Data())
    assert check_choices(off) == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("folder")
    make_demo(folder / "data", species=2, recordings=6)
    return folder


def train(folder, capsys, *arguments, **settings) -> Path:
    folders = {
        "paths.data_dir": folder / "data",
        "paths.runs_dir": folder / "runs",
        "data.output_dir": folder / "cache",
        "data.hash_path": folder / "cache/last_key",
    }
    chosen = {} if "--resume" in arguments else folders | SETTINGS
    assert (
        train_classifier.main([*arguments, *(f"--set={name}={value}" for name, value in (chosen | settings).items())])
        == 0
    )
    return Path(capsys.readouterr().out.splitlines()[-1].removeprefix("run: "))


def test_a_run_on_waveforms_is_scored_stopped_and_resumed_like_any_other(folder, capsys):
    whole = train(folder, capsys)
    assert (whole / "summary.json").is_file()
    with pytest.raises(Stopped):
        train(folder, capsys, **{"trainer.max_minutes": 1e-9})
    stopped = max((folder / "runs").iterdir())
    assert torch.load(stopped / "last.pt", weights_only=True)["progress"]["step"] >= 1  # in the middle of the epoch
    assert train(folder, capsys, "--resume", str(stopped), **{"trainer.max_minutes": 0}) == stopped
    states = [torch.load(folder / "best.pt", weights_only=True) for folder in (whole, stopped)]
    assert states[0]["model_settings"]["type"] == "wav2vec2_tiny"
    assert all(torch.equal(value, states[1]["model"][key]) for key, value in states[0]["model"].items())
    assert (whole / "metrics.csv").read_bytes() == (stopped / "metrics.csv").read_bytes()


IMAGES_ONLY = {
    "augmentation": "background_p xy_masks_p",
    "mixing": "power_mix_p",
}


@pytest.mark.parametrize(
    ("section", "key"), [(name, key) for name, keys in IMAGES_ONLY.items() for key in keys.split()]
)
def test_no_change_of_power_or_bands_is_taken_for_waveforms(section, key, folder):
    augmentation = Augmentation(frequency_masks=0, background_dir=folder / "data")  # for background_p
    config = Config(model=Model(type="wav2vec2_tiny", transfer_learning=False), augmentation=augmentation)
    assert check_choices(config) == []
    changed = replace(config, **{section: replace(getattr(config, section), **{key: 0.5})})
    assert [(problem.section, problem.key) for problem in check_choices(changed)] == [(section, key)]
