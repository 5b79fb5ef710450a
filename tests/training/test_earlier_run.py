"""Do recordings that an earlier run trained on stay out of what is held out?"""

from dataclasses import replace

import pytest

from training.recordings import split_recordings
from utils.errors import ConfigError
from utils.settings import Config, Data, DataProcess, Model

PLAIN = Config(data_process=DataProcess(n_mels=8, max_length_s=1.0))


@pytest.fixture
def earlier(metadata, tmp_path):
    """A run on the first 20 recordings, and its split by digest."""
    folder = tmp_path / "earlier"
    folder.mkdir()
    made = split_recordings(PLAIN, metadata.drop(columns="split").head(20), folder)
    (folder / "best.pt").touch()
    return folder, dict(zip(made["digest"], made["split"], strict=True))


def start_from(folder, **data):
    return replace(PLAIN, model=Model(weights_path=folder / "best.pt"), data=Data(**data))


def new_run(config, table, tmp_path, name="new"):
    (tmp_path / name).mkdir()
    return split_recordings(config, table, tmp_path / name)


def test_known_recordings_keep_their_side_and_new_ones_are_dealt_out(metadata, tmp_path, earlier, caplog):
    folder, before = earlier
    renamed = metadata.drop(columns="split").assign(filename=[f"moved/{name}" for name in metadata["filename"]])
    with caplog.at_level("INFO"):
        now = new_run(start_from(folder), renamed, tmp_path)
    after = dict(zip(now["digest"], now["split"], strict=True))
    assert {digest: after[digest] for digest in before} == before
    assert {after[digest] for digest in after.keys() - before.keys()} == {"train", "val", "test"}
    trained = sum(split == "train" for split in before.values())
    assert f"trained on {trained} of these recordings, which train again; {20 - trained} keep" in caplog.text


def test_a_new_recording_stays_with_its_group(metadata, tmp_path, earlier):
    folder, before = earlier
    trained = metadata["digest"].map(before) == "train"
    table = metadata.drop(columns="split")
    table["group"] = table["group"].where(table.index < 20, table["group"][trained].iloc[0])
    now = new_run(start_from(folder), table, tmp_path)
    assert set(now["split"][now.index >= 20]) == {"train"}


def test_folds_and_a_test_set_of_nothing_are_refused_with_the_count(metadata, tmp_path, earlier):
    folder, before = earlier
    table = metadata.drop(columns="split")
    with pytest.raises(ConfigError, match=r"folds = '3': \d+ recordings of the folds trained the run of weights_path"):
        new_run(start_from(folder, folds=3), table, tmp_path, "folds")
    trained = table[table["digest"].map(before) == "train"]
    with pytest.raises(
        ConfigError, match=rf"trained on {len(trained)} recordings of the {len(trained)} here, and none"
    ):
        new_run(start_from(folder), trained.reset_index(drop=True), tmp_path, "nothing")


def test_weights_of_another_place_change_nothing(metadata, tmp_path):
    table = metadata.drop(columns="split")
    plain = new_run(PLAIN, table, tmp_path, "plain")
    (tmp_path / "elsewhere").mkdir()
    other = new_run(start_from(tmp_path / "elsewhere"), table, tmp_path, "other")
    assert plain["split"].tolist() == other["split"].tolist()
