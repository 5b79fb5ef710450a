"""Is a run that ends underfit recognised?"""

import pytest

from training.underfit import underfit


def run(*losses, auc=0.9):
    return underfit([{"train_loss": loss} for loss in losses], {"val_macro_auc": None, "test_macro_auc": auc})


def test_a_loss_that_has_flattened_out_is_no_matter():
    assert run(1.0, 0.5, 0.3, 0.2, 0.15, 0.13, 0.12, 0.115, 0.11, 0.11) is None


@pytest.mark.parametrize(
    ("losses", "auc", "text"),
    [
        ([1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1], 0.9, "still falls steeply, from 0.3 to 0.1 over the last"),
        ([0.1] * 10, 0.9, "has not fallen, from 0.1 to 0.1"),
        ([1.0, 0.5, 0.3, 0.2, 0.1, 0.1, 0.1, 0.1], 0.52, "macro AUC of 0.52 is about chance"),
    ],
)
def test_a_run_that_ends_underfit_is_reported_in_one_line(losses, auc, text):
    line = run(*losses, auc=auc)
    assert line.startswith("this run is underfit: ")
    assert text in line
    assert line.endswith("train for more epochs ([trainer] n_epochs), or raise [agent] lr_warmup_end")


def test_the_slope_of_few_epochs_is_not_judged():
    assert run(1.0, 0.8, 0.6) is None
