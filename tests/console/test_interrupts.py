"""Ctrl-C and SIGTERM: the first ends the work in an orderly way, the second at once."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BEGIN = """
import os, signal, sys, time
from s4m_pipeline.console.interrupts import Interrupts
signal.signal(signal.SIGINT, signal.default_int_handler)
interrupts = Interrupts("interrupted, as said")
interrupts.take()
"""
TIDIES_UP = """
try:
    print("works", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    {told}
    print("tidies up", flush=True)
    time.sleep(60)
"""


def _program(text: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", BEGIN + text],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("told", ["pass", "interrupts.tell()"])
def test_a_second_interrupt_leaves_at_once_and_is_told_once(number, told):
    program = _program(TIDIES_UP.format(told=told))
    assert program.stdout
    assert program.stdout.readline() == "works\n"
    program.send_signal(number)
    assert program.stdout.readline() == "tidies up\n"
    start = time.monotonic()
    program.send_signal(number)
    _, err = program.communicate(timeout=30)
    assert (program.returncode, err) == (130, "interrupted, as said\n")
    assert time.monotonic() - start < 20


def test_an_interrupt_when_all_is_done_changes_no_exit_code():
    program = _program("interrupts.end_with(4)\nprint('done', flush=True)\ntime.sleep(60)")
    assert program.stdout
    assert program.stdout.readline() == "done\n"
    program.send_signal(signal.SIGINT)
    assert program.communicate(timeout=30) == ("", "")
    assert program.returncode == 4


def test_a_forked_process_leaves_ctrl_c_to_its_parent_and_ends_by_sigterm():
    text = """
if child := os.fork():
    os.kill(child, signal.SIGINT)
    time.sleep(0.2)
    os.kill(child, signal.SIGTERM)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
else:
    time.sleep(60)
"""
    out, err = _program(text).communicate(timeout=30)
    assert (out, err) == (f"{-signal.SIGTERM}\n", "")


def test_a_ctrl_c_that_is_ignored_in_the_background_stays_so():
    text = """
signal.signal(signal.SIGINT, signal.SIG_IGN)
Interrupts("").take()
os.kill(os.getpid(), signal.SIGINT)
print(signal.getsignal(signal.SIGINT) == signal.SIG_IGN)
"""
    assert _program(text).communicate(timeout=30) == ("True\n", "")


def test_callers_of_the_command_line_get_their_handlers_back(s4m):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert s4m("--version")[0] == 0
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
