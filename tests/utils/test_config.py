"""Is every wrong setting reported, with what would be right?"""

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from factory.choices import check_choices
from utils import config as config_module
from utils.config import differences, load_config, to_ini
from utils.errors import ConfigError, Problem
from utils.settings import KEYS, SECTIONS, Config, Source

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def no_token(monkeypatch):
    monkeypatch.delenv("NEPTUNE_API_TOKEN", raising=False)


def write(tmp_path, text, name="config.ini"):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path / name


def problems(path, *overrides, check=None):
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides, check)
    return str(caught.value).splitlines()


LISTED = {name: ", ".join(vars(SECTIONS[name])["__dataclass_fields__"]) for name in SECTIONS}
WRONG = [
    # settings of the wrong type
    ("trainer", "n_epochs", "many", "not a whole number"),
    ("trainer", "n_epochs", "2.5", "not a whole number"),
    ("trainer", "n_epochs", "", "empty; give a value or remove the line"),
    ("trainer", "seed", "0x10", "not a whole number"),
    ("agent", "lr_warmup_end", "fast", "not a number"),
    ("agent", "lr_warmup_end", "1,5", "not a number"),
    ("agent", "lr_warmup_end", "nan", "not a finite number"),
    ("agent", "lr_end", "inf", "not a finite number"),
    ("data_process", "f_max", "", "empty; give a value or remove the line"),
    ("testing", "testing", "maybe", "neither true nor false"),
    ("testing", "testing", "2", "neither true nor false"),
    ("data", "shuffle", "", "empty; give a value or remove the line"),
    ("paths", "data_dir", "", "empty; give a value or remove the line"),
    # out of range
    ("trainer", "n_epochs", "0", "must be at least 1"),
    ("trainer", "batch_size_train", "-4", "must be at least 1"),
    ("trainer", "num_workers", "-1", "must be at least 0"),
    ("trainer", "seed", "-1", "must be at least 0"),
    ("trainer", "seed", "99999999999", "must be at most 2.14748e+09"),
    ("trainer", "grad_clip", "-0.1", "must be at least 0"),
    ("trainer", "ema", "1", "must be at most 0.99999"),
    ("agent", "lr_warmup_end", "0", "must be above 0"),
    ("agent", "exp_gamma", "1.5", "must be at most 1"),
    ("agent", "focal_alpha", "2", "must be at most 1"),
    ("agent", "weight_decay", "-1", "must be at least 0"),
    ("data", "train_ratio", "0", "must be above 0"),
    ("data", "train_ratio", "1.1", "must be at most 1"),
    ("data", "test_val_ratio", "-0.5", "must be at least 0"),
    ("data", "num_workers", "0", "must be at least 1"),
    ("data", "max_bad_share", "2", "must be at most 1"),
    ("data_process", "sample_rate", "10", "must be at least 1000"),
    ("data_process", "max_length_s", "0", "must be above 0"),
    ("data_process", "floor_db", "3", "must be at most 0"),
    ("data_process", "min_deviation_db", "0", "must be above 0"),
    ("testing", "data_samples_for_testing", "0", "must be at least 1"),
    # no such choice
    ("data_process", "mode", "slices", "unknown; did you mean 'slice'? Known: slice, single"),
    ("data_process", "standardize", "zzz", "unknown; Known: per_frequency, per_clip, none"),
    ("data", "standardize_over", "windows", "unknown; did you mean 'window'? Known: window, recording"),
    ("data", "backend", "dusk", "unknown; did you mean 'dask'? Known: local, dask"),
    ("trainer", "device", "gpu", "unknown; did you mean 'cpu'? Known: auto, cpu, cuda, mps"),
    ("callbacks", "neptune_mode", "off", "unknown; did you mean 'offline'? Known: offline, online, debug"),
    # settings that contradict one another
    ("data_process", "f_max", "20000", "above half of sample_rate, 16000 Hz"),
    ("data_process", "f_min", "16000", "not below f_max, 15000 Hz"),
    ("data_process", "max_length_s", "0.01", "this window has fewer than two frames; raise it or lower hop_length"),
    ("agent", "lr_start", "0.5", "above the peak rate lr_warmup_end, 0.002"),
    ("agent", "lr_end", "0.5", "above the peak rate lr_warmup_end, 0.002"),
    ("labels", "secondary", "masked", "unknown; did you mean 'mask'? Known: ignore, mask, soft, hard"),
    ("labels", "primary_weight", "0", "must be above 0"),
    ("labels", "smoothing", "1", "must be at most 0.9"),
    ("data", "keep_quietest", "0", "must be above 0"),
    ("data", "folds", "1", "leaves nothing to train on; set at least 2, or 0 to use train_ratio and test_val_ratio"),
    ("data", "fold", "0", "must be at least 1"),
    ("data", "fold", "2", "needs folds, the number of all folds; set it"),
    ("data", "balance_power", "1.5", "must be at most 1"),
    ("data", "rare_to", "-1", "must be at least 0"),
    (
        "data",
        "crops_per_segment",
        "2",
        "needs data_augmentation and augment_random_crop of [augmentation]; set both to true, or this to 1",
    ),
    ("augmentation", "background_p", "1.5", "must be at most 1"),
    ("augmentation", "background_min_snr_db", "-400", "must be at least -100"),
    ("mixing", "power_mix_alpha", "-1", "must be above 0"),
    ("mixing", "mixup_alpha", "0", "must be above 0"),
    ("mixing", "cutmix_alpha", "1e308", "must be at most 1e+06"),
    ("paths", "data_dir", "~nobody-has-this-name/data", "there is no such user; write the whole path"),
    ("data_process", "max_length_s", "1e308", "must be at most 1e+06"),
    ("augmentation", "time_mask_max_s", "1e18", "must be at most 3600"),
    ("augmentation", "noise_max_deviation", "1e39", "must be at most 1000"),
    ("mixing", "cutmix_labels", "soft", "unknown; Known: max, linear"),
    ("trainer", "average_last", "99", "above n_epochs, 24"),
]


