"""Do PyTorch, ONNX Runtime and OpenVINO say the same, and is what cannot be loaded told?"""

import errno
import importlib.util
import json
import logging
import os
import shutil

import numpy as np
import pytest
import torch

from inference import backends, export
from inference.backends import ExportError, checkpoint_of, file_digest, load
from inference.predictor import Predictor
from utils.errors import CheckpointError, UserError

PACKAGES = ("onnx", "onnxruntime", "openvino")
MISSING = [package for package in PACKAGES if importlib.util.find_spec(package) is None]
needs_all = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")


@pytest.fixture
def run(tiny_run, tmp_path):
    """A copy of the run, to be changed."""
    return shutil.copytree(tiny_run, tmp_path / "run", ignore=shutil.ignore_patterns("*.onnx", "*.xml", "*.bin"))


@needs_all
@pytest.mark.parametrize("model_type", ["test_efficientnet", "test_convnext", "test_vit"])
def test_the_three_backends_say_the_same(make_run, sound, model_type, tmp_path):
    run = make_run(model_type=model_type)
    images = np.random.default_rng(1).standard_normal((5, 1, 32, 192)).astype(np.float32)
    loaded = [load(run, backend) for backend in ("torch", "onnx", "openvino")]
    first = loaded[0].forward(images)
    assert np.ptp(first) > 1
    for other in loaded[1:]:
        np.testing.assert_allclose(other.forward(images), first, atol=1e-4)
        np.testing.assert_allclose(other.forward(images[:1]), first[:1], atol=1e-4)  # a batch of any size
        assert other.card == loaded[0].card


@needs_all
def test_the_scores_of_a_recording_are_the_same_on_all_backends(tiny_run, sound, tmp_path):
    import soundfile

    recording = tmp_path / "a.wav"
    soundfile.write(recording, sound(60.0), 16_000)
    scores = [Predictor(tiny_run, backend=name).predict_file(recording).each for name in backends.BACKENDS]
    for other in scores[1:]:
        np.testing.assert_allclose(other, scores[0], atol=1e-4)


@needs_all
def test_a_run_is_exported_once_and_again_when_its_checkpoint_changed(run, make_run, caplog):
    caplog.set_level(logging.INFO)
    load(run, "onnx")
    first = (run / "best.onnx").stat().st_mtime_ns
    load(run, "openvino")
    assert caplog.text.count("exporting it to") == 1
    assert (run / "best.onnx").stat().st_mtime_ns == first
    shutil.copy(make_run(seed=7) / "best.pt", run / "best.pt")
    images = np.ones((1, 1, 32, 192), np.float32)
    np.testing.assert_allclose(load(run, "onnx").forward(images), load(run, "torch").forward(images), atol=1e-4)
    assert caplog.text.count("exporting it to") == 2


@needs_all
@pytest.mark.parametrize("backend", ["torch", "onnx"])  # OpenVINO reads what is exported for ONNX
def test_a_checkpoint_replaced_while_it_is_read_is_not_taken_for_the_one_before(run, make_run, monkeypatch, backend):
    read, images = backends.load_checkpoint, np.ones((1, 1, 32, 192), np.float32)
    newer = make_run(seed=7) / "best.pt"

    def replaced(path, **options):  # by training, as soon as it is read
        state = read(path, **options)
        shutil.copy(newer, path)
        return state

    with monkeypatch.context() as patch:
        patch.setattr(backends, "load_checkpoint", replaced)
        first = load(run, backend)
    for loaded in (first, load(run, backend)):  # now and the next time
        assert loaded.digest == file_digest(newer)
        np.testing.assert_allclose(loaded.forward(images), load(newer, "torch").forward(images), atol=1e-4)


