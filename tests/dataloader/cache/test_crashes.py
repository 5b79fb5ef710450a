"""Does the journal accuse those a crash had in hand, and nobody else? (The run as a whole: test_data_preprocess.py.)"""

import ctypes
import faulthandler
import os
import signal

import pytest

from dataloader.cache.crashes import journal, take_suspects


def die(folder, how):
    """A process that dies with two recordings in hand, one of them for the second time."""
    child = os.fork()
    if child == 0:
        with journal(folder) as in_hand:
            for name in ("a/done.ogg", "a/twice.ogg"):
                with in_hand(name):
                    pass
            with in_hand("a/twice.ogg"), in_hand("b/vögel 鳥.ogg"):
                how()
        os._exit(0)
    return os.waitpid(child, 0)[1]


@pytest.mark.parametrize("how", [lambda: ctypes.string_at(0), os.abort], ids=["segfault", "abort"])
def test_a_crash_accuses_what_was_in_hand_once(tmp_path, how):
    assert os.WIFSIGNALED(die(tmp_path, how))
    assert take_suspects(tmp_path) == {"a/twice.ogg", "b/vögel 鳥.ogg"}
    assert take_suspects(tmp_path) == set()
    assert not list(tmp_path.iterdir())


def test_kill_9_and_a_good_end_accuse_nobody(tmp_path):
    assert die(tmp_path, lambda: None) == 0
    assert not list(tmp_path.iterdir())
    assert os.WIFSIGNALED(die(tmp_path, lambda: os.kill(os.getpid(), signal.SIGKILL)))
    assert take_suspects(tmp_path) == set()


@pytest.mark.parametrize("enabled", [True, False])
def test_faulthandler_is_left_as_it_was(tmp_path, enabled):
    before = faulthandler.is_enabled()
    faulthandler.enable() if enabled else faulthandler.disable()
    try:
        with journal(tmp_path):
            assert faulthandler.is_enabled()
        assert faulthandler.is_enabled() is enabled
    finally:
        faulthandler.enable() if before else faulthandler.disable()
