"""Are so many training recordings of each class kept, others with another seed, and nothing else touched?"""

import pandas as pd

from dataloader.tables.few import keep_few


def table():
    rows = [(f"a/{n}.ogg", ("a",), "train") for n in range(6)] + [(f"b/{n}.ogg", ("b", "a"), "train") for n in range(3)]
    rows += [("c/0.ogg", ("c",), "train"), ("d/0.ogg", (), "train")] + [
        (f"a/t{n}.ogg", ("a",), "test") for n in range(4)
    ]
    return pd.DataFrame(rows, columns=["filename", "labels", "split"])


def test_each_class_has_this_many_and_the_test_split_does_not_change():
    kept = keep_few(table(), 2, seed=1)
    train = kept[kept["split"] == "train"]
    assert (kept["split"] == "test").sum() == 4
    assert 2 <= sum("b" in names for names in train["labels"]) <= 3  # one may be drawn as a recording of a
    assert sum("c" in names for names in train["labels"]) == 1
    assert sum(names == () for names in train["labels"]) == 1


def test_the_seed_decides_and_0_keeps_all():
    draws = {tuple(keep_few(table(), 2, seed=seed)["filename"]) for seed in range(8)}
    assert len(draws) > 3
    shuffled = table().sample(frac=1.0, random_state=3)
    assert set(keep_few(table(), 2, 1)["filename"]) == set(keep_few(shuffled, 2, 1)["filename"])
    assert keep_few(table(), 0, 1).equals(table())
