"""Slow proofs run only when asked for: `pytest -m slow`, or `pytest -m ""` for everything."""

import signal
import sys

import pytest

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # So it is in the background of a shell, and would be in every command that a test starts: none could be stopped.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config, items):
    if config.getoption("-m") or any(arg in ("-m", "-m=") for arg in sys.argv) or any("::" in a for a in config.args):
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if not item.get_closest_marker("slow")]


@pytest.fixture(autouse=True)
def _the_same_networks_in_every_run():
    """Networks that are made without an `rng` are drawn anew from the same seed in each test."""
    from unrolled import manual_seed

    manual_seed(0)
