"""Is the right checkpoint found, and what cannot be used refused in one line?"""

import shutil

import numpy as np
import pytest
import torch

from inference import checkpoints
from inference.backends import load
from inference.checkpoints import checkpoint_of
from utils.errors import CheckpointError
from utils.files import file_digest


@pytest.mark.usefixtures("export_packages")
@pytest.mark.parametrize("backend", ["torch", "onnx"])  # OpenVINO reads what is exported for ONNX
def test_a_checkpoint_replaced_while_it_is_read_is_not_taken_for_the_one_before(run, make_run, monkeypatch, backend):
    read, images = checkpoints.load_checkpoint, np.ones((1, 1, 32, 192), np.float32)
    newer = make_run(seed=7) / "best.pt"

    def replaced(path, **options):  # by training, as soon as it is read
        state = read(path, **options)
        shutil.copy(newer, path)
        return state

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "load_checkpoint", replaced)
        first = load(run, backend)
    for loaded in (first, load(run, backend)):  # now and the next time
        assert loaded.digest == file_digest(newer)
        np.testing.assert_allclose(loaded.forward(images), load(newer, "torch").forward(images), atol=1e-4)


def test_a_run_is_predicted_with_its_best_epoch(run, caplog):
    assert checkpoint_of(run) == run / "best.pt"
    assert checkpoint_of(run / "last.pt") == run / "last.pt"
    (run / "config.ini").unlink()  # all that is needed is in the checkpoint
    assert checkpoint_of(run) == run / "best.pt"
    (run / "best.pt").unlink()
    with pytest.raises(CheckpointError, match="this is not a run"):
        checkpoint_of(run)
    (run / "config.ini").write_text("")
    with pytest.raises(CheckpointError, match=r"there is no best\.pt yet; finish the first epoch"):
        checkpoint_of(run)
    (run / "config.ini").write_text("[callbacks]\nmodel_checkpoint = false\n")
    assert checkpoint_of(run) == run / "last.pt"
    assert "its last epoch is used for prediction" in caplog.text


def test_checkpoints_that_cannot_be_used_are_reported(run):
    state = torch.load(run / "best.pt", weights_only=True)
    for change, message in (
        ({"labels": ["one", "two"]}, "another number of names than of labels"),
        ({"labels": []}, "it has no labels"),
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