@pytest.mark.parametrize(("section", "key", "text", "message"), WRONG)
def test_a_wrong_value_is_reported_with_its_key_and_the_remedy(tmp_path, section, key, text, message):
    path = write(tmp_path, f"[{section}]\n{key} = {text}\n")
    assert problems(path) == [f"config.ini [{section}] {key} = '{text}': {message}"]


def test_the_last_rate_is_asked_of_the_schedules_that_have_one(tmp_path):
    path = write(tmp_path, "[agent]\nlr_end = 0.5\n")
    load_config(path, ["agent.lr_decay_type=exponential"])
    assert len(problems(path, "agent.lr_decay_type=cosine")) == 1


FILES = [
    (
        "[agent]\noptimiser = adam\n",
        f"config.ini [agent] optimiser: unknown; did you mean 'optimizer'? Known: {LISTED['agent']}",
    ),
    ("[agnet]\nloss = bce\n", f"config.ini [agnet]: unknown; did you mean 'agent'? Known: {', '.join(SECTIONS)}"),
    (
        "[DEFAULT]\nseed = 1\n",
        f"config.ini [DEFAULT]: unknown; did you mean 'data'? Known: {', '.join(SECTIONS)}",
    ),
    ("[trainer]\nSeed = 1\n", f"config.ini [trainer] Seed: unknown; did you mean 'seed'? Known: {LISTED['trainer']}"),
    ("[trainer]\nseed = 1\nseed = 2\n", "config.ini: line 3: [trainer] seed is there twice; keep one"),
    ("[trainer]\n[model]\n[trainer]\n", "config.ini: line 3: section [trainer] is there twice; join both"),
    ("seed = 1\n", "config.ini: line 1: a setting before the first [section]; write its section above it"),
    ("[trainer]\nseed 1\n", "config.ini: line 2: 'seed 1' is neither a [section] nor key = value"),
]


