"""What the tests of prediction share."""

import shutil

import pytest


@pytest.fixture
def run(tiny_run, tmp_path):
    """A copy of the run, to be changed."""
    return shutil.copytree(tiny_run, tmp_path / "run", ignore=shutil.ignore_patterns("*.onnx", "*.xml", "*.bin"))


@pytest.fixture
def export_packages():
    """Skips the test if a package that exporting a run, or predicting with the file, needs is not installed."""
    for package in ("onnx", "onnxruntime", "openvino"):
        pytest.importorskip(package)
