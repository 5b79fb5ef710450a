"""With which config does a run continue, and which changes are refused?"""

from argparse import Namespace

import pytest

from training.resume import load
from utils.errors import ConfigError, UserError


def test_a_restart_of_torchrun_begins_no_new_run(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    with pytest.raises(UserError, match=r"torchrun restarted .*; start it with --resume RUN_DIR"):
        load(Namespace(resume=None, config=None, overrides=[]))


def test_a_run_with_a_checkpoint_continues_without_the_file_its_weights_came_from(tmp_path):
    (tmp_path / "config.ini").write_text("[model]\ntype = wav2vec2_tiny\nweights_path = gone.pt\n")
    options = Namespace(resume=tmp_path, overrides=[])
    with pytest.raises(ConfigError, match="no such file"):
        load(options)
    (tmp_path / "last.pt").write_text("")
    assert load(options).model.weights_path == tmp_path / "gone.pt"
    with pytest.raises(ConfigError, match=r"\[model\] weights_path.*: cannot change in a run that has begun"):
        load(Namespace(resume=tmp_path, overrides=["model.weights_path="]))  # it would learn what is frozen
