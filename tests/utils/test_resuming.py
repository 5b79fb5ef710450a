"""Is a run that was stopped, killed or made longer the same as one that was not?"""

import os
import signal
import threading
import time
import traceback
from dataclasses import replace

import numpy as np
import pytest
import torch
from tqdm import tqdm

from factory.scheduler import SCHEDULES
from tests.utils.small_trainer import assert_same, make, stop_at, weights
from utils.checkpoint import load_checkpoint
from utils.distributed import Processes
from utils.errors import CheckpointError
from utils.interrupt import Stopped
from utils.settings import Agent
from utils.trainer import Trainer


@pytest.fixture(autouse=True)
def few_are_enough(monkeypatch):
    """The subsets below are small."""
    monkeypatch.setattr("utils.trainer.ENOUGH_TO_CHOOSE", 1)


VARIANTS = {
    **{name: {"agent": Agent(lr_decay_type=name, lr_warmup_epochs=1.0, plateau_patience=0)} for name in SCHEDULES},
    "constant": {"agent": Agent(lr_decay=False)},
    "accumulate": {"accumulate": 2},
    "ema": {"ema": 0.9},
    "average_last": {"average_last": 2},
    "radam": {"agent": Agent(optimizer="radam")},
    "bf16": {"amp_on_cpu": True},
    "no validation": {"val": False},
    "frozen when it stops": {"freeze_epochs": 2},
    "no longer frozen": {"freeze_epochs": 1, "agent": Agent(backbone_lr_factor=0.1, lr_warmup_epochs=1.0)},
}


@pytest.mark.filterwarnings("error:Detected call of")  # of torch, on resuming
@pytest.mark.parametrize("where", ["train", "val"])
@pytest.mark.parametrize("name", VARIANTS)
def test_a_run_stopped_in_the_middle_of_an_epoch_ends_equal_to_the_bit(tmp_path, name, where):
    if (name, where) == ("no validation", "val"):
        pytest.skip("there is none")
    make(tmp_path / "whole", **VARIANTS[name]).fit()
    stopped = make(tmp_path / "stopped", **VARIANTS[name])
    stop_at(stopped, 2, {"train": 3, "val": 1}[where], subset=where)
    text = {"train": "stopped at epoch 2, step [23] and", "val": "stopped in the validation of epoch 2 and"}[where]
    with pytest.raises(Stopped, match=f"{text} saved; .*--resume RUN") as caught:
        stopped.fit()
    assert caught.value.exit_code == 143
    assert load_checkpoint(tmp_path / "stopped/last.pt")["progress"]["epoch"] == 2
    make(tmp_path / "stopped", **VARIANTS[name]).fit()
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "stopped"))
    assert (tmp_path / "whole/metrics.csv").read_bytes() == (tmp_path / "stopped/metrics.csv").read_bytes()
    assert_same(
        load_checkpoint(tmp_path / "whole/best.pt")["model"], load_checkpoint(tmp_path / "stopped/best.pt")["model"]
    )


@pytest.mark.parametrize("step", [1, 2])
def test_a_run_stopped_between_two_batches_of_one_update_ends_equal_to_the_bit(tmp_path, step):
    make(tmp_path / "whole", accumulate=3).fit()
    stopped = make(tmp_path / "stopped", accumulate=3)
    stop_at(stopped, epoch=2, step=step)
    with pytest.raises(Stopped):
        stopped.fit()
    make(tmp_path / "stopped", accumulate=3).fit()
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "stopped"))


def test_a_run_killed_at_random_moments_ends_equal_to_the_bit(tmp_path):
    make(tmp_path / "whole").fit()
    rng = np.random.default_rng(7)
    for _ in range(40):
        child = os.fork()
        if child == 0:
            try:
                tqdm.set_lock(threading.RLock())  # its own is shared with us, who would wait for the dead
                trainer = make(tmp_path / "killed", save_every_minutes=1e-9)  # saved after every step
                moment = rng.uniform(0.0, 0.06)
                signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends it at once, also within a C library
                signal.setitimer(signal.ITIMER_REAL, max(moment, 1e-3))
                trainer.fit()
            except BaseException:  # the child must not continue with the tests of its parent
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        rng.uniform()  # another moment next time
        status = os.waitpid(child, 0)[1]
        if not os.WIFSIGNALED(status):
            assert status == 0
            break
    make(tmp_path / "killed").fit()
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "killed"))
    assert (tmp_path / "whole/metrics.csv").read_bytes() == (tmp_path / "killed/metrics.csv").read_bytes()