@needs_all
def test_a_flipped_byte_of_a_weight_is_found(run, tmp_path):
    checkpoint, output = export.places(run, "openvino", tmp_path / "model.xml")
    export.export_openvino(*export.network_of(checkpoint), output)
    load(run, "onnx")
    shutil.copy(run / "best.onnx", tmp_path / "model.onnx")
    right = load(output).forward(np.ones((1, 1, 32, 192), np.float32))
    for name, weights in (("model.xml", "model.bin"), ("model.onnx", "model.onnx")):
        data = bytearray((tmp_path / weights).read_bytes())
        data[len(data) // 2] ^= 64
        (tmp_path / weights).write_bytes(data)
        with pytest.raises(CheckpointError, match=f"{name}: damaged, or of an earlier version; export it again"):
            load(tmp_path / name)
    shutil.copy(tmp_path / "model.onnx", run / "best.onnx")  # where it can be made again, it is
    np.testing.assert_allclose(load(run, "onnx").forward(np.ones((1, 1, 32, 192), np.float32)), right, atol=1e-4)


@needs_all
@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("model.onnx", b"comgre", b"comgrf"),
        ("model.onnx", b'"f_max": 7', b'"f_max": 5'),
        ("model.onnx", b"comgre", b"comgr\xe5"),
        ("model.xml", b"comgre", b"comgrf"),
        ("model.xml", b"&quot;f_max&quot;: 7", b"&quot;f_max&quot;: 5"),
        ("model.xml", b'auto_pad="explicit"', b'auto_pad="same_upper"'),  # the graph
    ],
)
def test_changed_labels_settings_or_graph_are_found(run, tmp_path, name, before, after):
    path = tmp_path / name
    write = export.export_onnx if path.suffix == ".onnx" else export.export_openvino
    write(*export.network_of(run / "best.pt"), path)
    load(path)
    content = path.read_bytes()
    assert before in content
    path.write_bytes(content.replace(before, after, 1))
    for backend in ("auto", "openvino"):
        with pytest.raises(CheckpointError, match=f"{name}: (damaged, or|its labels cannot be read)"):
            load(path, backend)


@needs_all
@pytest.mark.parametrize("content", [b"", b"damaged", None])
def test_a_damaged_or_strange_file_where_the_export_goes_is_replaced(run, content):
    import onnx

    load(run, "onnx")
    path = run / "best.onnx"
    if content is None:
        model = onnx.load(str(path))
        del model.metadata_props[:]
        model.metadata_props.append(onnx.StringStringEntryProto(key=backends.CARD_KEY, value='["not ours"]'))
        onnx.save(model, str(path))
    else:
        path.write_bytes(content)
    assert load(run, "onnx").card.labels == ("asbfly", "bkskit1", "comgre")


@needs_all
def test_a_run_on_a_read_only_disk_is_exported_elsewhere_with_a_warning(run, monkeypatch, caplog):
    write = export.export_onnx

    def refuse(network, card, digest, path):
        if path.parent == run:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        write(network, card, digest, path)

    monkeypatch.setattr(export, "export_onnx", refuse)
    images = np.ones((1, 1, 32, 192), np.float32)
    np.testing.assert_allclose(load(run, "onnx").forward(images), load(run, "torch").forward(images), atol=1e-4)
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "read-only" in record.getMessage()
    assert not (run / "best.onnx").exists()


@needs_all
def test_what_cannot_be_exported_is_predicted_with_pytorch_unless_asked_otherwise(run, monkeypatch, caplog):
    def fail(*_, **__):
        raise torch.onnx.OnnxExporterError("no such operation\nand more")

    monkeypatch.setattr(torch.onnx, "export", fail)
    assert load(run, "auto").backend == "torch"
    assert "test_efficientnet cannot be exported (no such operation)" in caplog.text
    with pytest.raises(ExportError, match="use --backend torch"):
        load(run, "onnx")
    assert sorted(path.name for path in run.iterdir()) == ["best.pt", "config.ini", "last.pt"]


def test_auto_takes_the_fastest_that_is_installed(run, monkeypatch):
    there = {"onnx", "onnxruntime", "openvino"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if name in there else None)
    cpu = torch.device("cpu")
    assert backends._of_run("auto", cpu) == "onnx"
    assert backends._of_run("auto", torch.device("cuda")) == "torch"
    there.remove("onnxruntime")
    assert backends._of_run("auto", cpu) == "openvino"
    there.remove("onnx")  # without which nothing can be exported
    assert backends._of_run("auto", cpu) == "torch"
    for asked, package in (("onnx", "onnxruntime"), ("openvino", "onnx")):
        with pytest.raises(UserError, match=f"{package} is not installed; install it with pip install {package}"):
            load(run, asked, "cpu")
    (run / "x.onnx").write_bytes(b"")
    with pytest.raises(UserError, match="onnx is not installed"):  # OpenVINO reads it, but not the labels in it
        load(run / "x.onnx", "openvino")