@pytest.mark.parametrize(("text", "message"), FILES)
def test_what_is_no_setting_is_reported(tmp_path, text, message):
    assert problems(write(tmp_path, text)) == [message]


def test_a_file_that_cannot_be_read_is_reported(tmp_path):
    assert problems(tmp_path / "none.ini") == [f"{tmp_path / 'none.ini'}: no such file; name one with --config"]
    assert problems(tmp_path) == [f"{tmp_path}: is a folder; name a file with --config"]
    (tmp_path / "latin.ini").write_bytes("[paths]\ndata_dir = Vögel\n".encode("latin-1"))
    assert problems(tmp_path / "latin.ini") == [f"{tmp_path / 'latin.ini'}: not UTF-8 at byte 20; save it as UTF-8"]


@pytest.mark.parametrize("override", ["trainer.seed", "seed=1", "=", ""])
def test_an_override_of_another_form_is_reported(tmp_path, override):
    assert problems(write(tmp_path, ""), override) == [f"--set {override}: expected section.key=value"]


def test_all_problems_are_reported_at_once_with_those_of_the_factories(tmp_path):
    path = write(tmp_path, "[trainer]\nn_epochs = many\n[agent]\noptimizer = adamv\n[oops]\na = 1\n")
    assert problems(path, "data.train_ratio=7", check=check_choices) == [
        f"config.ini [oops]: unknown; Known: {', '.join(SECTIONS)}",
        "config.ini [trainer] n_epochs = 'many': not a whole number",
        "--set [data] train_ratio = '7': must be at most 1",
        "config.ini [agent] optimizer = 'adamv': unknown; did you mean 'adam'? Known: adam, adamw, sgd, radam",
    ]


GIVES_WAY = [  # what is written, which default gives way, and to what
    ("trainer.n_epochs=1", "agent.lr_warmup_epochs", 0.1),
    ("trainer.n_epochs=2", "agent.lr_warmup_epochs", 0.2),
    ("data_process.sample_rate=8000", "data_process.f_max", 4000.0),
    ("data_process.f_max=30", "data_process.f_min", 0.0),
    ("data_process.f_min=15500", "data_process.f_max", 16_000.0),
    ("data_process.n_fft=256", "data_process.hop_length", 128),
    ("data_process.n_fft=128", "data_process.n_mels", 32),
    ("data_process.hop_length=2000", "data_process.n_fft", 4096),
    ("data_process.n_mels=600", "data_process.n_fft", 4096),
    ("data_process.n_mels=16", "augmentation.frequency_mask_max_bands", 3),
    ("data_process.max_length_s=1", "augmentation.time_mask_max_s", 0.2),
    ("data_process.max_recording_s=2", "data_process.max_length_s", 2.0),
    ("agent.lr_warmup_end=0.00001", "agent.lr_start", 0.00001 / 20),
    ("agent.lr_warmup_end=0.000001", "agent.lr_end", 0.000001 / 200),
    ("augmentation.background_max_snr_db=1", "augmentation.background_min_snr_db", 1.0),
    ("augmentation.background_min_snr_db=31", "augmentation.background_max_snr_db", 31.0),
    ("augmentation.xy_mask_max=4", "augmentation.xy_mask_min", 4),
]


@pytest.mark.parametrize(("written", "default", "value"), GIVES_WAY, ids=[way[0] for way in GIVES_WAY])
def test_a_default_gives_way_to_what_is_written_with_a_line(tmp_path, caplog, written, default, value):
    config_module._report.cache_clear()
    with caplog.at_level("INFO"):
        config = load_config(write(tmp_path, ""), [written], check_choices)
    section, key = default.split(".")
    assert getattr(getattr(config, section), key) == pytest.approx(value)
    assert any(f"[{section}] {key} is " in line and written.split("=")[0] in line for line in caplog.messages)
    again = load_config(write(tmp_path, to_ini(config), "again.ini"))  # a run keeps what gave way
    assert getattr(getattr(again, section), key) == getattr(getattr(config, section), key)


