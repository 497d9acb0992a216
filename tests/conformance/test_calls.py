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

pytest.importorskip("unrolled.backends.cpu.kernels", reason="the native engine is not built", exc_type=ImportError)
import unrolled as ur
from unrolled.models import sampling as sample
from unrolled.nn.network import Network
from unrolled.nn.spec import Spec


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
    grown = []
    for _ in range(4):
        before = resident()
        calls(2_500)
        grown.append(resident() - before)
    # The heap of a process that ran other tests may grow once, by megabytes; a leak grows in every part. Less than 27
    # bytes a call: no array, no tape.
    assert min(grown) < 1 << 16, grown


INTERRUPTED = """
import signal, sys
import numpy as np
import unrolled as ur
net = ur.LSTM(3, 512, cell=sys.argv[1], backend="cpu")
x = np.zeros((50_000, 1, 3), np.float32)  # seconds
heard = []

def hear(signum, frame):
    heard.append(signum)
    print("heard", flush=True)
    if len(heard) == 3:
        raise KeyboardInterrupt

signal.signal(signal.SIGINT, hear)
print("ready", flush=True)
try:
    net(x)
    print("returned", flush=True)
except KeyboardInterrupt:
    print("stopped", flush=True)
y, _ = net(x[:3])
assert np.isfinite(y).all()
"""


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
@pytest.mark.parametrize(("cell", "threads"), [("lstm", "1"), ("lstm", "2"), ("lstm_use_gate", "1")])
def test_ctrl_c_is_heard_within_a_call_each_time_and_stops_it(cell, threads):
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, cell],
        env=os.environ | {"UNROLLED_THREADS": threads},
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.2)
        for _ in range(3):  # what came while the engine looked for none would be one signal, after the call
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == "heard\n"
        assert process.stdout.readline() == "stopped\n"
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


def child(code, *arguments, **environment):
    """Run a program; its status and what it said on standard error."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stderr


UNLIMITED = """
import resource, threading
import numpy as np
import unrolled as ur
net = ur.LSTM(40, 50, backend="cpu")
x = np.ones((20, 16, 40), np.float32)
y, _ = net(x)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 100 * 2**20,) * 2)  # the stacks of some ten threads
from unrolled import backends
backends.set_threads(1024)
z, _ = net(x)
assert np.array_equal(y, z)
assert threading.active_count() == 1
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="limits the memory to what is in use, by /proc")
@pytest.mark.skipif("libasan" in os.environ.get("LD_PRELOAD", ""), reason="a sanitizer reserves all addresses")
def test_where_no_more_threads_can_be_made_those_there_are_do_the_work():
    assert child(UNLIMITED) == (0, "")


DAEMON = """
import sys, threading, time
import numpy as np
import unrolled as ur
from unrolled.models import sampling as sample
from unrolled.nn.network import Network
from unrolled.nn.spec import Spec
if sys.argv[1] == "drawing":
    net = Network(Spec(300, "lstm", 0, 200, 2), backend="cpu")
    sampler = net.sampler(net.zero_state(1), 10)
    work = lambda: sampler.sample(1, np.full(10_000, 0.5), 1.0)
else:
    net = ur.LSTM(64, 256, cell=sys.argv[1], backend="cpu")
    x = np.zeros((500, 32, 64), np.float32)
    work = lambda: net.forward(x)
begun = threading.Event()
def for_ever():
    while True:
        begun.set()
        try:
            work()
        except Exception:
            pass
for _ in range(2):
    threading.Thread(target=for_ever, daemon=True).start()
begun.wait()
time.sleep(float(sys.argv[2]))
"""


@pytest.mark.parametrize("threads", ["1", "2"])
@pytest.mark.parametrize("work", ["lstm", "lstm_use_gate", "drawing"])
def test_a_program_may_end_while_daemon_threads_are_in_calls(work, threads):
    assert child(DAEMON, work, "0.05", UNROLLED_THREADS=threads) == (0, "")


def test_two_threads_may_use_one_sampler():
    """Each call is drawn whole; from a state that another one left, so which tokens come is up to the order."""
    net = Network(Spec(11, "lstm", 5, 8, 1), backend="cpu")
    sampler, found = net.sampler(net.zero_state(1), 0), []

    def draw(seed):
        u = np.random.default_rng(seed).random(40)
        for _ in range(100):
            found.append(sampler.sample(1, u, 1.0))
            sampler.start(net.zero_state(1))

    threads = [threading.Thread(target=draw, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(tokens) for tokens in found] == [40] * 300
    assert {token for tokens in found for token in tokens} <= set(range(11))


def test_a_sampler_keeps_what_it_reads():
    """The embedding's memory may be given back, the array resized, while its sampler lives."""
    net = Network(Spec(300, "lstm", 5, 8, 1), backend="cpu")
    embedding = net.params["embedding.weight"]
    state = net.zero_state(1)
    sampler = net.sampler(state, 1)  # 300 symbols, one token: the embedding is not folded
    want = sampler.sample(7, np.linspace(0.1, 0.9, 9), 1.0)
    embedding[...] = np.nan
    sampler.start(state)
    assert sampler.sample(7, np.linspace(0.1, 0.9, 9), 1.0) == want


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("temperature", [0, 1.0])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_no_text(backend, temperature, bad):
    net = Network(Spec(67, "lstm", 0, 5, 1), backend=backend)
    net.params["decoder.bias"][40] = bad
    with pytest.raises(ur.UnrolledError) as raised:
        list(sample.tokens(net, np.array([3]), 5, temperature, np.random.default_rng(0)))
    assert str(raised.value) == "the network's outputs are not finite: its weights are too large"
    net.params["decoder.bias"][40] = -np.inf  # a probability of 0
    drawn = list(sample.tokens(net, np.array([3]), 50, temperature, np.random.default_rng(0)))
    assert len(drawn) == 50
    assert 40 not in drawn


SHARED = """
import time
from pathlib import Path
import numpy as np
import unrolled as ur
from unrolled import backends

def tasks():
    time.sleep(0.1)  # a thread that worked spins for 200 microseconds, and then goes to sleep
    found = {}
    for path in Path("/proc/self/task").iterdir():
        said = dict(line.split(":") for line in (path / "status").read_text().splitlines())
        found[path.name] = int(said["voluntary_ctxt_switches"])
    return found

net = ur.LSTM(4, 16, backend="cpu")
few, many = np.zeros((2000, 1, 4), np.float32), np.zeros((2000, 64, 4), np.float32)
backends.set_threads(1)
net(many)
before = tasks()
backends.set_threads(2)
net(many)
started = tasks()
(helper,) = started.keys() - before.keys()
net(few)
print(tasks()[helper] - started[helper])
net(many)
print(tasks()[helper] > started[helper])
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="what threads do is read from /proc")
def test_a_network_of_one_panel_shares_no_step():
    """At batch 1 its threads would only wait for each other; on a busy machine, for the scheduler."""
    done = subprocess.run([sys.executable, "-c", SHARED], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("0\nTrue\n", "")


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
