"""Is an exported file read as it was written, and a damaged or foreign one refused?"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from inference import exported
from inference.backends import load
from inference.checkpoints import network_of
from inference.exported import CARD_KEY, write_onnx, write_openvino
from utils.errors import CheckpointError
from utils.files import file_digest


@pytest.mark.usefixtures("export_packages")
def test_a_flipped_byte_of_a_weight_is_found(run, tmp_path):
    output = tmp_path / "model.xml"
    write_openvino(network_of(run / "best.pt"), output)
    load(run, "onnx")
    shutil.copy(run / "best.onnx", tmp_path / "model.onnx")
    right = load(output).forward(np.ones((1, 1, 32, 192), np.float32))
    for name, weights in (("model.xml", "model.bin"), ("model.onnx", "model.onnx")):
        data = bytearray((tmp_path / weights).read_bytes())
        data[len(data) // 2] ^= 64
        (tmp_path / weights).write_bytes(data)
        with pytest.raises(CheckpointError, match=f"{name}: damaged; export it again"):
            load(tmp_path / name)
    shutil.copy(tmp_path / "model.onnx", run / "best.onnx")  # where it can be made again, it is
    np.testing.assert_allclose(load(run, "onnx").forward(np.ones((1, 1, 32, 192), np.float32)), right, atol=1e-4)


@pytest.mark.usefixtures("export_packages")
@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("model.onnx", b"comgre", b"comgrf"),
        ("model.onnx", b'"f_max": 7', b'"f_max": 5'),
        ("model.onnx", b"comgre", b"comgr\xe5"),
        ("model.xml", b"comgre", b"comgrf"),
        ("model.xml", b"comgre", b"comgr\xe5"),
        ("model.xml", b"&quot;f_max&quot;: 7", b"&quot;f_max&quot;: 5"),
        ("model.xml", b'auto_pad="explicit"', b'auto_pad="same_upper"'),  # the graph
    ],
)
def test_changed_labels_settings_or_graph_are_found(run, tmp_path, name, before, after):
    path = tmp_path / name
    write = write_onnx if path.suffix == ".onnx" else write_openvino
    write(network_of(run / "best.pt"), path)
    load(path)
    content = path.read_bytes()
    assert before in content
    path.write_bytes(content.replace(before, after, 1))
    for backend in ("auto", "openvino"):
        with pytest.raises(CheckpointError, match=f"{name}: (damaged|its model card cannot be read)"):
            load(path, backend)


@pytest.mark.usefixtures("export_packages")
@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_exported_files_that_cannot_be_used_are_reported(run, backend, monkeypatch, capfd):
    import onnx

    load(run, "onnx")
    path = run / "best.onnx"
    model = onnx.load(str(path))
    card = json.loads(model.metadata_props[0].value)
    assert card["checkpoint"] == file_digest(run / "best.pt")
    for text, message in (
        (None, "there is no model card in it; export it with export.py"),
        ("{", "its model card cannot be read"),
        ("[1]", "its model card cannot be read"),
        (json.dumps(card | {"labels": ["other"]}), "damaged"),
        (json.dumps({**card, "sha": ""}), "damaged"),
    ):
        del model.metadata_props[:]
        if text is not None:
            model.metadata_props.append(onnx.StringStringEntryProto(key=CARD_KEY, value=text))
        onnx.save(model, str(run / "strange.onnx"))
        with pytest.raises(CheckpointError, match=message):
            load(run / "strange.onnx", backend)
    trained = network_of(run / "best.pt")
    for change, message in (
        ({"labels": []}, "it has no labels"),
        ({"data_process": {"x": 1}}, "something is missing, or of another version"),
    ):
        values = trained.card.plain() | {"checkpoint": "", "version": 2} | change
        monkeypatch.setattr(exported, "_card_text", lambda _, values=values: json.dumps(values))
        write_onnx(trained, run / "strange.onnx")
        with pytest.raises(CheckpointError, match=message):
            load(run / "strange.onnx", backend)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="damaged, or not"):
        load(path, backend)
    with pytest.raises(CheckpointError, match="no such exported file"):
        load(run / "nowhere.onnx", backend)
    assert capfd.readouterr().out == ""  # the runtimes print nothing to stdout


FIXTURES = Path(__file__).parent / "fixtures"


@pytest.mark.usefixtures("export_packages")
@pytest.mark.parametrize(
    ("name", "backend"), [("onnx", "onnx"), ("onnx", "openvino"), ("xml", "openvino")], ids=" ".join
)
def test_an_export_of_the_program_before_is_read(name, backend):
    """The fixtures hold the mean of 8 mel bands each and a linear layer; they end without a checksum."""
    old = load(FIXTURES / f"sealed_2026-11.{name}", backend)
    assert old.card.labels == ("asbfly", "bkskit1", "comgre")
    assert old.digest == "0123456789abcdef" * 4
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d((4, 1)), torch.nn.Flatten(), torch.nn.Linear(4, 3))
    images = np.random.default_rng(1).standard_normal((2, 1, 32, 192)).astype(np.float32)
    np.testing.assert_allclose(old.forward(images), network(torch.from_numpy(images)).detach(), atol=1e-5)