def test_set_beats_the_file_and_what_is_written_in_one_place_is_refused(tmp_path):
    path = write(tmp_path, "[agent]\nlr_warmup_epochs = 3\n")
    assert load_config(path, ["trainer.n_epochs=2"]).agent.lr_warmup_epochs == pytest.approx(0.2)
    message = "[agent] lr_warmup_epochs = '3': not below n_epochs of [trainer], 2"
    assert problems(write(tmp_path, ""), "agent.lr_warmup_epochs=3", "trainer.n_epochs=2") == [f"--set {message}"]
    both = write(tmp_path, "[agent]\nlr_warmup_epochs = 3\n[trainer]\nn_epochs = 2\n")
    assert problems(both) == [f"config.ini {message}"]
    assert problems(write(tmp_path, "[trainer]\nn_epochs = 2\n"), "agent.lr_warmup_epochs=3") == [f"--set {message}"]
    same = write(tmp_path, "[agent]\nlr_warmup_epochs = 2.0\n[trainer]\nn_epochs = 1\n")  # the default: not written
    assert load_config(same).agent.lr_warmup_epochs == pytest.approx(0.1)


RECIPES = [ROOT / "config.ini", *sorted((ROOT / "configs").glob("*.ini"))]
SHORT = [
    "trainer.n_epochs=1", "trainer.batch_size_train=1", "data.train_ratio=1.0", "data.folds=3",
    "augmentation.data_augmentation=false", "model.transfer_learning=false",
]  # fmt: skip


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
@pytest.mark.parametrize("override", SHORT)
def test_every_recipe_takes_a_sensible_override(path, override):
    load_config(path, [override])


OLD = [
    ("[data]\nsample_max_s = 20\n", "segment_max_s", 20),
    ("[data]\ncrops_per_sample = 2\n[augmentation]\naugment_random_crop = true\n", "crops_per_segment", 2),
    ("[data]\nbackend = ray\n", "backend", "local"),
]


@pytest.mark.parametrize(("text", "key", "value"), OLD, ids=["renamed", "renamed too", "replaced"])
def test_keys_of_before_are_read_with_a_line(tmp_path, caplog, text, key, value):
    config_module._report.cache_clear()
    with caplog.at_level("INFO"):
        config = load_config(write(tmp_path, text))
    assert getattr(config.data, key) == value
    assert any(line.startswith("config.ini: [data] ") for line in caplog.messages)


def test_a_removed_setting_is_refused_where_it_changed_the_training_and_ignored_elsewhere(tmp_path, caplog):
    neutral = write(tmp_path, "[augmentation]\neq_p = 0.0\neq_max_db = 3.0\n", "neutral.ini")
    assert load_config(neutral, check_choices=lambda _: []).augmentation == Config().augmentation
    changed = write(tmp_path, "[augmentation]\neq_p = 0.5\n")
    line = (
        "config.ini [augmentation] eq_p = '0.5': no longer a setting (in experiments it made no difference); "
        "remove the line"
    )
    assert problems(changed, check=lambda _: []) == [line]
    config_module._report.cache_clear()
    caplog.clear()
    with caplog.at_level("INFO"):
        assert load_config(changed).augmentation == Config().augmentation  # a run of before still predicts
    assert caplog.messages == [line]


def test_without_a_testing_section_all_of_the_data_is_used(tmp_path):
    assert not load_config(write(tmp_path, "")).testing.testing
    assert load_config(ROOT / "config.ini").testing.testing


def test_what_is_left_out_has_its_default(tmp_path):
    config = load_config(write(tmp_path, ""))
    assert config.agent == Config().agent
    assert config.data_process == Config().data_process


@pytest.mark.parametrize("text", ["true", "True", "yes", "on", "1"])
@pytest.mark.parametrize(("given", "expected"), [("", True), ("false", False)])
def test_booleans_are_read_as_people_write_them(tmp_path, text, given, expected):
    assert load_config(write(tmp_path, f"[testing]\ntesting = {given or text}\n")).testing.testing is expected