def test_backends_and_devices_that_do_not_fit_are_told(run, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (run / "x.onnx").write_bytes(b"")
    (run / "x.xml").write_bytes(b"")
    for arguments, message in (
        ((run, "tensorrt"), "--backend tensorrt: unknown"),
        ((run, "auto", "cuda"), "--device cuda: no CUDA device here; use cpu or auto"),
        ((run, "onnx", "cuda"), "--backend onnx computes on the CPU"),
        ((run / "x.onnx", "torch"), "--backend torch does not read this file; use --backend onnx or openvino"),
        ((run / "x.xml", "onnx"), "--backend onnx does not read this file; use --backend openvino"),
    ):
        with pytest.raises(UserError, match=message):
            load(*arguments)


@pytest.mark.parametrize("name", ["x.onnx", "x.xml"])
def test_an_exported_file_is_not_computed_on_the_cpu_where_cuda_is_asked(run, monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    (run / name).write_bytes(b"")
    with pytest.raises(
        UserError, match=f"--device cuda: .*{name} is computed on the CPU; give the run, or --device cpu"
    ):
        load(run / name, "auto", "cuda")


def test_a_run_is_predicted_with_its_best_epoch(run, caplog):
    assert checkpoint_of(run) == run / "best.pt"
    assert checkpoint_of(run / "last.pt") == run / "last.pt"
    (run / "config.ini").unlink()  # all that is needed is in the checkpoint
    assert checkpoint_of(run) == run / "best.pt"
    (run / "best.pt").unlink()
    with pytest.raises(CheckpointError, match="no run is there"):
        checkpoint_of(run)
    (run / "config.ini").write_text("")
    with pytest.raises(CheckpointError, match=r"it has no best\.pt yet; finish its first epoch"):
        checkpoint_of(run)
    (run / "config.ini").write_text("[callbacks]\nmodel_checkpoint = false\n")
    assert checkpoint_of(run) == run / "last.pt"
    assert "predicts with its last epoch" in caplog.text


def test_checkpoints_that_cannot_be_used_are_told(run):
    state = torch.load(run / "best.pt", weights_only=True)
    for change, message in (
        ({"labels": ["one", "two"]}, "not as many names as labels"),
        ({"labels": []}, "it holds no labels"),
        ({"data_process": {"window": 5}}, "of another version"),
        ({"labels": list("abcd"), "common_names": list("abcd"), "scientific_names": list("abcd")}, "do not fit"),
    ):
        torch.save(state | change, run / "best.pt")
        with pytest.raises(CheckpointError, match=message):
            load(run, "torch")
    torch.save(state, run / "best.pt")
    damaged = bytearray((run / "best.pt").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (run / "best.pt").write_bytes(damaged)
    for backend in ("torch", "auto"):
        with pytest.raises(CheckpointError, match=r"best\.pt: damaged"):
            load(run, backend)


@needs_all
@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_exported_files_that_cannot_be_used_are_told(run, backend):
    import onnx

    load(run, "onnx")
    path = run / "best.onnx"
    model = onnx.load(str(path))
    card = json.loads(model.metadata_props[0].value)
    assert card["checkpoint"] == file_digest(run / "best.pt")
    for text, message in (
        (None, "it holds no labels; export it with export.py"),
        ("{", "its labels cannot be read"),
        (json.dumps(card | {"labels": [], "sha256": backends.UNSEALED}), "it holds no labels"),
        (json.dumps({"checkpoint": "", "sha256": backends.UNSEALED}), "lacks what prediction needs"),
        (json.dumps(card | {"sha256": ""}), "damaged, or of an earlier version"),
        ("[1]", "its labels cannot be read"),
    ):
        del model.metadata_props[:]
        if text is not None:
            model.metadata_props.append(onnx.StringStringEntryProto(key=backends.CARD_KEY, value=text))
        onnx.save(model, str(run / "strange.onnx"))
        if text and backends.UNSEALED in text:
            backends.seal(run / "strange.onnx")
        with pytest.raises(CheckpointError, match=message):
            load(run / "strange.onnx", backend)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="damaged, or not"):
        load(path, backend)
    with pytest.raises(CheckpointError, match="no such exported file"):
        load(run / "nowhere.onnx", backend)
