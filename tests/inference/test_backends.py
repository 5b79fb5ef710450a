"""Do PyTorch, ONNX Runtime and OpenVINO compute the same, and is what cannot be loaded refused in one line?"""

import importlib.util
import os

import numpy as np
import pytest
import torch

from inference import backends
from inference.backends import load
from inference.exported import ExportError
from inference.predictor import Predictor
from utils.errors import UserError


@pytest.mark.usefixtures("export_packages")
@pytest.mark.parametrize("model_type", ["test_efficientnet", "test_convnext", "test_vit"])
def test_the_three_backends_give_the_same_logits(make_run, sound, model_type, tmp_path):
    run = make_run(model_type=model_type)
    images = np.random.default_rng(1).standard_normal((5, 1, 32, 192)).astype(np.float32)
    loaded = [load(run, backend) for backend in ("torch", "onnx", "openvino")]
    first = loaded[0].forward(images)
    assert np.ptp(first) > 1
    for other in loaded[1:]:
        np.testing.assert_allclose(other.forward(images), first, atol=1e-4)
        np.testing.assert_allclose(other.forward(images[:1]), first[:1], atol=1e-4)  # a batch of any size
        assert other.card == loaded[0].card


@pytest.mark.usefixtures("export_packages")
def test_the_scores_of_a_recording_are_the_same_on_all_backends(tiny_run, sound, tmp_path):
    import soundfile

    recording = tmp_path / "a.wav"
    soundfile.write(recording, sound(60.0), 16_000)
    scores = [Predictor(tiny_run, backend=name).predict_file(recording).each for name in backends.BACKENDS]
    for other in scores[1:]:
        np.testing.assert_allclose(other, scores[0], atol=1e-4)


@pytest.mark.usefixtures("export_packages")
@pytest.mark.parametrize("kind", [torch.onnx.OnnxExporterError, TypeError])
def test_a_run_that_cannot_be_exported_is_predicted_with_pytorch_unless_another_backend_is_asked_for(
    run, monkeypatch, caplog, capfd, kind
):
    def fail(*_, **__):
        os.write(1, b"the graph, in hundreds of lines")  # as torch's C++ code does
        raise kind("no such operation\nand more")

    monkeypatch.setattr(torch.onnx, "export", fail)
    assert load(run, "auto").backend == "torch"
    assert "test_efficientnet cannot be exported to ONNX (no such operation)" in caplog.text
    with pytest.raises(ExportError, match="use --backend torch"):
        load(run, "onnx")
    with pytest.raises(ExportError, match="use --backend torch"):
        load(run, "openvino")
    assert capfd.readouterr().out == ""
    assert sorted(path.name for path in run.iterdir()) == ["best.pt", "config.ini", "last.pt"]


def test_auto_takes_the_fastest_that_is_installed(run, monkeypatch):
    there = {"onnx", "onnxruntime", "openvino"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if name in there else None)
    cpu = torch.device("cpu")
    assert backends._backend_for_run("auto", cpu) == "onnx"
    assert backends._backend_for_run("auto", torch.device("cuda")) == "torch"
    there.remove("onnxruntime")
    assert backends._backend_for_run("auto", cpu) == "openvino"
    there.remove("onnx")  # without which nothing can be exported
    assert backends._backend_for_run("auto", cpu) == "torch"
    for asked, package in (("onnx", "onnxruntime"), ("openvino", "onnx")):
        with pytest.raises(UserError, match=f"{package} is not installed; install it with: pip install {package}"):
            load(run, asked, "cpu")
    (run / "x.onnx").write_bytes(b"")
    with pytest.raises(UserError, match="onnx is not installed"):  # OpenVINO reads it, but not the labels in it
        load(run / "x.onnx", "openvino")


def test_backends_and_devices_that_do_not_fit_are_reported(run, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (run / "x.onnx").write_bytes(b"")
    (run / "x.xml").write_bytes(b"")
    for arguments, message in (
        ((run, "tensorrt"), "--backend tensorrt: unknown"),
        ((run, "auto", "cuda"), "--device cuda: this machine has no CUDA device; use cpu or auto"),
        ((run, "onnx", "cuda"), "--backend onnx computes on the CPU"),
        ((run / "x.onnx", "torch"), "--backend torch cannot read this file; use --backend onnx or openvino"),
        ((run / "x.xml", "onnx"), "--backend onnx cannot read this file; use --backend openvino"),
    ):
        with pytest.raises(UserError, match=message):
            load(*arguments)


@pytest.mark.parametrize("name", ["x.onnx", "x.xml"])
def test_an_exported_file_is_not_computed_on_the_cpu_where_cuda_is_asked(run, monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    (run / name).write_bytes(b"")
    with pytest.raises(
        UserError, match=f"--device cuda: .*{name} runs on the CPU only; give the run, or use --device cpu"
    ):
        load(run / name, "auto", "cuda")


@pytest.mark.usefixtures("export_packages")
def test_a_real_network_that_onnx_cannot_express_is_predicted_with_pytorch(make_run, caplog):
    run = make_run(model_type="eva02_tiny_patch14_224", n_mels=28, max_length_s=3.5)  # 28 x 224: whole patches
    assert load(run).backend == "torch"
    assert "eva02_tiny_patch14_224 cannot be exported to ONNX (" in caplog.text
