"""The training loop: train, validate, keep the best epoch, and resume where a run was stopped.

It receives objects and two sections of the config, never all of the config. The random numbers of a step depend only
on the run's seed and the step key, so a run that is resumed at (epoch, step) does what it would have done without a
stop.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from utils.averaging import Average
from utils.batch_errors import explained
from utils.checkpoint import Checkpoints, load_checkpoint
from utils.distributed import Processes
from utils.errors import CheckpointError, UserError
from utils.interrupt import Interrupt, Stopped
from utils.metrics import is_mostly_padding, mean_by_recording, scores, window_scores
from utils.settings import Callbacks, TrainerSettings
from utils.tracker import Tracker
from utils.utils import amp_type, seed_everything, seed_for

log = logging.getLogger(__name__)

ENOUGH_TO_CHOOSE = 20  # validation recordings; with fewer, the epoch with the best score is a matter of chance


class LearningRate(Protocol):
    """The learning rate over a run."""

    rate: float

    def after_step(self) -> None: ...
    def after_epoch(self, val_loss: float | None) -> None: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Freezable(Protocol):
    """What can be frozen of a model: everything but its head."""

    def freeze(self, frozen: bool) -> bool: ...


class Criterion(Protocol):
    """The score that decides which epoch is best."""

    name: str

    def better(self, new: float | None, best: float | None) -> bool: ...


@dataclass(frozen=True, kw_only=True)
class Subset:
    """The training, validation or test subset, as the loop uses it.

    Attributes:
        batches: of windows: each has ``windows``, ``targets``, ``recording`` and ``to``.
        order: decides the rows of each batch: ``go_to(epoch, first_batch)``, and ``len``.
        filenames: of the recordings, by row.
        targets: ``(recordings, classes)``.
        timed: ``(recordings,)``, whether the labels of a recording have times, so that its windows are scored too.
        by_window: where ``batches`` pool the windows of a recording: those of the timed recordings, one by one.
    """

    batches: Iterable[Any]
    order: Any
    filenames: Sequence[str]
    targets: np.ndarray
    timed: np.ndarray | None = None
    by_window: "Subset | None" = None


@dataclass
class Progress:
    """How far a run has come. Resuming needs only this, the weights and the optimizer's state."""

    epoch: int = 1  # the current epoch
    step: int = 0  # batches of the epoch that are done
    loss_sum: float = 0.0  # the sum of their losses in this process
    trained: bool = False  # the last step of the epoch is done and its weights are averaged; only validation is missing
    best: float | None = None  # the best score so far
    best_epoch: int | None = None
    stale_epochs: int = 0  # epochs since the best
    seconds: float = 0.0  # spent on the run, over all its starts
    finished: bool = False


