"""Does the split of a run stay what it was, and is a line printed about what no longer fits it?"""

from dataclasses import replace

import pytest

from dataloader.tables.schema import Annotation
from training.recordings import split_recordings
from utils.errors import DataError
from utils.settings import Agent, Config, Data, DataProcess, Labels, TrainerSettings

PLAIN = Config(data_process=DataProcess(n_mels=8, max_length_s=1.0))


def test_the_loudest_leave_the_training_part_and_the_split_for_good(metadata, tmp_path):
    config = replace(PLAIN, data=Data(keep_quietest=0.5))
    folder = tmp_path / "run"
    folder.mkdir()
    first = split_recordings(config, metadata.drop(columns="split"), folder)
    whole = split_recordings(PLAIN, metadata.drop(columns="split"), tmp_path)
    for split in ("val", "test"):
        assert set(first[first["split"] == split]["filename"]) == set(whole[whole["split"] == split]["filename"])
    left = whole[whole["split"] == "train"].groupby("primary_label").size()
    assert len(first[first["split"] == "train"]) == pytest.approx(left.sum() / 2, abs=1)
    again = split_recordings(config, metadata.drop(columns="split"), folder)  # of a resumed run: the table decides
    assert again["filename"].tolist() == first["filename"].tolist()


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ("a/0.ogg,a,", "a/0.ogg,OLD,", "1 recording has another label .* a/0.ogg, 'OLD' in this run and 'a' there"),
        (",train\n", ",Train\n", "damaged: a split 'Train'"),
        ("a/0.ogg", "a/gone.ogg", "1 recording of this run is missing or bad now, the first is a/gone.ogg"),
    ],
)
def test_a_resumed_run_is_refused_where_its_split_no_longer_fits(metadata, tmp_path, before, after, why):
    table = metadata.drop(columns="split")
    split_recordings(PLAIN, table, tmp_path)
    path = tmp_path / "split.csv"
    path.write_text(path.read_text().replace(before, after, 1))
    with pytest.raises(DataError, match=why):
        split_recordings(PLAIN, table, tmp_path)


def test_a_resumed_run_wants_the_recordings_that_it_began_with(metadata, tmp_path):
    table = metadata.drop(columns="split")
    split_recordings(PLAIN, table, tmp_path)
    split_recordings(PLAIN, table, tmp_path)
    others = table.assign(digest=table["digest"].where(table["filename"] != "b/18.ogg", "f" * 32))
    with pytest.raises(
        DataError, match=r"content\.csv: 1 recording differs from what this run began with, the first is b/18.ogg"
    ):
        split_recordings(PLAIN, others, tmp_path)
    (tmp_path / "content.csv").unlink()  # as of a run of before
    split_recordings(PLAIN, others, tmp_path)


def annotated(metadata, times=(1.0, 2.0), label="a", **columns):
    """The recordings, the first of which has one annotation."""
    found = [(Annotation(*times, label, 500.0),), *[None] * (len(metadata) - 1)]
    return metadata.assign(annotations=found, unannotated="absent", **columns)


@pytest.mark.parametrize(
    "changed",
    [
        {"times": (1.0, 2.5)},
        {"label": "b"},
        {"unannotated": "unknown"},
        {"known_for": [("a",), *[None] * 29]},
        {"secondary_labels": [("z",), *[()] * 29]},
    ],
)
def test_a_resumed_run_wants_the_annotations_that_it_began_with(metadata, tmp_path, changed):
    table = metadata.drop(columns="split").assign(secondary_labels=[()] * 30)
    split_recordings(PLAIN, annotated(table), tmp_path)
    split_recordings(PLAIN, annotated(table), tmp_path)
    other = annotated(table, **{name: changed[name] for name in changed if name in ("times", "label")})
    other = other.assign(**{name: changed[name] for name in changed if name not in ("times", "label")})
    expected = (
        r"content\.csv: 1 recording has other annotations, .* from what this run began with, the first is a/0\.ogg"
    )
    if "unannotated" in changed:
        other["unannotated"] = ["unknown", *["absent"] * 29]
    with pytest.raises(DataError, match=expected):
        split_recordings(PLAIN, other, tmp_path)
    path = tmp_path / "content.csv"
    path.write_text("\n".join(line.rpartition(",")[0] for line in path.read_text().splitlines()))  # an older run
    split_recordings(PLAIN, other, tmp_path)


@pytest.mark.parametrize("content", ["", "filename;label;group;split\n", "\0"])
def test_a_split_that_is_no_table_is_reported(metadata, tmp_path, content):
    (tmp_path / "split.csv").write_text(content)
    with pytest.raises(DataError, match=r"split\.csv: damaged: not a table of filename, label, split; correct it or"):
        split_recordings(PLAIN, metadata.drop(columns="split"), tmp_path)


@pytest.mark.parametrize(("secondary", "names", "warned"), [
    ("mask", ("Parus major",), True), ("ignore", ("Parus major",), False), ("mask", ("a", "Parus major"), False),
    ("mask", (), False),
])  # fmt: skip
def test_species_in_the_background_that_are_no_class_are_reported(metadata, tmp_path, caplog, secondary, names, warned):
    table = metadata.drop(columns="split").assign(secondary_labels=[names] * len(metadata))
    split_recordings(replace(PLAIN, labels=Labels(secondary=secondary)), table, tmp_path)
    assert ("secondary = mask has no effect" in caplog.text) == warned


@pytest.mark.parametrize(("loss", "warned"), [("cross_entropy", True), ("bce", False)])
def test_recordings_without_a_bird_that_teach_nothing_are_reported(metadata, tmp_path, caplog, loss, warned):
    config = replace(PLAIN, agent=Agent(loss=loss), data=Data(train_ratio=1.0))
    table = metadata.drop(columns="split").assign(labels=[(), (), *metadata["labels"][2:]])
    split_recordings(config, table, tmp_path)
    assert ("learns nothing from 2 recordings without a bird" in caplog.text) == warned


def test_a_fold_is_the_test_set_whatever_the_seed_and_the_others_train(metadata, tmp_path):
    def splits(fold, seed=1):
        folder = tmp_path / f"{fold}-{seed}"
        folder.mkdir()
        config = replace(PLAIN, data=Data(folds=3, fold=fold), trainer=TrainerSettings(seed=seed))
        return split_recordings(config, metadata.drop(columns="split"), folder).set_index("filename")["split"]

    first, second, third = (splits(fold) for fold in (1, 2, 3))
    assert set(first) == {"train", "test"}
    assert ((first == "test").astype(int) + (second == "test") + (third == "test") == 1).all()
    assert splits(1, seed=2).equals(first)
