"""Does each step of a run leave what the next one needs, and say in a line what is wrong?"""

import json
import subprocess
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from training import steps as run
from utils.config import Agent, Config, Data, DataProcess, Labels, Mixing, Trainer
from utils.distributed import Processes
from utils.errors import ConfigError, DataError, UserError
from utils.interrupt import Stopped

ROOT = Path(__file__).parents[2]
PLAIN = Config(data_process=DataProcess(n_mels=8, max_length_s=1.0))


def test_the_loudest_leave_the_training_part_and_the_split_for_good(metadata, tmp_path):
    config = replace(PLAIN, data=Data(keep_quietest=0.5))
    folder = tmp_path / "run"
    folder.mkdir()
    first = run.split(config, metadata.drop(columns="split"), folder)
    whole = run.split(PLAIN, metadata.drop(columns="split"), tmp_path)
    for split in ("val", "test"):
        assert set(first[first["split"] == split]["filename"]) == set(whole[whole["split"] == split]["filename"])
    left = whole[whole["split"] == "train"].groupby("primary_label").size()
    assert len(first[first["split"] == "train"]) == pytest.approx(left.sum() / 2, abs=1)
    again = run.split(config, metadata.drop(columns="split"), folder)  # of a resumed run: the table decides
    assert again["filename"].tolist() == first["filename"].tolist()


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ("a/0.ogg,a,", "a/0.ogg,OLD,", "1 recordings have another label .* a/0.ogg, 'OLD' in this run and 'a' there"),
        (",train\n", ",Train\n", "damaged: a split 'Train'"),
        ("a/0.ogg", "a/gone.ogg", "1 recordings of this run are gone or bad now, the first is a/gone.ogg"),
    ],
)
def test_a_resumed_run_is_told_what_of_its_split_is_not_so_any_more(metadata, tmp_path, before, after, why):
    table = metadata.drop(columns="split")
    run.split(PLAIN, table, tmp_path)
    path = tmp_path / "split.csv"
    path.write_text(path.read_text().replace(before, after, 1))
    with pytest.raises(DataError, match=why):
        run.split(PLAIN, table, tmp_path)


def test_a_resumed_run_wants_the_recordings_that_it_began_with(metadata, tmp_path):
    table = metadata.drop(columns="split")
    run.split(PLAIN, table, tmp_path)
    run.split(PLAIN, table, tmp_path)
    others = table.assign(digest=table["digest"].where(table["filename"] != "b/18.ogg", "f" * 32))
    with pytest.raises(
        DataError, match=r"content\.csv: 1 recordings are not those .* began with, the first is b/18.ogg"
    ):
        run.split(PLAIN, others, tmp_path)
    (tmp_path / "content.csv").unlink()  # as of a run of before
    run.split(PLAIN, others, tmp_path)


@pytest.mark.parametrize("content", ["", "filename;label;group;split\n", "\0"])
def test_a_split_that_is_no_table_is_told(metadata, tmp_path, content):
    (tmp_path / "split.csv").write_text(content)
    with pytest.raises(DataError, match=r"split\.csv: damaged: no table of filename, label, split; mend it or"):
        run.split(PLAIN, metadata.drop(columns="split"), tmp_path)


@pytest.mark.parametrize(("secondary", "names", "told"), [
    ("mask", ("Parus major",), True), ("ignore", ("Parus major",), False), ("mask", ("a", "Parus major"), False),
    ("mask", (), False),
])  # fmt: skip
def test_species_in_the_background_that_are_no_class_are_told(metadata, tmp_path, caplog, secondary, names, told):
    table = metadata.drop(columns="split").assign(secondary_labels=[names] * len(metadata))
    run.split(replace(PLAIN, labels=Labels(secondary=secondary)), table, tmp_path)
    assert ("secondary = mask changes nothing" in caplog.text) == told