def test_comments_and_percent_signs_stay_what_they_are(tmp_path):
    path = write(tmp_path, "# one\n[paths]\nruns_dir = 100%/x  # the last\n; two\n[trainer]\nseed = 3 ; odd\n")
    config = load_config(path)
    assert config.paths.runs_dir == tmp_path / "100%/x"
    assert config.trainer.seed == 3


def test_a_relative_path_is_relative_to_the_file_and_in_an_override_to_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    path = write(tmp_path, "[paths]\ndata_dir = a/../birds\n")
    config = load_config(path, ["paths.runs_dir=out"])
    assert config.paths.data_dir == tmp_path / "birds"
    assert config.paths.runs_dir == tmp_path / "elsewhere/out"
    assert config.paths.demo_dir == tmp_path / "demo"
    assert load_config(path, ["paths.data_dir=~/birds"]).paths.data_dir == Path.home() / "birds"


def test_an_override_beats_the_file_and_the_last_one_beats_the_first(tmp_path):
    path = write(tmp_path, "[trainer]\nseed = 1\n")
    assert load_config(path, ["trainer.seed=2", "trainer.seed=3"]).trainer.seed == 3


def test_the_token_comes_from_the_environment_first_and_is_written_nowhere(tmp_path, monkeypatch):
    path = write(tmp_path, "[callbacks]\nneptune_token = from-file\n")
    assert load_config(path).callbacks.neptune_token == "from-file"
    monkeypatch.setenv("NEPTUNE_API_TOKEN", "from-environment")
    config = load_config(path)
    assert config.callbacks.neptune_token == "from-environment"
    assert "from-" not in to_ini(config) + repr(config)
    assert differences(config, replace(config, callbacks=Config().callbacks)) == []


def test_a_config_written_out_reads_back_equal_wherever_it_lies(tmp_path):
    config = load_config(write(tmp_path, "[model]\nweights_path = w.pt\n[agent]\nlr_end = 1e-7\n"))
    (tmp_path / "run").mkdir()
    assert load_config(write(tmp_path / "run", to_ini(config))) == config


NASTY = [
    "#x", "a # b", "a ; b", "a\t#b", ";", "my #1 birds", "a#b;c", " leading", "trailing ", " ", "\u3000wide\u3000",
    "100%", "%(x)s", "${x}", "Vögel/鳥", "a = b", "= b", "a: b", ": b", "[model]", '"', '""', '"in quotes"', '"a" # b',
    'say "hi" # now', '"a # b', "back\\slash", "line\u2028separator\x0b\x1c\x85", "~", "none",
]  # fmt: skip


@pytest.mark.parametrize("text", NASTY, ids=ascii)
def test_a_value_of_any_characters_is_written_so_that_it_reads_back(tmp_path, text):
    paths = replace(Config().paths, data_dir=tmp_path / "birds" / text, runs_dir=tmp_path / text / "runs")
    config = replace(
        load_config(write(tmp_path, "")), paths=paths, callbacks=replace(Config().callbacks, neptune_project=text)
    )
    back = load_config(write(tmp_path, to_ini(config)))
    assert back.callbacks.neptune_project == text
    assert (back.paths.data_dir, back.paths.runs_dir) == (paths.data_dir, paths.runs_dir)


def test_a_path_with_a_hash_just_works_from_the_command_line_and_in_quotes_in_the_file(tmp_path):
    path = write(tmp_path, '[paths]\nruns_dir = "my #1 ""best"" runs"  # "quotes" keep a #\n')
    config = load_config(path, [f"paths.data_dir={tmp_path}/my #2 birds"])
    assert config.paths.runs_dir == tmp_path / 'my #1 "best" runs'
    assert load_config(write(tmp_path, to_ini(config))).paths == config.paths
    assert config.paths.data_dir == tmp_path / "my #2 birds"


