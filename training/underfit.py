"""Does a run end underfit: would it have gone on learning, or has it learned nothing at all?"""

from collections.abc import Mapping, Sequence

_LAST = 0.2  # share of the epochs at the end of a run
_STEEP = 0.15  # share of all that the loss has fallen, that is steep for the end
_CHANCE = 0.55  # of a macro AUC


def underfit(rows: Sequence[Mapping[str, float | None]], scores: Mapping[str, float | None]) -> str | None:
    """What a person should know of a run that ends underfit, in one line; None where nothing is.

    Args:
        rows: of the epochs, in order, each with ``train_loss``.
        scores: of the run, ``val_macro_auc`` and ``test_macro_auc`` among them.
    """
    mend = "train for more epochs ([trainer] n_epochs), or raise [agent] lr_warmup_end"
    known = [value for name, value in scores.items() if name.endswith("macro_auc") and value is not None]
    if known and max(known) < _CHANCE:
        return f"this run ends underfit: its macro AUC of {max(known):.2f} is that of chance, 0.5; {mend}"
    losses = [row["train_loss"] for row in rows]
    if len(losses) < 2:
        return None
    fallen, before = losses[0] - losses[-1], losses[-1 - max(1, round(_LAST * len(losses)))]
    if fallen <= 0:
        text = f"its training loss has not fallen, from {losses[0]:.4g} to {losses[-1]:.4g}"
        return f"this run ends underfit: {text}; {mend}"
    if before - losses[-1] > _STEEP * fallen and len(losses) > 1 / _LAST:
        text = f"its training loss still falls steeply, from {before:.4g} to {losses[-1]:.4g} over the last epochs"
        return f"this run ends underfit: {text}; {mend}"
    return None
