"""Are embeddings made once, of the right windows, and made again only when something changed?"""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from dataloader.batches.windows import window_starts
from dataloader.cache.entries import Record, cache_key, check_entry, read_index
from dataloader.data_preprocess import AudioPreprocessor, stage_of
from dataloader.encoders import embed
from dataloader.encoders.embed import Embeddings, windows_of
from dataloader.encoders.table import ENCODERS, settle
from dataloader.metadata import read_metadata
from tests.dataloader.encoders.conftest import RATE, SAMPLES, SIZE, WINDOW_S, Small, write_torchscript
from utils.settings import Config, Data, DataProcess, Model

PROCESS = DataProcess(sample_rate=RATE, max_length_s=WINDOW_S, f_max=4_000.0)


@pytest.mark.parametrize("samples", [1, 30, 100, 149, 150, 199, 200, 250, 1000, 1049, 1050])
@pytest.mark.parametrize("block", [7, 100, 256, 5000])
def test_windows_are_those_of_training_whatever_the_blocks(samples, block):
    sound = np.random.default_rng(samples).normal(size=samples).astype(np.float32)
    blocks = (sound[first : first + block] for first in range(0, samples, block))
    got = np.concatenate(list(windows_of(blocks, 100)))
    filled = sound if samples >= 100 else np.resize(sound, 100)
    expected = np.stack([filled[first : first + 100] for first in window_starts(len(filled), 100)])
    np.testing.assert_array_equal(got, expected)


@pytest.fixture
def table(tmp_path):
    folder = tmp_path / "data/train_audio/a"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number, seconds in enumerate((0.3, 2.1, 1.3)):
        sf.write(folder / f"{number}.wav", 0.1 * rng.normal(size=round(seconds * RATE)), RATE)
    sf.write(folder / "silent.wav", np.zeros(RATE), RATE)
    rows = [f"a,[],{name},me,a/{name}" for name in ("0.wav", "1.wav", "2.wav", "silent.wav")]
    text = "primary_label,secondary_labels,url,author,filename\n" + "\n".join(rows) + "\n"
    (tmp_path / "data/train_metadata.csv").write_text(text)
    return read_metadata(tmp_path / "data")


def prepared(tmp_path, table, encoder, **data):
    settings = {"output_dir": tmp_path / "cache", "hash_path": tmp_path / "key", "max_bad_share": 1.0, "num_workers": 1}
    settings |= {"multi_threading": True}  # in this process, which knows what is patched
    model = Model(
        type="encoder", weights_path=encoder, encoder_sample_rate=RATE, encoder_window_s=WINDOW_S, encoder_output="1"
    )
    preprocessor = AudioPreprocessor(
        PROCESS, Data(**(settings | {"min_recording_s": 0.1} | data)), Embeddings(model, PROCESS)
    )
    return preprocessor, preprocessor.prepare(table)


def test_an_entry_holds_the_embedding_of_every_window(tmp_path, table):
    encoder = write_torchscript(tmp_path / "a.pt")
    preprocessor, good = prepared(tmp_path, table, encoder)
    assert good["frames"].tolist() == [1, 4, 3]  # 0.3 s is repeated; of 2.1 s a tail of 0.1 is left out, of 1.3 not
    sound, _ = sf.read(table["path"][2], dtype="float32")
    parts = np.stack([sound[:SAMPLES], sound[SAMPLES : 2 * SAMPLES], sound[-SAMPLES:]])
    expected = Small()(torch.from_numpy(parts))[1].numpy()
    entry = good["entry"][2]
    array = np.load(entry)
    assert array.shape == (SIZE, 3)
    scale = np.frombuffer(Path(entry).read_bytes()[128 + array.nbytes :][: 8 * SIZE], "<f4")[SIZE:]
    np.testing.assert_allclose(array.T * scale, expected, rtol=1e-3)
    check_entry(entry)
    assert read_index(preprocessor.folder)["a/silent.wav"].reason == "silent"
    assert not list(preprocessor.verify())


def test_recordings_that_give_the_encoder_less_than_it_was_made_for_are_named(tmp_path, table, caplog):
    prepared(tmp_path, table, write_torchscript(tmp_path / "a.pt"))
    short = "1 of 3 recordings are shorter than the 0.5 s that encoder needs at once (the first: a/0.wav, 0.30 s)"
    assert short in caplog.text
    assert "lower sample rate" not in caplog.text
    stage = Embeddings.__new__(Embeddings)
    stage.encoder = replace(ENCODERS["birdnet_v2.4"], window_s=0.1)
    stage_records = [Record(f"a/{rate}.wav", 0, 0, "", rate, rate, 1) for rate in (48_000, 22_050, 44_100)]
    (line,) = stage.warnings(stage_records)
    assert "2 of 3 recordings have a lower sample rate than the 48000 Hz of birdnet_v2.4" in line
    assert "the lowest: a/22050.wav, 22050 Hz" in line


def test_the_second_start_embeds_nothing_and_a_changed_file_alone_is_made_again(tmp_path, table, monkeypatch):
    encoder = write_torchscript(tmp_path / "a.pt")
    prepared(tmp_path, table, encoder)
    made = []
    make = embed.Embeddings.make
    monkeypatch.setattr(
        embed.Embeddings, "make", lambda self, job, *more: made.append(job.path) or make(self, job, *more)
    )
    prepared(tmp_path, table, encoder)
    assert not made
    sf.write(table["path"][1], 0.1 * np.random.default_rng(9).normal(size=RATE), RATE)
    os.utime(table["path"][1], (1, 1))
    prepared(tmp_path, table, encoder)
    assert made == [table["path"][1]]


@pytest.mark.parametrize("settings", [{"num_workers": 2}, {"multi_threading": False}], ids=["threads", "a process"])
def test_threads_and_processes_make_the_same_entries(tmp_path, table, settings):
    encoder = write_torchscript(tmp_path / "a.pt")
    _, one = prepared(tmp_path, table, encoder)
    _, other = prepared(tmp_path, table, encoder, output_dir=tmp_path / "other", **settings)
    for first, second in zip(one["entry"], other["entry"], strict=True):
        assert Path(first).read_bytes() == Path(second).read_bytes()


def test_the_key_follows_the_encoders_content_and_what_is_asked_of_it(tmp_path):
    path = write_torchscript(tmp_path / "a.pt")
    model = Model(type="encoder", weights_path=path, encoder_sample_rate=RATE, encoder_window_s=WINDOW_S)
    key = Embeddings(model, PROCESS).key()
    assert Embeddings(replace(model, encoder_output="1"), PROCESS).key() != key
    assert Embeddings(model, replace(PROCESS, max_recording_s=60.0)).key() != key
    assert Embeddings(model, replace(PROCESS, n_mels=7)).key() == key
    copy = tmp_path / "copy.pt"
    copy.write_bytes(path.read_bytes())
    assert Embeddings(replace(model, weights_path=copy), PROCESS).key() == key


def test_the_keys_of_spectrograms_are_what_they_were():
    assert cache_key(DataProcess()) == "74fa50b89e84dffe"
    assert stage_of(Config()).key() == cache_key(DataProcess())


def test_the_encoders_rate_and_window_replace_the_settings():
    config = settle(Config(model=Model(type="birdnet_v2.4")))
    assert (config.data_process.sample_rate, config.data_process.max_length_s) == (48_000, 3.0)
    own = Model(type="encoder", encoder_sample_rate=16_000, encoder_window_s=1.0)
    assert settle(Config(model=own)).data_process.f_max == 8_000.0
    assert settle(Config()) == Config()