def test_what_could_not_be_read_back_is_refused(tmp_path):
    expected = "[model] type = {}: {}"
    assert problems(write(tmp_path, ""), "model.type=a\nb") == [
        "--set " + expected.format(r"'a\nb'", "a line break; write the value in one line")
    ]
    assert problems(write(tmp_path, "[model]\ntype = a\n  b\n")) == [
        "config.ini " + expected.format(r"'a\nb'", "a line break; write the value in one line")
    ]
    assert problems(write(tmp_path, ""), "model.type=\udcff") == [
        "--set " + expected.format(r"'\udcff'", "not UTF-8; rename it, or make a link to it with another name")
    ]


def test_differences_names_what_changed():
    one = Config()
    other = replace(one, trainer=replace(one.trainer, seed=9))
    assert differences(one, other) == [("trainer", "seed", one.trainer.seed, 9)]


def test_the_problems_of_a_check_carry_their_source(tmp_path):
    check = lambda config: [Problem("odd", "model", "type", config.model.type)]  # noqa: E731
    assert problems(write(tmp_path, "[model]\ntype = x\n"), check=check) == ["config.ini [model] type = 'x': odd"]


def test_mixing_needs_a_batch_of_two(tmp_path):
    path = write(tmp_path, "[mixing]\nmixup_p = 0.5\n[trainer]\nbatch_size_train = 1\n")
    load_config(path, ["trainer.batch_size_train=2"])
    assert problems(path) == [
        "config.ini [mixing] mixup_p = '0.5': needs a second window in the batch; raise batch_size_train of [trainer]"
    ]


def test_a_background_louder_than_the_foreground_is_a_contradiction(tmp_path):
    path = write(tmp_path, "[labels]\nsecondary_weight = 0.8\nprimary_weight = 0.5\n")
    load_config(path)  # secondary_weight says nothing unless secondary = soft
    assert problems(path, "labels.secondary=soft") == [
        "config.ini [labels] secondary_weight = '0.8': above primary_weight, 0.5"
    ]


@pytest.mark.parametrize("data", ["data.folds=3", "data.train_ratio=1", "data.test_val_ratio=1"])
@pytest.mark.parametrize(
    ("follows", "key"),
    [("agent.lr_decay_type=plateau", "agent] lr_decay_type"), ("trainer.early_stop=3", "trainer] early_stop")],
)
def test_what_follows_the_validation_set_wants_one(tmp_path, data, follows, key):
    path = write(tmp_path, "")
    load_config(path, [follows])
    (problem,) = problems(path, follows, data)
    assert problem.startswith(f"--set [{key} = ")
    assert f"and [data] {data.removeprefix('data.').replace('=', ' = ')}" in problem
    assert "leaves no validation set; " in problem
    load_config(path, ["agent.lr_decay_type=plateau", "agent.lr_decay=false", data])


def test_the_last_epochs_are_not_averaged_where_early_stop_may_leave_them_out(tmp_path):
    path = write(tmp_path, "[trainer]\naverage_last = 3\nearly_stop = 2\n")
    assert load_config(path, ["trainer.average_last=2"]).trainer.early_stop == 0
    (problem,) = problems(path)
    assert problem.startswith("config.ini [trainer] average_last = '3': averages the last of n_epochs, but early_stop")


def test_random_weights_are_not_frozen(tmp_path):
    path = write(tmp_path, "[model]\ntransfer_learning = false\nfreeze_epochs = 2\n")
    with pytest.raises(
        ConfigError, match=r"freeze_epochs = '2': would freeze random weights; set transfer_learning = true"
    ):
        load_config(path)


def test_a_fold_above_the_number_of_folds_is_a_contradiction(tmp_path):
    path = write(tmp_path, "[data]\nfolds = 5\nfold = 5\n")
    assert load_config(path).data.fold == 5
    assert problems(path, "data.fold=6") == ["--set [data] fold = '6': there are only 5 folds"]