def test_a_run_stopped_between_two_epochs_continues_as_well(tmp_path):
    make(tmp_path / "whole").fit()
    stopped = make(tmp_path / "stopped")
    save = stopped.save
    stopped.save = lambda best: os.kill(os.getpid(), signal.SIGINT) or save(best=best)
    with pytest.raises(Stopped, match="stopped at epoch 2, step 0 and saved") as caught:
        stopped.fit()
    assert caught.value.exit_code == 130
    make(tmp_path / "stopped").fit()
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "stopped"))


def test_the_time_limit_saves_and_ends_with_exit_code_0(tmp_path):
    trainer = make(tmp_path, max_minutes=1e-6)
    with pytest.raises(Stopped, match=r"stopped at epoch 1, step 1 and saved; resume with: python") as caught:
        trainer.fit()
    assert caught.value.exit_code == 0
    assert load_checkpoint(tmp_path / "last.pt")["progress"]["step"] == 1


@pytest.mark.parametrize(
    ("where", "step", "accumulate", "text"),
    [
        ("train", 1, 1, "at epoch 1, step 1"),
        ("train", 5, 3, "at epoch 1, step 3"),  # two batches of an update are done; they are as if they were not
        ("val", 1, 1, "in the validation of epoch 1"),
    ],
)
def test_a_signal_does_not_wait_for_a_batch_that_never_comes(tmp_path, where, step, accumulate, text):
    make(tmp_path / "whole", accumulate=accumulate).fit()
    stopped = make(tmp_path / "stopped", accumulate=accumulate)
    stop_at(stopped, 1, step, subset=where)
    started = time.monotonic()
    with pytest.raises(Stopped, match=f"stopped {text} and saved") as caught:
        stopped.fit()
    assert caught.value.exit_code == 143
    assert time.monotonic() - started < 15
    make(tmp_path / "stopped", accumulate=accumulate).fit()
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "stopped"))
    assert (tmp_path / "whole/metrics.csv").read_bytes() == (tmp_path / "stopped/metrics.csv").read_bytes()


def test_a_signal_while_the_test_recordings_are_scored_leaves_the_trained_run_as_it_is(tmp_path):
    trainer = make(tmp_path)
    trainer.fit()
    saved = (tmp_path / "last.pt").read_bytes()
    stop_at(trainer, 4, 1, signal.SIGINT, subset="test")
    with pytest.raises(Stopped, match=r"while the test recordings were scored; the trained .* resume") as caught:
        trainer.test()
    assert caught.value.exit_code == 130
    assert (tmp_path / "last.pt").read_bytes() == saved
    again = make(tmp_path)
    assert again.progress.finished
    assert again.test()[0]["test_loss"] > 0


def two_processes(folder, prepare, *, signal_when=None, **settings):
    """Train in two processes; return their exit codes. ``prepare(trainer, rank)`` may change the trainer."""
    folder.mkdir(exist_ok=True)
    store = f"file://{folder}/store-{time.monotonic_ns()}"
    children = [os.fork() or os._exit(_train(folder, store, rank, prepare, settings)) for rank in range(2)]
    if signal_when is not None:
        while not signal_when.exists():
            time.sleep(0.02)
        time.sleep(0.3)  # the other process waits for the one that has no batch
        for child in children:
            os.kill(child, signal.SIGTERM)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def _train(folder, store, rank, prepare, settings):
    try:
        tqdm.set_lock(threading.RLock())
        torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
        trainer = make(folder, processes=Processes(rank, 2), **settings)
        if rank:
            trainer.trackers = []
        prepare(trainer, rank)
        trainer.fit()
    except Stopped as stopped:
        return stopped.exit_code
    except BaseException:  # the child must not continue with the tests of its parent
        traceback.print_exc()
        return 1
    return 0


@pytest.mark.parametrize(("where", "step", "accumulate"), [("train", 3, 1), ("train", 4, 3), ("val", 1, 1)])
def test_processes_stop_together_when_one_has_no_batch_and_continue_to_the_same_end(tmp_path, where, step, accumulate):
    """The others wait for it where no signal reaches them, so it must pass the signal on."""
    stuck = tmp_path / "stuck"

    def wait_in_one(trainer, rank):
        def wait(_, at_step):
            if (trainer.progress.epoch, at_step) == (2, step):
                stuck.touch()
                time.sleep(60)

        if rank:
            getattr(trainer, f"{where}_subset").batches.before_batch = wait

    def change_nothing(*_):
        pass

    assert two_processes(tmp_path / "whole", change_nothing, accumulate=accumulate) == [0, 0]
    started = time.monotonic()
    codes = two_processes(tmp_path / "stopped", wait_in_one, signal_when=stuck, accumulate=accumulate)
    assert codes == [143, 143]
    assert time.monotonic() - started < 30
    assert two_processes(tmp_path / "stopped", change_nothing, accumulate=accumulate) == [0, 0]
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "stopped"))
    assert (tmp_path / "whole/metrics.csv").read_bytes() == (tmp_path / "stopped/metrics.csv").read_bytes()