def test_a_restart_of_torchrun_begins_no_new_run(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    with pytest.raises(UserError, match=r"torchrun started again .*; go on with --resume RUN_DIR"):
        run.load(Namespace(resume=None, config=None, overrides=[]))


def test_two_processes_do_not_train_one_run(tmp_path):
    (tmp_path / "run").mkdir()
    code = (
        "import sys; from pathlib import Path; from utils.lock import alone\n"
        "with alone(Path(sys.argv[1]) / 'run', ''): print('held', flush=True); sys.stdin.read()"
    )
    line = [sys.executable, "-c", code, str(tmp_path / "run")]
    with subprocess.Popen(line, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        with (
            pytest.raises(DataError, match=r"run: another process trains this run; wait for its end, or stop it"),
            run.open_folder(PLAIN, tmp_path / "run", Processes()),
        ):
            pass
        other.stdin.close()


def test_a_dead_process_that_read_batches_is_told_in_a_line(metadata, tmp_path):
    def die():
        raise RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly")

    trainer = SimpleNamespace(processes=Processes(), trackers=(), fit=die)
    with pytest.raises(UserError, match=r"has died \(DataLoader worker .*lower \[trainer\] num_workers, or"):
        run.train(PLAIN, trainer, metadata, tmp_path)


@pytest.mark.parametrize(("loss", "told"), [("cross_entropy", True), ("bce", False)])
def test_recordings_without_a_bird_that_teach_nothing_are_told(metadata, tmp_path, caplog, loss, told):
    config = replace(PLAIN, agent=Agent(loss=loss), data=Data(train_ratio=1.0))
    table = metadata.drop(columns="split").assign(labels=[(), (), *metadata["labels"][2:]])
    run.split(config, table, tmp_path)
    assert ("learns nothing from 2 recordings without a bird" in caplog.text) == told


def test_a_fold_is_the_test_set_whatever_the_seed_and_the_others_train(metadata, tmp_path):
    def splits(fold, seed=1):
        folder = tmp_path / f"{fold}-{seed}"
        folder.mkdir()
        config = replace(PLAIN, data=Data(folds=3, fold=fold), trainer=Trainer(seed=seed))
        return run.split(config, metadata.drop(columns="split"), folder).set_index("filename")["split"]

    first, second, third = (splits(fold) for fold in (1, 2, 3))
    assert set(first) == {"train", "test"}
    assert ((first == "test").astype(int) + (second == "test") + (third == "test") == 1).all()
    assert splits(1, seed=2).equals(first)


@pytest.mark.parametrize(
    ("size", "mixing", "why"),
    [
        (3, Mixing(), "cannot be shared equally by 2 processes; make it a multiple of that"),
        (2, Mixing(mixup_p=0.5), r"leaves each of 2 processes one window a batch, and \[mixing\] needs a partner"),
    ],
)
def test_a_batch_that_the_processes_cannot_share_is_told_in_a_line(monkeypatch, size, mixing, why):
    monkeypatch.setattr(run, "join_processes", lambda device: (Processes(rank=0, world=2), device))
    config = Config(trainer=Trainer(device="cpu", batch_size_train=size), mixing=mixing)
    with pytest.raises(ConfigError, match=rf"\[trainer\] batch_size_train = '{size}': {why}"), run.processes_of(config):
        pass


def test_deterministic_is_handed_to_torch():
    try:
        with run.processes_of(Config(trainer=Trainer(device="cpu", deterministic=True))):
            assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


def test_the_summary_pairs_the_test_with_the_validation_of_the_same_weights(metadata, tmp_path):
    rows = [{"epoch": 1, "val_macro_auc": 0.9}, {"epoch": 2, "val_macro_auc": 0.8}]
    (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    told = []
    trainer = SimpleNamespace(
        test=lambda: ({"test_macro_auc": 0.7}, None),
        processes=Processes(),
        scored_epoch=2,  # the last, as where model_checkpoint = false
        card={"labels": ["a"]},
        seconds=1.0,
        trackers=[SimpleNamespace(log_summary=told.append, close=lambda: None)],
    )
    run.summarise(trainer, metadata.assign(split="train", seconds=2.0), tmp_path)
    assert [told[0][name] for name in ("best_epoch", "val_macro_auc", "test_macro_auc")] == [2, 0.8, 0.7]


def test_a_run_that_is_stopped_closes_its_trackers(metadata, tmp_path):
    def fit():
        raise Stopped("stopped", 143)

    closed = []
    trackers = [SimpleNamespace(close=lambda: closed.append(True))]
    trainer = SimpleNamespace(fit=fit, trackers=trackers, processes=Processes())
    with pytest.raises(Stopped):
        run.train(PLAIN, trainer, metadata, tmp_path)
    assert closed == [True]


def test_a_run_with_a_checkpoint_goes_on_without_the_file_its_weights_came_from(tmp_path):
    (tmp_path / "config.ini").write_text("[model]\ntype = wav2vec2_tiny\nweights_path = gone.pt\n")
    options = Namespace(resume=tmp_path, overrides=[])
    with pytest.raises(ConfigError, match="no such file"):
        run.load(options)
    (tmp_path / "last.pt").write_text("")
    assert run.load(options).model.weights_path == tmp_path / "gone.pt"
    with pytest.raises(ConfigError, match=r"\[model\] weights_path.*: cannot change in a run that has begun"):
        run.load(Namespace(resume=tmp_path, overrides=["model.weights_path="]))  # it would learn what is frozen


@pytest.mark.parametrize(
    ("settings", "key"),
    [({"trainer": Trainer(early_stop=1)}, "early_stop"), ({"agent": Agent(lr_decay_type="plateau")}, "lr_decay_type")],
)
def test_what_follows_the_validation_part_is_told_that_groups_left_none(metadata, tmp_path, settings, key):
    table = metadata.assign(split="train")
    with pytest.raises(ConfigError, match=rf"{key} = .*: .* no group of recordings .* for it; .*"):
        run.build_trainer(replace(PLAIN, **settings), None, table, tmp_path, torch.device("cpu"), Processes())
