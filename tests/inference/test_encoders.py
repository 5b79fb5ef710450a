"""Do pretrained encoders predict what they compute, with their own labels and with a trained head?"""

import logging

import numpy as np
import pytest
import soundfile as sf
import torch
from scipy.special import expit
from torch import Tensor, nn

from dataloader.encoders import table
from dataloader.encoders.files import digest_of
from dataloader.encoders.table import Encoder
from factory.encoders import build_encoder_model
from factory.model_card import ModelCard
from inference import export
from inference.predictor import Predictor
from utils.errors import CheckpointError, DataError, UserError
from utils.settings import DataProcess, Model

RATE, WINDOW_S, SIZE, LABELS = 8_000, 0.5, 6, 4
SAMPLES = round(RATE * WINDOW_S)


class Small(nn.Module):
    """Scores, and the embedding they come from: how loud six parts of the window are."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weights", torch.linspace(-9, 9, SIZE * LABELS).reshape(SIZE, LABELS))

    def forward(self, sound: Tensor) -> tuple[Tensor, Tensor]:
        parts = sound[:, : SAMPLES // SIZE * SIZE].reshape(-1, SIZE, SAMPLES // SIZE)
        embedding = parts.abs().mean(dim=2)
        return torch.sigmoid(embedding @ self.weights), embedding


@pytest.fixture
def small(tmp_path, monkeypatch):
    """The file of an encoder that the table knows under the name ``small``."""
    known = Encoder(name="small", sample_rate=RATE, window_s=WINDOW_S, embedding=1, scores=0, answers="scores")
    monkeypatch.setattr(table, "ENCODERS", {"small": known})
    monkeypatch.setattr("inference.encoders.ENCODERS", {"small": known})
    monkeypatch.setattr("dataloader.encoders.table.TYPES", ("small",))
    torch.jit.trace(Small(), torch.zeros(2, SAMPLES)).save(str(tmp_path / "small.pt"))
    return tmp_path / "small.pt"


@pytest.fixture
def labels(tmp_path):
    (tmp_path / "labels.txt").write_text("Avis una_One Bird\nAvis dua_Two\nAvis tria_Three\nEngine_Engine\n")
    return tmp_path / "labels.txt"


@pytest.fixture
def recording(tmp_path, sound):
    sf.write(tmp_path / "r.wav", sound(6.0, RATE), RATE, subtype="FLOAT")
    return tmp_path / "r.wav"


def windows_of(recording):
    return torch.from_numpy(sf.read(recording, dtype="float32")[0].reshape(-1, SAMPLES))


def run_with_head(folder, encoder_file, pool):
    """A run whose head has random weights."""
    torch.manual_seed(1)
    model = Model(type="small", pool=pool)
    network = build_encoder_model(model, 3, size=SIZE).eval()
    nn.init.normal_(network.head.weight, std=2.0)
    names = ("a", "b", "c")
    process = DataProcess(sample_rate=RATE, max_length_s=WINDOW_S, f_max=4_000.0)
    encoder = {"path": str(encoder_file), "digest": digest_of(encoder_file), "size": SIZE}
    card = ModelCard(model, names, names, names, process, "window", encoder=encoder)
    torch.save({"model": network.state_dict(), "epoch": 1, **card.plain()}, folder / "best.pt")
    return network


def test_an_encoder_with_labels_of_its_own_predicts_untrained(small, labels, recording, caplog):
    caplog.set_level(logging.INFO)
    its = Predictor(small, labels=labels)
    assert its.labels == ("Avis una", "Avis dua", "Avis tria", "Engine")
    assert its.card.common_names[:2] == ("One Bird", "Two")
    expected = Small()(windows_of(recording))[0].numpy()
    np.testing.assert_allclose(its.predict_file(recording).each[0], expected, atol=1e-5)
    assert caplog.text.count("licence") == 1
    rows = Predictor(small, labels=labels, window_s=1.0).predict_file(recording)  # two windows each
    np.testing.assert_allclose(rows.each[0], expected.reshape(-1, 2, LABELS).mean(axis=1), atol=1e-5)


def test_live_sound_is_scored_as_the_file(small, labels, recording):
    its = Predictor(small, labels=labels)
    live = np.stack([row[2] for row in its.stream([sf.read(recording, dtype="float32")[0]], RATE)])
    np.testing.assert_allclose(live, its.predict_file(recording).each[0], atol=1e-6)


@pytest.mark.parametrize("pool", ["mean", "attention"])
def test_a_row_pools_the_embeddings_of_its_windows(small, recording, tmp_path, pool):
    network = run_with_head(tmp_path, small, pool)
    embeddings = Small()(windows_of(recording))[1]

    def expected(per_row):
        examples = torch.cat([torch.ones(len(embeddings), 1), embeddings], dim=1).reshape(-1, per_row, 1 + SIZE)
        return expit(network(examples).detach().numpy())

    for window_s, per_row in ((None, 1), (1.0, 2), (3.0, 6), ("recording", 12)):
        scores = Predictor(tmp_path, window_s=window_s).predict_file(recording)
        np.testing.assert_allclose(scores.each[0], expected(per_row), atol=1e-5)
    means = Predictor(tmp_path).predict_file(recording).each[0].mean(axis=0)
    assert np.abs(means - expected(12)).max() > 1e-3  # so the mean of the windows' scores would be noticed


def test_a_head_for_windows_has_the_mean_of_their_scores(small, recording, tmp_path):
    network = run_with_head(tmp_path, small, "windows")
    embeddings = Small()(windows_of(recording))[1]
    each = expit(network(torch.cat([torch.ones(12, 1), embeddings], dim=1)[:, None]).detach().numpy())
    scores = Predictor(tmp_path, window_s=3.0).predict_file(recording)
    np.testing.assert_allclose(scores.each[0], each.reshape(2, 6, 3).mean(axis=1), atol=1e-5)


def test_a_head_and_a_network_score_the_same_rows_together(small, recording, tmp_path, make_run):
    run_with_head(tmp_path, small, "mean")
    network = make_run(labels=("a", "b", "c"))
    both = Predictor([tmp_path, network], window_s=3.0, backend="torch").predict_file(recording)
    for position, run in enumerate((tmp_path, network)):
        alone = Predictor(run, window_s=3.0, backend="torch").predict_file(recording)
        np.testing.assert_allclose(both.each[position], alone.each[0], atol=1e-6)


def test_species_are_kept_of_a_head_too(small, recording, tmp_path):
    run_with_head(tmp_path, small, "mean")
    (tmp_path / "species.txt").write_text("c\na\n")
    kept = Predictor(tmp_path, species=tmp_path / "species.txt", window_s=3.0).predict_file(recording)
    every = Predictor(tmp_path, window_s=3.0).predict_file(recording)
    np.testing.assert_array_equal(kept.each, every.each[..., [0, 2]])


@pytest.mark.usefixtures("export_packages")
@pytest.mark.parametrize("pool", ["mean", "attention", "windows"])
def test_an_exported_head_predicts_as_the_run(small, recording, tmp_path, pool):
    run_with_head(tmp_path, small, pool)
    expected = Predictor(tmp_path, window_s=1.5, backend="torch").predict_file(recording).each
    batches = export.real_batches(tmp_path / "best.pt", [recording])
    for kind, name in (("onnx", "head.onnx"), ("openvino", "head.xml")):
        assert export.export_checkpoint(tmp_path / "best.pt", kind, tmp_path / name, batches) < 1e-4
        scores = Predictor(tmp_path / name, window_s=1.5).predict_file(recording).each
        np.testing.assert_allclose(scores, expected, atol=1e-5)


def another_encoder(small, labels, tmp_path):
    run_with_head(tmp_path, small, "mean")
    small.write_bytes(small.read_bytes() + b"more")
    return [tmp_path], None, CheckpointError, "it was trained on another encoder than .*small.pt is now"


def no_encoder(small, labels, tmp_path):
    run_with_head(tmp_path, small, "mean")
    small.unlink()
    return [tmp_path], None, CheckpointError, "the file of its encoder, .*small.pt, does not exist"


def other_labels(small, labels, tmp_path):
    labels.write_text("a\nb\n")
    return [small], labels, DataError, "labels.txt: 2 labels, but the encoder answers for 4; give the list"


def no_labels_file(small, labels, tmp_path):
    return [small], tmp_path / "no.txt", DataError, "no.txt: no such file; --labels takes a text file"


def not_a_text_file(small, labels, tmp_path):
    labels.write_bytes(b"\xff\xfe\x00")
    return [small], labels, DataError, "this is not a text file"


def not_an_encoder(small, labels, tmp_path):
    small.write_bytes(b"no encoder")
    return [small], labels, UserError, "this is none of the encoders that are known"


def no_labels_at_all(small, labels, tmp_path):
    return ["small"], None, UserError, "small"  # nothing is installed under this name


@pytest.mark.parametrize(
    "mistake",
    [
        another_encoder, no_encoder, other_labels, no_labels_file, not_a_text_file, not_an_encoder, no_labels_at_all,
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(small, labels, tmp_path, mistake):
    runs, given, kind, message = mistake(small, labels, tmp_path)
    with pytest.raises(kind, match=message) as error:
        Predictor(runs, labels=given)
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("export_packages")
@pytest.mark.parametrize("pool", ["mean", "attention", "windows"])
@pytest.mark.parametrize("fixed", [False, True], ids=["any number of windows", "one window at a time"])
def test_encoder_and_head_become_one_onnx_file(small, recording, tmp_path, pool, fixed):
    import onnxruntime

    file = tmp_path / "small.onnx"
    axes = {} if fixed else {name: {0: "batch"} for name in ("sound", "scores", "embedding")}
    torch.onnx.export(
        Small(), (torch.zeros(1 if fixed else 2, SAMPLES),), str(file), dynamo=False, opset_version=13,
        input_names=["sound"], output_names=["scores", "embedding"], dynamic_axes=axes,
    )  # fmt: skip
    network = run_with_head(tmp_path, file, pool)
    expected = Predictor(tmp_path, window_s=1.5, backend="torch").predict_file(recording).each
    batches = export.real_batches(tmp_path / "best.pt", [recording])
    assert export.export_checkpoint(tmp_path / "best.pt", "onnx", tmp_path / "all.onnx", batches) < 1e-4
    file.unlink()  # the exported file needs nothing else
    for backend in ("onnx", "openvino"):
        scores = Predictor(tmp_path / "all.onnx", window_s=1.5, backend=backend).predict_file(recording).each
        np.testing.assert_allclose(scores, expected, atol=1e-5)
    windows = windows_of(recording)[: 1 if fixed else 12]
    session = onnxruntime.InferenceSession(tmp_path / "all.onnx")
    weighted = torch.cat([torch.ones(len(windows), 1), Small()(windows)[1]], dim=1)
    own = network(weighted[:, None] if pool == "windows" else weighted[None]).detach().numpy()
    np.testing.assert_allclose(session.run(["head/logits"], {"sound": windows.numpy()})[0], own, atol=1e-4)


def test_a_head_on_another_kind_of_file_is_exported_alone_with_a_warning(small, recording, tmp_path, caplog):
    pytest.importorskip("onnxruntime")
    run_with_head(tmp_path, small, "mean")
    export.export_checkpoint(tmp_path / "best.pt", "onnx", tmp_path / "head.onnx", [windows_of(recording).numpy()])
    assert "the file holds the head alone, and prediction with it also needs" in caplog.text
    assert "small.pt" in caplog.text
