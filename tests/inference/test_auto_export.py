"""Is a run exported when that is needed, and only then?"""

import errno
import logging
import os
import shutil

import numpy as np
import pytest

from inference import auto_export
from inference.backends import load
from inference.exported import CARD_KEY, write_onnx


@pytest.mark.usefixtures("export_packages")
def test_a_run_is_exported_once_and_again_when_its_checkpoint_changed(run, make_run, caplog):
    caplog.set_level(logging.INFO)
    load(run, "onnx")
    first = (run / "best.onnx").stat().st_mtime_ns
    load(run, "openvino")
    assert caplog.text.count("exporting it once to") == 1
    assert (run / "best.onnx").stat().st_mtime_ns == first
    shutil.copy(make_run(seed=7) / "best.pt", run / "best.pt")
    images = np.ones((1, 1, 32, 192), np.float32)
    np.testing.assert_allclose(load(run, "onnx").forward(images), load(run, "torch").forward(images), atol=1e-4)
    assert caplog.text.count("exporting it once to") == 2


@pytest.mark.usefixtures("export_packages")
@pytest.mark.parametrize("content", [b"", b"damaged", None])
def test_a_damaged_or_strange_file_where_the_export_goes_is_replaced(run, content):
    import onnx

    load(run, "onnx")
    path = run / "best.onnx"
    if content is None:
        model = onnx.load(str(path))
        del model.metadata_props[:]
        model.metadata_props.append(onnx.StringStringEntryProto(key=CARD_KEY, value='["not ours"]'))
        onnx.save(model, str(path))
    else:
        path.write_bytes(content)
    assert load(run, "onnx").card.labels == ("asbfly", "bkskit1", "comgre")


@pytest.mark.usefixtures("export_packages")
def test_a_run_on_a_read_only_disk_is_exported_elsewhere_with_a_warning(run, monkeypatch, caplog):
    def refuse(trained, path):
        if path.parent == run:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        write_onnx(trained, path)

    monkeypatch.setattr(auto_export, "write_onnx", refuse)
    images = np.ones((1, 1, 32, 192), np.float32)
    np.testing.assert_allclose(load(run, "onnx").forward(images), load(run, "torch").forward(images), atol=1e-4)
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "read-only" in record.getMessage()
    assert not (run / "best.onnx").exists()