class Trainer:
    """Trains a model.

    Args:
        transform: makes a batch the model's input and its targets: ``transform(batch, step_key)``; ``step_key`` is
            (epoch, step, rank) in training, where both may be changed, and None otherwise.
        train, val, test: the subsets; ``val`` and ``test`` may be None.
        backbone: it is frozen in the first ``freeze_epochs``; None: the model has none.
        card: what a checkpoint holds beside the weights (labels, settings of the spectrogram ...).
        resume_command: the command in the message of a run that is stopped.
    """

    def __init__(
        self,
        settings: TrainerSettings,
        *,
        model: nn.Module,
        loss: nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: LearningRate,
        transform: Callable[..., tuple[Tensor, Tensor]],
        train: Subset,
        val: Subset | None,
        test: Subset | None,
        metric: Criterion,
        checkpoints: Checkpoints,
        card: dict[str, Any],
        device: torch.device,
        processes: Processes = Processes(),  # noqa: B008 - frozen
        callbacks: Callbacks = Callbacks(),  # noqa: B008 - frozen
        backbone: Freezable | None = None,
        freeze_epochs: int = 0,
        lr_verbose: bool = False,
        resume_command: str = "",
    ):
        self.settings, self.device, self.processes = settings, device, processes
        self.model, self.loss, self.optimizer, self.schedule = model, loss, optimizer, schedule
        self.transform, self.train_subset, self.val_subset, self.test_subset = transform, train, val, test
        self.metric, self.checkpoints, self.card = metric, checkpoints, card
        self.trackers: Sequence[Tracker] = ()  # of the main process; set after resume(): they begin with its epoch
        self.callbacks, self.lr_verbose, self.resume_command = callbacks, lr_verbose, resume_command
        self._backbone, self._freeze_epochs = backbone, freeze_epochs
        self.progress = Progress()
        self.average = Average(model, ema=settings.ema, last=settings.average_last, n_epochs=settings.n_epochs)
        # A GPU without bf16 computes in fp16, whose small gradients would vanish unless scaled up.
        self._amp_type = amp_type(device, settings)
        self._scaler = torch.amp.GradScaler(device.type, enabled=self._amp_type is torch.float16)
        self._stepped = self._wrap(model)
        self._started = self._saved = time.monotonic()
        self._interrupt = Interrupt()
        self._has_updated = False  # since this start
        self._before_update: tuple[int, float, list[Tensor]] | None = None

    def _wrap(self, model: nn.Module) -> nn.Module:
        """The model as training calls it; it shares its weights with ``self.model``."""
        if self.settings.compile:
            model = torch.compile(model)
        if self.processes.world > 1:
            model = DistributedDataParallel(
                model, device_ids=None if self.device.type == "cpu" else [self.device.index]
            )
        return model

    def fit(self) -> None:
        """Train until the last epoch.

        Raises:
            Stopped: a signal or the time limit; the state is saved.
            UserError: the loss is not finite, or memory is short.
        """
        with Interrupt(self.settings.max_minutes) as self._interrupt:
            while not self.progress.finished:
                clock = time.monotonic()
                n_windows = 0 if self.progress.trained else self._train_epoch()
                trained = time.monotonic() - clock
                train_loss = self.processes.gather(self.progress.loss_sum / self.progress.step)
                row = {"epoch": self.progress.epoch, "lr": self.schedule.rate, "train_loss": float(np.mean(train_loss))}
                row |= self.evaluate(self.val_subset, "val_")
                self._finish_epoch(row, n_windows, trained)
                _, code = self._requests()
                if code is not None and not self.progress.finished:
                    self._stop(code)

    def _train_epoch(self) -> int:
        """Train the rest of the current epoch; return the number of its windows, over all processes."""
        progress, settings, n_windows = self.progress, self.settings, 0
        self.model.train()
        if self._backbone is not None and self._backbone.freeze(progress.epoch <= self._freeze_epochs):
            self._stepped = self._wrap(self.model)  # several processes must agree on what has a gradient
        self.train_subset.order.go_to(progress.epoch, progress.step)
        n_batches = len(self.train_subset.order)
        with self._bar(n_batches, f"epoch {progress.epoch}/{settings.n_epochs}", progress.step) as bar:
            for batch in self._training_batches(n_batches):
                first = progress.step // settings.accumulate * settings.accumulate
                n_together = min(settings.accumulate, n_batches - first)  # the last of an epoch may be fewer
                updates = progress.step + 1 == first + n_together
                if progress.step == first and n_together > 1:
                    buffers = [buffer.clone() for buffer in self.model.buffers()]
                    self._before_update = progress.step, progress.loss_sum, buffers
                loss = self._step(batch, n_together, updates)
                progress.step += 1
                progress.loss_sum += loss
                if updates:
                    self._has_updated, self._before_update = True, None
                n_windows += len(batch.windows) * self.processes.world
                bar.set_postfix_str(f"loss {progress.loss_sum / progress.step:.4f}", refresh=False)
                bar.update()
        self.average.after_epoch(progress.epoch)
        progress.trained = True
        return n_windows

    def _training_batches(self, n_batches: int) -> Iterator[Any]:
        """The batches that are left of the epoch. Before each batch the processes agree whether to stop or to save.

        No process waits for another whose batch does not come: a signal ends that wait, and then all stop together.
        """
        batches = iter(self.train_subset.batches)
        for _ in range(self.progress.step, n_batches):
            batch = self._interrupt.wait_for(lambda: next(batches))
            self._save_or_stop()
            yield batch

    def _step(self, batch: Any, n_together: int, updates: bool) -> float:
        """Forward, backward and, if it ``updates``, a step of the optimizer; return the loss.

        Args:
            n_together: batches whose gradients make that step, this one among them.
        """
        progress = self.progress
        step_key = (progress.epoch, progress.step, self.processes.rank)
        seed_everything(seed_for(self.settings.seed, "step", *step_key))  # dropout and its like
        travel = updates or self.processes.world == 1  # gradients are sent only when they are used
        with explained(batch, self.device), contextlib.nullcontext() if travel else self._stepped.no_sync():
            batch = batch.to(self.device)
            with self._autocast():
                images, targets = self.transform(batch, step_key)
                loss = self.loss(self._stepped(images), targets)
            self._scaler.scale(loss / n_together).backward()
        if updates:
            with explained(batch, self.device):
                return self._update(batch, loss.detach())
        if not np.isfinite(value := loss.item()):
            self._not_finite(batch, "loss")
        return value

    def _update(self, batch: Any, loss: Tensor) -> float:
        """Do a step of the optimizer, unless it would damage the weights; return the loss."""
        self._scaler.unscale_(self.optimizer)
        limit = self.settings.grad_clip or float("inf")
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), limit, foreach=True)
        loss, norm = torch.stack([loss.float(), norm.float()]).tolist()  # both at once: a GPU is waited for here
        if not np.isfinite(loss):
            self._not_finite(batch, "loss")
        if not np.isfinite(norm) and not self._scaler.is_enabled():  # a scaler tries again with a smaller factor
            self._not_finite(batch, "gradient")
        self._scaler.step(self.optimizer)
        self._scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.schedule.after_step()
        self.average.after_step()
        return loss

    def evaluate(self, subset: Subset | None, prefix: str) -> dict[str, float | None]:
        """Score a subset: its loss over windows, and the metrics of its recordings."""
        return self._evaluate(subset, prefix)[0]

    @torch.no_grad()
    def _evaluate(self, subset: Subset | None, prefix: str) -> tuple[dict[str, float | None], np.ndarray | None]:
        """The metrics of a subset, and the scores they measure, ``(recordings, classes)``; None without recordings.

        The score of a recording is the mean over its windows of the sigmoid of the logits.
        """
        if subset is None:
            return {f"{prefix}{name}": None for name in ("loss", "macro_auc", "top1", "cmap")}, None
        logits, targets, recordings = self._all_outputs(subset)
        loss = self.loss(logits, targets).item()  # of all at once: losses differ in which windows count
        windows, recordings = logits.sigmoid().numpy(), recordings.numpy()
        if not np.isfinite(windows).all():
            worst = subset.filenames[recordings[~np.isfinite(windows).all(axis=1)][0]]
            raise UserError(f"a score of {worst} is not finite; lower [agent] lr_warmup_end")
        by_recording = mean_by_recording(windows, recordings, len(subset.targets))
        metrics = {f"{prefix}loss": loss} | scores(subset.targets, by_recording, prefix)
        if prefix == "test_" and subset.timed is not None and subset.timed.any():
            if subset.by_window is not None:
                logits, targets, recordings = self._all_outputs(subset.by_window)
                windows, recordings = logits.sigmoid().numpy(), recordings.numpy()
            of_timed = subset.timed[recordings]
            metrics |= window_scores(targets.numpy()[of_timed], windows[of_timed], prefix)
        return metrics, by_recording

    def _all_outputs(self, subset: Subset) -> tuple[Tensor, Tensor, Tensor]:
        """Logits and targets, ``(examples, classes)``, and the recording of each, over all processes, on the CPU."""
        model = self.average.scored(self.progress.epoch)
        self.processes.share_buffers(model)
        model.eval()
        blocks = self.processes.gather(self._own_outputs(model, subset))
        if None in blocks:
            self._stop(self._requests()[1])
        logits, targets, recordings = map(torch.cat, zip(*filter(None, blocks), strict=True))
        return logits, targets, recordings

    def _own_outputs(self, model: nn.Module, subset: Subset) -> tuple[Tensor, ...] | None:
        """Logits, targets and recordings of this process's share of a subset; None if a signal came meanwhile.

        The tuple is empty where the process has no batch.
        """
        subset.order.go_to(0)
        seen: list[tuple[Tensor, Tensor, Tensor]] = []
        batches, end = iter(subset.batches), object()
        while (batch := self._interrupt.wait_for(lambda: next(batches, end))) is not end:
            if batch is None:
                return None
            with explained(batch, self.device), self._autocast(scoring=True):
                batch = batch.to(self.device)
                images, targets = self.transform(batch)
                seen.append((model(images).float(), targets, batch.recording))
        return tuple(torch.cat(values).cpu() for values in zip(*seen, strict=True))

    def test(self) -> tuple[dict[str, float | None], np.ndarray | None]:
        """Score the test subset with the checkpoint that is kept for prediction.

        Returns:
            Its metrics, and the scores of its recordings, ``(recordings, classes)``; None without any.

        Raises:
            Stopped: a signal came meanwhile.
        """
        self.processes.wait()
        state = load_checkpoint(self.checkpoints.scored)
        self.model.load_state_dict(state["model"])
        self.average.use(self.model)
        with Interrupt() as self._interrupt:
            return self._evaluate(self.test_subset, "test_")

    @property
    def scored_epoch(self) -> int | None:
        """The epoch whose weights are kept for prediction: the best, or the last where the best is not kept."""
        return self.progress.best_epoch if self.callbacks.model_checkpoint else self.progress.epoch - 1

    def _finish_epoch(self, row: dict[str, Any], n_windows: int, trained: float) -> None:
        """Report an epoch, move on to the next, and save."""
        progress, settings = self.progress, self.settings
        self.schedule.after_epoch(row["val_loss"])
        score = row.get(self.metric.name)
        unscored = score is None and progress.best is None  # no class of the validation set has both sides, so far
        better = self.metric.better(score, progress.best) or not progress.best_epoch
        best = not self._chooses_best or unscored or better
        if progress.epoch == 1 and self.val_subset is not None and not self._chooses_best:
            log.info(
                "the last epoch counts as the best: %d validation recordings are too few to choose an epoch (%d are "
                "enough); the best of many epochs would be chance", len(self.val_subset.filenames), ENOUGH_TO_CHOOSE,
            )  # fmt: skip
        if unscored and self.val_subset is not None and progress.epoch == 1:
            log.warning(
                "the validation recordings give no %s: no class is in some of them and not in others; the last epoch "
                "counts as the best, and early_stop has no effect", self.metric.name,
            )  # fmt: skip
        if best:
            progress.best, progress.best_epoch, progress.stale_epochs = score, progress.epoch, 0
        else:
            progress.stale_epochs += 1
        speed = n_windows / trained if n_windows else None  # None: it was trained before this start
        self._report(row, best, speed)
        progress.epoch, progress.step, progress.loss_sum, progress.trained = progress.epoch + 1, 0, 0.0, False
        if self._is_stale:
            log.info("no better %s for %d epochs: stopping early", self.metric.name, progress.stale_epochs)
        progress.finished = progress.epoch > settings.n_epochs or self._is_stale
        if self.processes.is_main:
            # The row goes first: a run that dies between the two makes the epoch, and its row, again.
            clock = {"seconds": round(trained, 3), "windows_per_second": speed and round(speed, 1)}
            for tracker in self.trackers:
                tracker.log_epoch(row | clock)
        self.save(best=best)

    @property
    def _chooses_best(self) -> bool:
        """Whether a validation score decides which epoch is best; else it is the last."""
        return self.val_subset is not None and len(self.val_subset.filenames) >= ENOUGH_TO_CHOOSE

    @property
    def _is_stale(self) -> bool:
        return 0 < self.settings.early_stop <= self.progress.stale_epochs

    def _report(self, row: dict[str, Any], best: bool, speed: float | None) -> None:
        hidden = {"epoch", "lr"}
        targets = np.empty((0, 0)) if self.val_subset is None else np.asarray(self.val_subset.targets)
        if is_mostly_padding((targets > 0.5).sum(axis=0)):
            hidden.add("val_cmap")
        values = ", ".join(
            f"{name} {value:.4f}" for name, value in row.items() if name not in hidden and value is not None
        )
        rate = f", lr {row['lr']:.3g}" if self.lr_verbose else ""
        per_second = f", {speed:.0f} windows/s" if speed else ""
        log.info("epoch %d/%d: %s%s%s", row["epoch"], self.settings.n_epochs, values, rate, per_second)
        if best and self._chooses_best and self.callbacks.model_checkpoint and self.callbacks.model_checkpoint_verbose:
            log.info(
                "epoch %d is the best so far: %s %s", row["epoch"], self.metric.name, _short(row.get(self.metric.name))
            )

    def save(self, *, best: bool) -> None:
        """Save all that resuming needs; all processes call this together."""
        self._saved = time.monotonic()
        loss_sums = self.processes.gather(self.progress.loss_sum)
        if not self.processes.is_main:
            return
        progress = asdict(self.progress)
        progress["seconds"] += time.monotonic() - self._started
        state = {
            **self.card,
            # Between epochs the one just done is the one that was scored.
            **self.average.state_dict(self.progress.epoch - (self.progress.step == 0)),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.schedule.state_dict(),
            "scaler": self._scaler.state_dict(),
            "epoch": self.progress.epoch - 1,  # done
            "progress": progress,
            "loss_sums": loss_sums,  # by rank
        }
        self.checkpoints.save(state, best=best)

    def resume(self) -> None:
        """Take over the state of the newest complete checkpoint.

        Raises:
            CheckpointError: no checkpoint is complete, or its classes differ from those of the data now.
        """
        # Onto the CPU: each optimizer knows which of its values belong on the device, and which must not be there.
        state = self.checkpoints.load_last(torch.device("cpu"))
        if other := set(state["labels"]) ^ set(self.card["labels"]):
            raise CheckpointError(
                f"{self.checkpoints.last}: the classes of the run and of its table differ: {', '.join(sorted(other))}; "
                "restore the table, or start a new run"
            )
        self.average.load_state_dict(state)
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["scheduler"])
        if state["scaler"]:  # empty where the run was on a device that needs none
            self._scaler.load_state_dict(state["scaler"])
        self.progress = Progress(**state["progress"])
        if len(sums := state.get("loss_sums", [])) == self.processes.world:
            self.progress.loss_sum = sums[self.processes.rank]
        self.progress.finished = self.progress.epoch > self.settings.n_epochs or self._is_stale
        log.info("continuing at epoch %d, step %d", self.progress.epoch, self.progress.step)

    @property
    def seconds(self) -> float:
        """Spent on the run so far, over all its starts."""
        return self.progress.seconds + time.monotonic() - self._started

    def _save_or_stop(self) -> None:
        """Before a step: obey a signal at once and the time limit between two updates, and save now and then.

        The time limit allows at least one update a start, so that a run gets on however short the limit is.
        """
        due, code = self._requests()
        between = self.progress.step % self.settings.accumulate == 0
        if code or (code == 0 and between and self._has_updated):
            self._stop(code)
        if due and between and self.progress.step:
            self.save(best=False)

    def _requests(self) -> tuple[bool, int | None]:
        """Whether a save is due, and the exit code of a request to stop; the same in all processes."""
        minutes, code = self.settings.save_every_minutes, self._interrupt.exit_code
        due = bool(minutes) and time.monotonic() - self._saved > 60 * minutes
        due, code = self.processes.largest(due, -1 if code is None else code)
        return bool(due), None if code < 0 else int(code)

    def _stop(self, code: int) -> None:
        """Save and leave.

        Raises:
            Stopped: always.
        """
        progress = self.progress
        if self._before_update is not None:  # some batches of an update are done; it is as if they were not
            progress.step, progress.loss_sum, buffers = self._before_update
            for buffer, before in zip(self.model.buffers(), buffers, strict=True):
                buffer.copy_(before)
        if progress.step and not progress.finished:
            self.save(best=False)
        self.processes.wait()  # torchrun ends all processes when one has ended, so all wait for the save
        where = f"at epoch {progress.epoch}, step {progress.step} and saved"
        if progress.trained:
            where = f"in the validation of epoch {progress.epoch} and saved"
        if progress.finished:
            where = "while the test recordings were scored; the trained model is saved"
        text = f"stopped {where}; resume with: {self.resume_command}"
        raise Stopped(text if self.processes.is_main else "", code)

    def _not_finite(self, batch: Any, what: str) -> None:
        rows = dict.fromkeys(batch.recording.tolist())
        names = ", ".join(self.train_subset.filenames[row] for row in rows)
        raise UserError(
            f"epoch {self.progress.epoch}, step {self.progress.step + 1}: the {what} is not finite; the weights are as "
            f"before this step. Lower [agent] lr_warmup_end or [trainer] grad_clip, or check its recordings: {names}"
        )

    def _autocast(self, *, scoring: bool = False) -> contextlib.AbstractContextManager:
        # Scores are computed in float32, as predict.py does, and agree with it to the last digits.
        enabled = self._amp_type is not None and not scoring
        return torch.autocast(self.device.type, dtype=self._amp_type, enabled=enabled)

    def _bar(self, total: int, text: str, done: int) -> tqdm:
        """A progress bar if there is a terminal; the log has a line for each epoch in any case."""
        hidden = None if self.processes.is_main else True
        return tqdm(total=total, initial=done, desc=text, unit="batch", leave=False, disable=hidden, dynamic_ncols=True)


def _short(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"
