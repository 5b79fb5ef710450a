"""Does an exported file compute what the run computes, and hold all that prediction needs?"""

import logging

import numpy as np
import pytest
import soundfile as sf

from inference import export
from inference.backends import CARD_KEY, is_available, load
from inference.checkpoints import network_of
from inference.predictor import Predictor
from utils.errors import CheckpointError, DataError, UserError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
KINDS = ["onnx", pytest.param("openvino", marks=pytest.mark.skipif(not is_available("openvino"), reason="no openvino"))]


@pytest.fixture
def recordings(tmp_path, sound):
    folder = tmp_path / "recordings"
    folder.mkdir()
    for number in range(2):
        sf.write(folder / f"{number}.wav", sound(12.0, seed=number), 16_000)
    (folder / "bad.wav").write_bytes(b"")
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_an_exported_file_predicts_as_the_run(tiny_run, recordings, tmp_path, kind, caplog):
    checkpoint = tiny_run / "best.pt"
    output = export.output_path(checkpoint, kind, tmp_path / f"out/model.{'onnx' if kind == 'onnx' else 'xml'}")
    images = export.real_batches(checkpoint, [recordings])
    assert [one.shape for one in images] == [(4, 1, 32, 192)] * 2
    assert "bad.wav: left out: empty" in caplog.text
    difference = export.export_checkpoint(checkpoint, kind, output, images)
    assert 0 <= difference < 1e-4
    left = {path.name for path in output.parent.iterdir()}
    assert left == ({"model.onnx"} if kind == "onnx" else {"model.xml", "model.bin"})
    loaded, run = load(output), load(tiny_run, "torch")
    assert loaded.card == run.card
    assert loaded.backend == kind
    recording = recordings / "0.wav"
    np.testing.assert_allclose(
        Predictor(output).predict_file(recording).each,
        Predictor(tiny_run, backend="torch").predict_file(recording).each,
        atol=1e-4,
    )


def test_the_metadata_holds_what_prediction_needs(tiny_run, tmp_path):
    import json

    checkpoint = tiny_run / "best.pt"
    output = export.output_path(checkpoint, "onnx", tmp_path / "model.onnx")
    export.export_checkpoint(checkpoint, "onnx", output, [np.zeros((1, 1, 32, 192), np.float32)])
    (text,) = [entry.value for entry in onnx.load(str(output)).metadata_props if entry.key == CARD_KEY]
    card = json.loads(text)
    assert card["labels"] == ["asbfly", "bkskit1", "comgre"]
    assert card["common_names"] == ["Common asbfly", "Common bkskit1", "Common comgre"]
    assert card["data_process"]["sample_rate"] == 16_000
    assert card["standardize_over"] == "window"


@pytest.mark.parametrize("difference", [0.01, float("nan")])
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_computes_something_else_is_not_written(tiny_run, tmp_path, kind, difference, monkeypatch):
    monkeypatch.setattr(export, "largest_difference", lambda *_: difference)
    checkpoint = tiny_run / "best.pt"
    output = export.output_path(checkpoint, kind, tmp_path / f"model.{'onnx' if kind == 'onnx' else 'xml'}")
    for name in (output, output.with_suffix(".bin")):
        name.write_text("an earlier export")
    with pytest.raises(UserError, match=r"a logit differs by .* nothing is written"):
        export.export_checkpoint(checkpoint, kind, output, [])
    assert {path.name for path in tmp_path.iterdir()} == {output.name, "model.bin"}
    assert {path.read_text() for path in tmp_path.iterdir()} == {"an earlier export"}


def test_the_largest_difference_is_that_of_any_logit(tiny_run):
    network, *_ = network_of(tiny_run / "best.pt")
    forward = load(tiny_run, "torch").forward
    images = [np.random.default_rng(seed).standard_normal((2, 1, 32, 192)).astype(np.float32) for seed in range(3)]

    def off_by_a_little(batch):
        logits = forward(batch)
        logits[-1, 1] += 0.5 if batch is images[1] else 0
        return logits

    assert export.largest_difference(network, off_by_a_little, images) == pytest.approx(0.5, abs=1e-4)
    lost = export.largest_difference(
        network, lambda batch: forward(batch) * (np.nan if batch is images[1] else 1), images
    )
    assert np.isnan(lost)


def test_outputs_and_recordings_that_cannot_be_used_are_reported(tiny_run, tmp_path):
    with pytest.raises(UserError, match=r"model\.pt: the name of an onnx file must end in \.onnx"):
        export.output_path(tiny_run / "best.pt", "onnx", tmp_path / "model.pt")
    assert export.output_path(tiny_run / "best.pt", "onnx", None) == tiny_run / "best.onnx"
    (tmp_path / "empty.wav").write_bytes(b"")
    for audio in (None, [tmp_path / "empty.wav"]):
        with pytest.raises(DataError, match="name some with --audio"):
            export.real_batches(tiny_run / "best.pt", audio)


def test_without_audio_the_runs_own_recordings_are_compared_with(make_run, recordings, tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    run = make_run()
    (tmp_path / "train_audio/x").mkdir(parents=True)
    for name in ("0.wav", "1.wav"):
        (recordings / name).rename(tmp_path / "train_audio/x" / name)
    (run / "config.ini").write_text(f"[paths]\ndata_dir = {tmp_path}\ndemo_dir = {tmp_path}/none\n")
    (run / "split.csv").write_text(
        "filename,label,group,split\nx/0.wav,x,a,train\nx/1.wav,x,b,test\nx/gone.wav,x,c,test\n"
    )
    (images,) = export.real_batches(run / "best.pt", None)
    (expected,) = export.real_batches(run / "best.pt", [tmp_path / "train_audio/x/1.wav"])
    np.testing.assert_array_equal(images, expected)


@pytest.mark.skipif(not is_available("openvino"), reason="no openvino")
def test_openvino_files_that_cannot_be_used_are_reported(tiny_run, tmp_path):
    checkpoint = tiny_run / "best.pt"
    output = export.output_path(checkpoint, "openvino", tmp_path / "model.xml")
    export.export_checkpoint(checkpoint, "openvino", output, [np.zeros((1, 1, 32, 192), np.float32)])
    text = output.read_text()
    output.write_text(text.replace(CARD_KEY, "something_else"))
    with pytest.raises(CheckpointError, match="there is no model card in it"):
        load(output)
    for content in ("garbage", text[: len(text) // 2]):
        output.write_text(content)
        with pytest.raises(CheckpointError, match="damaged, or not an OpenVINO file"):
            load(output)
    output.write_text(text)
    output.with_suffix(".bin").unlink()
    with pytest.raises(
        CheckpointError, match=r"model\.bin: no such file; the weights of model\.xml must be in the same folder"
    ):
        load(output)
