"""Is a request to stop noted, and the second one obeyed at once?"""

import os
import signal
import threading
import time

import pytest

from utils.interrupt import Interrupt


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_is_noted_and_the_handlers_are_put_back(number, code):
    before = signal.getsignal(number)
    with Interrupt() as interrupt:
        assert interrupt.exit_code is None
        os.kill(os.getpid(), number)
        assert interrupt.exit_code == code
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_leaves_at_once():
    child = os.fork()
    if child == 0:
        with Interrupt():
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(30)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGINT


def test_a_second_sigterm_is_that_which_torchrun_passes_on():
    with Interrupt() as interrupt:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
        assert interrupt.exit_code == 143


def test_the_time_limit_asks_for_exit_code_0():
    assert Interrupt(1e-9).exit_code == 0
    assert Interrupt(60).exit_code is None
    assert Interrupt(0).exit_code is None


def test_what_is_to_be_called_is_called_by_the_first_signal_once_and_at_once_after_it():
    called = []
    with Interrupt() as interrupt:
        interrupt.when_it_comes(lambda: called.append("before"))
        os.kill(os.getpid(), signal.SIGTERM)
        assert called == ["before"]
        interrupt.when_it_comes(lambda: called.append("after"))
        assert called == ["before", "after"]


def test_a_signal_ends_a_wait_and_none_begins_after_it():
    with Interrupt() as interrupt:
        assert interrupt.wait_for(lambda: "a batch") == "a batch"
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
        started = time.monotonic()
        assert interrupt.wait_for(lambda: time.sleep(30) or "too late") is None
        assert time.monotonic() - started < 10
        assert interrupt.wait_for(lambda: "another batch") is None
        assert interrupt.exit_code == 143


def test_outside_of_a_wait_a_signal_is_only_noted():
    with Interrupt() as interrupt:
        with pytest.raises(ValueError, match="of the wait"):
            interrupt.wait_for(lambda: int("of the wait"))
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupt.exit_code == 143
