"""What a long-running process asks of the engine: no leak, Ctrl-C, forks, many Python threads."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

cpu = pytest.importorskip("unrolled.backends.cpu", reason="the native engine is not built", exc_type=ImportError)
import unrolled as ur  # noqa: E402


def resident():
    """Bytes of memory in use."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory in use is read from /proc")
@pytest.mark.parametrize("cell", ["lstm", "gru_reset_before", "lstm_layer_norm"])
def test_no_leak_over_ten_thousand_calls(cell):
    net = ur.Recurrent(cell, 5, 17, backend="cpu")
    x = np.ones((6, 3, 5), np.float32)

    def calls(n):
        for _ in range(n):
            y, _, tape = net.forward(x)
            _ = tape.gates
            net.backward(tape, y)

    calls(500)
    before = resident()
    calls(10_000)
    assert resident() - before < 1 << 20  # less than 105 bytes a call: no array, no tape


INTERRUPTED = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background may have it ignored
import numpy as np
import unrolled as ur
net = ur.LSTM(256, 512, cell=sys.argv[1], backend="cpu")
x = np.zeros((1000, 64, 256), np.float32)
print("ready", flush=True)
try:
    while True:
        net.forward(x)
except KeyboardInterrupt:
    print("stopped", flush=True)
y, _ = net(x[:3])
assert np.isfinite(y).all()
"""


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
@pytest.mark.parametrize(("cell", "threads"), [("lstm", "1"), ("lstm", "2"), ("lstm_use_gate", "1")])
def test_ctrl_c_stops_a_call_within_a_second(cell, threads):
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, cell],
        env=os.environ | {"UNROLLED_THREADS": threads},
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.7)
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "stopped\n"
        assert time.monotonic() - start < 1
        assert process.wait(30) == 0


def run_once():
    net = ur.LSTM(40, 50, backend="cpu", rng=0)
    y, _, tape = net.forward(np.ones((20, 16, 40), np.float32))
    _, _, grads = net.backward(tape, y)
    return y, grads["weight_hh_l0"]


FORKED = """
import os
import numpy as np
import unrolled as ur
net = ur.LSTM(40, 50, backend="cpu")
x = np.ones((20, 16, 40), np.float32)
y, _ = net(x)
child = os.fork()
z, _ = net(x)
same = np.array_equal(y, z)
if child == 0:
    os._exit(0 if same else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) or not same)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_forked_child_has_threads_of_its_own():
    environment = os.environ | {"UNROLLED_THREADS": "2", "PYTHONWARNINGS": "ignore"}
    assert subprocess.run([sys.executable, "-c", FORKED], env=environment, timeout=60, check=False).returncode == 0


def test_python_threads_may_call_at_once():
    want, results = run_once(), []
    threads = [threading.Thread(target=lambda: results.extend(run_once() for _ in range(20))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 80
    assert all(np.array_equal(a, b) for got in results for a, b in zip(got, want, strict=True))


@pytest.mark.parametrize(
    ("name", "value"), [("UNROLLED_THREADS", "0"), ("UNROLLED_THREADS", "x"), ("UNROLLED_ISA", "mmx")]
)
def test_a_wrong_environment_is_a_clear_error(name, value):
    done = subprocess.run(
        [sys.executable, "-c", "import unrolled; unrolled.LSTM(4, 5)"],
        env=os.environ | {name: value},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert f"{name} is '{value}'" in done.stderr
