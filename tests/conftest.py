"""Slow proofs run only when asked for: `pytest -m slow`, or `pytest -m ""` for everything."""

import contextlib
import signal
import sys

import pytest

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # So it is in the background of a shell, and would be in every command that a test starts: none could be stopped.
    signal.signal(signal.SIGINT, signal.default_int_handler)

VARIANTS = {
    "lstm_no_forget_gate": "lstm_no_input_gate",
    "lstm_no_output_gate": "lstm_no_input_gate",
    "lstm_no_input_activation": "lstm_no_input_gate",
    "lstm_no_output_activation": "lstm_no_input_gate",
    "min_gru": "min_lstm",
    "hgrn": "min_lstm",
    "qrnn_f": "qrnn_fo_w2",
    "qrnn_fo": "qrnn_fo_w2",
    "qrnn_ifo": "qrnn_fo_w2",
    "qrnn_f_w2": "qrnn_fo_w2",
    "qrnn_ifo_w2": "qrnn_fo_w2",
    "ligru": "ligru_layer_norm",
}
"""Cells that differ from another in their elementwise map alone, by the one that stands for them: what is proven of all
cells is slow for these, but for their equations, derivatives and laws."""
OF_EVERY_CELL = ("test_a_pass_equals_the_equations_written_out", "test_every_cell_is_proven")


def _is_a_variant_s(item):
    if item.path.parent.name == "cells":
        return False
    values = getattr(item, "callspec", None) and item.callspec.params.values()
    names = {getattr(value, "name", value) for value in values or () if isinstance(getattr(value, "name", value), str)}
    return bool(names & VARIANTS.keys())


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    for item in filter(_is_a_variant_s, items):
        item.add_marker(pytest.mark.slow)
    if config.getoption("-m") or any(arg in ("-m", "-m=") for arg in sys.argv) or any("::" in a for a in config.args):
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if not item.get_closest_marker("slow")]


@contextlib.contextmanager
def few_lines(most):
    """Within it, so many lines of Python at most are run by what is called: work, counted; no clock."""
    count = 0

    def trace(frame, event, arg):
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)
    assert count <= most


@pytest.fixture(name="few_lines")
def _few_lines():
    return few_lines


@pytest.fixture(autouse=True)
def _the_same_networks_in_every_run():
    """Networks that are made without an `rng` are drawn anew from the same seed in each test."""
    from unrolled import manual_seed

    manual_seed(0)
