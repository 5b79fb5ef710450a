"""Is a run underfit at its end: would it have learned more, or has it learned nothing at all?"""

from collections.abc import Mapping, Sequence

_LAST = 0.2  # share of the epochs at the end of a run
_STEEP = 0.15  # share of the whole fall of the loss; more than this at the end is steep
_CHANCE = 0.55  # a macro AUC below this counts as chance


def underfit(rows: Sequence[Mapping[str, float | None]], scores: Mapping[str, float | None]) -> str | None:
    """A warning of a run that is underfit, in one line; None if it is not.

    Args:
        rows: of the epochs, in order, each with ``train_loss``.
        scores: of the run, ``val_macro_auc`` and ``test_macro_auc`` among them.
    """
    remedy = "train for more epochs ([trainer] n_epochs), or raise [agent] lr_warmup_end"
    known = [value for name, value in scores.items() if name.endswith("macro_auc") and value is not None]
    if known and max(known) < _CHANCE:
        return f"this run is underfit: its macro AUC of {max(known):.2f} is about chance, 0.5; {remedy}"
    losses = [row["train_loss"] for row in rows]
    if len(losses) < 2:
        return None
    fallen, before = losses[0] - losses[-1], losses[-1 - max(1, round(_LAST * len(losses)))]
    if fallen <= 0:
        text = f"its training loss has not fallen, from {losses[0]:.4g} to {losses[-1]:.4g}"
        return f"this run is underfit: {text}; {remedy}"
    if before - losses[-1] > _STEEP * fallen and len(losses) > 1 / _LAST:
        text = f"its training loss still falls steeply, from {before:.4g} to {losses[-1]:.4g} over the last epochs"
        return f"this run is underfit: {text}; {remedy}"
    return None
