"""What the engine takes from its surroundings, and changes in them: processors, environment, BLAS, its own build."""

import copy
import math
import os
import threading
from dataclasses import replace

import numpy as np
import pytest
from threadpoolctl import threadpool_info

kernels = pytest.importorskip(
    "unrolled.backends.cpu.kernels", reason="the native engine is not built", exc_type=ImportError
)
from unrolled import UnrolledError, backends  # noqa: E402
from unrolled.backends.cpu import _engine, threads  # noqa: E402
from unrolled.cells import CELLS  # noqa: E402
from unrolled.nn.network import Network  # noqa: E402
from unrolled.nn.spec import Spec  # noqa: E402


def tree(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "processors"),
    [
        ({}, math.inf),
        ({"proc/self/cgroup": "0::/\n"}, math.inf),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, math.inf),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "nonsense\n"}, math.inf),
        (  # a group has no more than the one above it
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/cpu.max": "50000 100000\n",
                "sys/fs/cgroup/a/b/cpu.max": "300000 100000\n",
            },
            0.5,
        ),
        (  # version 1, and a path of the host's that a container does not see
            {
                "proc/self/cgroup": "4:memory:/x\n3:cpu,cpuacct:/docker/abc\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "250000\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            2.5,
        ),
        (
            {
                "proc/self/cgroup": "1:cpu:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            math.inf,
        ),
    ],
)
def test_a_control_group_s_share_of_the_processors(tmp_path, files, processors):
    assert threads.quota(tree(tmp_path, files)) == processors


@pytest.mark.parametrize(("share", "number"), [(0.5, 1), (1.9, 1), (2.0, 2), (math.inf, 3)])
def test_threads_by_default_are_no_more_than_that_share(monkeypatch, share, number):
    monkeypatch.setattr(threads, "quota", lambda: share)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    monkeypatch.setattr(threads, "_siblings", str)
    assert threads.usable_cores() == number


def test_weights_are_fetched_ahead_where_they_exceed_the_second_level_cache(tmp_path, monkeypatch):
    cache = "sys/devices/system/cpu/cpu0/cache/index"
    kinds = ((1, "Data", "48K"), (1, "Instruction", "32K"), (2, "Unified", "2048K"), (3, "Unified", "none"))
    names = ("level", "type", "size")
    files = {f"{cache}{i}/{name}": f"{kind[n]}\n" for i, kind in enumerate(kinds) for n, name in enumerate(names)}
    assert threads.cache_sizes(tree(tmp_path, files)) == {1: 48 * 1024, 2: 2048 * 1024}
    assert threads.cache_sizes(tmp_path / "sys") == {}
    monkeypatch.setattr(threads, "cache_sizes", lambda: {1: 3, 2: 5})
    assert [threads.fetched_above(wanted) for wanted in ("on", "", "off")] == [0, 5, 2**62]


@pytest.mark.parametrize("cell", ["lstm", "gru_reset_before", "lstm_use_gate"])
def test_weights_that_are_fetched_ahead_change_no_bit(cell):
    network = Network(Spec(150, cell, 21, 53, 2), rng=0)  # several groups of columns everywhere, the last one narrower
    x, y = np.random.default_rng(0).integers(0, 150, (2, 7, 9))
    before, results = _engine.fetched_above(), []
    for wanted in ("on", "off"):
        _engine.fetch_above(threads.fetched_above(wanted))
        loss, grads, _ = network.loss_and_gradients(x, y, None)
        results.append([np.float64(loss).tobytes()] + [grads[name].tobytes() for name in sorted(grads)])
    _engine.fetch_above(before)
    assert results[0] == results[1]


def blas_threads():
    return [lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"]


def test_blas_has_its_threads_back_when_the_last_has_left():
    """Two that overlap, the one that came first leaving first: each alone would restore the other's 1, for ever."""
    before, steps = blas_threads(), [threading.Event() for _ in range(3)]

    def other():
        with backends.undisturbed("cpu"):
            steps[0].set()
            steps[1].wait(10)
        steps[2].set()

    thread = threading.Thread(target=other)
    with backends.undisturbed("cpu"):
        thread.start()
        steps[0].wait(10)
        assert set(blas_threads()) <= {1}
    assert set(blas_threads()) <= {1}, "one is still in"
    steps[1].set()
    thread.join()
    assert blas_threads() == before
    with pytest.raises(KeyError), backends.undisturbed("cpu"):
        raise KeyError
    assert blas_threads() == before


def test_a_copied_cell_is_run_by_the_same_kernels():
    cell = CELLS["lstm"]
    same = copy.copy(cell)
    assert same == cell
    assert kernels.has_kernel(same)
    own = replace(CELLS["rnn_relu"], name="rnn_tanh")
    assert not kernels.has_kernel(own), "another cell of that name"


@pytest.fixture
def untouched():
    """Put back what `use_environment` changes."""
    number, isa = _engine.get_threads(), _engine.instruction_set()
    yield
    _engine.set_threads(number)
    _engine.select(isa)


@pytest.mark.usefixtures("untouched")
def test_an_instruction_set_is_named_in_any_case(monkeypatch):
    for isa in _engine.instruction_sets():
        for name in (isa.upper(), f" {isa.title()} "):
            monkeypatch.setenv("UNROLLED_ISA", name)
            threads.use_environment()
            assert threads.instruction_set() == isa


@pytest.mark.usefixtures("untouched")
def test_a_wrong_variable_is_one_line_that_names_it(monkeypatch):
    known = ", ".join(_engine.instruction_sets())
    monkeypatch.setenv("UNROLLED_ISA", "sse")
    with pytest.raises(UnrolledError) as raised:
        threads.use_environment()
    assert str(raised.value) == f"UNROLLED_ISA is 'sse'; this machine and this build have {known}"
    monkeypatch.setenv("UNROLLED_THREADS", "x")
    with pytest.raises(UnrolledError) as raised:
        threads.use_environment()
    assert str(raised.value) == "UNROLLED_THREADS is 'x'; it must be a whole number from 1 to 1024"


def test_the_build_says_how_it_was_made():
    build = backends.build_info()
    assert sorted(build) == ["build_type", "compiler", "flags", "nanobind", "picked", "runs", "system", "threads"]
    assert set(build["runs"]) <= set(build["flags"])
    assert build["picked"] == threads.instruction_set()
    assert all("-ffp-contract=off" in flags for flags in build["flags"].values()), "bits rest on it"
    assert build["threads"] == backends.threads()
