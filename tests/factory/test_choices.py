"""Are all unknown names in a config found at once, before timm is asked for more than it must?"""

import ast
from dataclasses import fields
from pathlib import Path

import pytest

from factory import choices
from factory.choices import check_choices
from utils.config import load_config
from utils.errors import ConfigError
from utils.settings import Agent, Augmentation, Callbacks, Config, DataProcess, Model


def test_the_defaults_are_known():
    assert check_choices(Config()) == []


def test_every_unknown_name_is_a_problem_of_its_own():
    config = Config(
        callbacks=Callbacks(model_checkpoint_type="val_auc"),
        agent=Agent(loss="mse", optimizer="adamv", lr_decay_type="cosin"),
        model=Model(type="efficientnet_b00", weights_path=Path("missing.pt")),
    )
    assert [(problem.section, problem.key) for problem in check_choices(config)] == [
        ("callbacks", "model_checkpoint_type"),
        ("agent", "loss"),
        ("agent", "optimizer"),
        ("agent", "lr_decay_type"),
        ("model", "type"),
        ("model", "weights_path"),
    ]


def test_one_report_names_the_files_line_for_each(tmp_path):
    (tmp_path / "config.ini").write_text("[agent]\noptimizer = adamv\n[trainer]\nn_epochs = none\n")
    try:
        load_config(tmp_path / "config.ini", check_choices=check_choices)
    except ConfigError as error:
        lines = str(error).splitlines()
    assert lines[0] == "config.ini [trainer] n_epochs = 'none': not a whole number"
    assert lines[1].startswith("config.ini [agent] optimizer = 'adamv': unknown; did you mean 'adam'? Known: adam,")


def test_no_factory_imports_a_heavy_package_before_it_is_asked_to_build():
    heavy = {"timm", "sklearn", "pandas", "matplotlib", "scipy", "huggingface_hub", "torchvision"}
    root = Path(__file__).parents[2]
    for path in [*root.glob("factory/*.py"), root / "models/losses.py", root / "utils/metrics.py"]:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            assert not heavy & {name.partition(".")[0] for name in names}, path


NO_SPEC_AUGMENT = {"augmentation.augment_spec_augment": "false", "augmentation.xy_masks_p": "0.5"}


@pytest.mark.parametrize(
    ("settings", "key", "hidden", "count"),
    [
        (
            {"data_process.n_mels": 16, "augmentation.frequency_mask_max_bands": 16},
            "frequency_mask_max_bands",
            "all 16 bands",
            "frequency_masks",
        ),
        (
            {"augmentation.frequency_mask_max_bands": 128},
            "frequency_mask_max_bands",
            "all 128 bands",
            "frequency_masks",
        ),
        (
            {"data_process.max_length_s": 1, "augmentation.time_mask_max_s": 1.5},
            "time_mask_max_s",
            "a whole window, 1 s",
            "time_masks",
        ),
        ({"data_process.n_mels": 16, **NO_SPEC_AUGMENT}, "xy_mask_max", "all 16 bands", "xy_frequency_masks"),
        (
            {"data_process.max_length_s": 0.25, **NO_SPEC_AUGMENT},
            "xy_mask_max",
            "a whole window, 0.25 s",
            "xy_time_masks",
        ),
    ],
)
def test_a_mask_that_can_hide_the_whole_image_is_a_contradiction(tmp_path, settings, key, hidden, count):
    (tmp_path / "config.ini").touch()
    line = [f"{name}={value}" for name, value in settings.items()]
    with pytest.raises(ConfigError) as error:
        load_config(tmp_path / "config.ini", line, check_choices)
    (problem,) = error.value.problems
    assert (problem.section, problem.key) == ("augmentation", key)
    assert problem.text == f"hides {hidden}; lower it, or set {count} to 0"
    for off in ("augmentation.data_augmentation=false", f"augmentation.{count}=0"):
        load_config(tmp_path / "config.ini", [*line, off], check_choices)


def test_a_waveform_has_no_bands_to_hide():
    config = Config(model=Model(type="wav2vec2_tiny", transfer_learning=False), data_process=DataProcess(n_mels=16))
    assert check_choices(config) == []


def test_weights_that_a_checkpoint_will_bring_need_no_file():
    config = Config(model=Model(weights_path=Path("gone.pt")))
    assert [problem.key for problem in check_choices(config)] == ["weights_path"]
    assert check_choices(config, fetch=False) == []


@pytest.mark.parametrize("kept_from", [choices._FOR_IMAGES, choices._FOR_SOUNDS], ids=["waveforms", "encoders"])
def test_every_chance_of_an_augmentation_is_refused_where_there_are_no_images(kept_from):
    chances = {field.name for field in fields(Augmentation) if field.name.endswith("_p")}
    assert chances <= set(kept_from["augmentation"].split())