def test_no_process_leaves_before_the_main_one_has_saved(tmp_path, monkeypatch):
    """Or torchrun, which sees that one has left, ends the others."""
    trainer, done = make(tmp_path), []
    monkeypatch.setattr(trainer, "save", lambda **_: done.append("saved"))
    monkeypatch.setattr(Processes, "wait", lambda self: done.append("waited"))
    trainer.progress.step = 1
    with pytest.raises(Stopped):
        trainer._stop(143)
    assert done == ["saved", "waited"]


def test_a_save_in_the_first_epoch_of_a_mean_holds_trained_weights(tmp_path):
    stopped = make(tmp_path, average_last=2)
    stop_at(stopped, epoch=2, step=3)
    with pytest.raises(Stopped):
        stopped.fit()
    saved = load_checkpoint(tmp_path / "last.pt")
    assert_same(saved["model"], saved["training_model"])


@pytest.mark.parametrize(("longer", "averaged"), [(4, [4]), (5, [4, 5])])
def test_a_run_made_longer_takes_the_mean_of_its_new_last_epochs(tmp_path, longer, averaged):
    make(tmp_path, average_last=2).fit()
    trainer = make(tmp_path, average_last=2, n_epochs=longer)
    seen, original = {}, trainer.average.after_epoch

    def note(epoch):
        seen[epoch] = trainer.model[1].weight.detach().clone()
        original(epoch)

    trainer.average.after_epoch = note
    trainer.fit()
    kept = load_checkpoint(tmp_path / "last.pt")["model"]["1.weight"]
    torch.testing.assert_close(kept, sum(seen[epoch] for epoch in averaged) / len(averaged))


def test_a_run_made_longer_scores_its_own_weights_until_its_new_last_epochs(tmp_path):
    make(tmp_path, average_last=2).fit()
    trainer = make(tmp_path, average_last=2, n_epochs=6)
    assert [trainer.average.scored(epoch) is trainer.model for epoch in (4, 5)] == [True, False]


def test_a_finished_run_continues_when_it_is_made_longer(tmp_path):
    make(tmp_path).fit()
    settings = replace(make(tmp_path).settings, n_epochs=4)
    trainer = make(tmp_path, n_epochs=settings.n_epochs)
    assert not trainer.progress.finished


def test_a_table_with_other_classes_is_refused_on_resuming(tmp_path):
    make(tmp_path).fit()
    trainer = make(tmp_path)
    trainer.card["labels"] = ["a", "b", "d"]
    with pytest.raises(CheckpointError, match="c, d; restore the table"):
        trainer.resume()


def test_it_saves_as_often_as_save_every_minutes_says(tmp_path, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr("utils.trainer.time.monotonic", lambda: clock[0])
    trainer = make(tmp_path, save_every_minutes=2.0, n_epochs=1)
    saved = []
    trainer.save = lambda *, best: saved.append(trainer.progress.step) or Trainer.save(trainer, best=best)
    trainer.train_subset.batches.before_batch = lambda *_: clock.__setitem__(0, clock[0] + 61)
    trainer.fit()
    assert saved == [1, 3, 5, 0]  # each two minutes, and at the end of the epoch
    assert load_checkpoint(tmp_path / "last.pt")["progress"]["seconds"] == 6 * 61


def test_a_run_continues_on_a_device_that_scales_its_losses_and_back(tmp_path, monkeypatch):
    """As where a GPU has no bf16 and the machine before had: only fp16 needs a scaler."""
    with pytest.raises(Stopped):
        make(tmp_path, max_minutes=1e-6).fit()
    monkeypatch.setattr("utils.trainer.amp_type", lambda device, settings: torch.float16)
    with pytest.raises(Stopped):
        make(tmp_path, max_minutes=1e-6).fit()
    scaler = load_checkpoint(tmp_path / "last.pt")["scaler"]
    assert scaler["scale"] > 1
    assert make(tmp_path)._scaler.state_dict() == scaler
    monkeypatch.undo()
    make(tmp_path).fit()
    assert load_checkpoint(tmp_path / "last.pt")["epoch"] == 3