def test_what_would_do_nothing_is_reported(tmp_path):
    path = write(
        tmp_path, "[augmentation]\naugment_random_crop = true\nxy_time_masks = 0\n[data]\ncrops_per_segment = 2\n"
    )
    load_config(path, ["augmentation.xy_frequency_masks=0"])
    assert problems(path, "augmentation.xy_frequency_masks=0", "augmentation.xy_masks_p=0.5") == [
        "--set [augmentation] xy_masks_p = '0.5': there are no masks: xy_time_masks and xy_frequency_masks are both 0; "
        "raise one, or set this to 0"
    ]
    (crops,) = problems(path, "augmentation.data_augmentation=false", "data.crops_per_segment=3")
    assert crops.startswith("--set [data] crops_per_segment = '3': needs data_augmentation and augment_random_crop")
    (weight,) = problems(path, "agent.loss=cross_entropy", "labels.primary_weight=0.5")
    assert weight.startswith("--set [labels] primary_weight = '0.5': has no effect with cross_entropy")
    load_config(path, ["agent.loss=cross_entropy", "labels.primary_weight=0.5", "labels.secondary=soft"])


def test_a_segment_shorter_than_a_window_and_a_cap_below_the_repeats_are_contradictions(tmp_path):
    path = write(
        tmp_path, "[data]\nsegment_max_s = 10\nclass_cap = 5\nrare_to = 4\n[data_process]\nmax_length_s = 20\n"
    )
    load_config(path)  # segments are those of augment_random_crop
    path.write_text(path.read_text().replace("rare_to = 4", "rare_to = 8"))
    assert problems(path, "augmentation.augment_random_crop=true") == [
        "config.ini [data] segment_max_s = '10': shorter than a window, 20 s",
        "config.ini [data] class_cap = '5': below rare_to, 8; classes would be cut and repeated at the same time",
    ]


def test_a_folder_whose_name_is_not_utf_8_is_reported(tmp_path):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/m\xfcller"))
    folder.mkdir()
    (folder / "config.ini").write_text("")
    with pytest.raises(ConfigError, match=r"config\.ini.*the name of its folder is not UTF-8; rename it"):
        load_config(folder / "config.ini")


def test_several_sources_are_read_written_and_told_apart(tmp_path):
    text = "[source.field]\ndata_dir = a\nlayout = folders\nweight = 2\n[source.xc]\ndata_dir = b\n"
    path = write(tmp_path, text)
    config = load_config(path, ["source.xc.label=robin"])
    assert [name for name, _ in config.sources] == ["field", "xc"]
    assert dict(config.sources)["field"].data_dir == tmp_path / "a"
    assert dict(config.sources)["xc"].label == "robin"
    (tmp_path / "run").mkdir()
    assert load_config(write(tmp_path / "run", to_ini(config))) == config
    assert differences(load_config(path), config) == [("source.xc", "label", "", "robin")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[source.a/b]\ndata_dir = x\n", "config.ini [source.a/b]: the name of a source is letters, digits, _ and -"),
        ("[source.a]\nlayout = folders\n", "config.ini [source.a] data_dir = '': missing; name the folder"),
        ("[source.a]\ndata_dir = x\nlayuot = table\n", "[source.a] layuot: unknown; did you mean 'layout'?"),
        ("[data]\nlabel_from = 2\n", "config.ini [data] label_from = '2': expected folder:N"),
        (
            "[data]\nlabel_from = folder:1\nlabel = a\n",
            "[data] label_from = 'folder:1': label already gives all recordings one label",
        ),
    ],
)
def test_settings_of_sources_that_cannot_be_are_reported(tmp_path, text, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_config(write(tmp_path, text))


def test_a_source_has_the_keys_of_data_with_the_same_defaults():
    shared = set(KEYS["data"]) & set(vars(Source)["__dataclass_fields__"])
    assert len(shared) >= 9
    assert all(getattr(Source(), key) == getattr(Config().data, key) for key in shared)
