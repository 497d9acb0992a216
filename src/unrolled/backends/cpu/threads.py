"""The machine that the engine runs on: threads, the processors that this process may keep busy, the instruction set."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UnrolledError, brief
from . import _engine


def set_threads(n: int) -> None:
    """Use `n` threads from now on; results are the same, to the bit, for every number.

    Examples
    --------
    >>> before = get_threads()
    >>> set_threads(1)
    >>> get_threads()
    1
    >>> set_threads(before)
    """
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or not 1 <= n <= 1024:
        raise UnrolledError(f"the number of threads is {brief(n)}; it must be a whole number from 1 to 1024")
    _engine.set_threads(int(n))


def get_threads() -> int:
    """Return how many threads the engine uses.

    Examples
    --------
    >>> get_threads() >= 1
    True
    """
    return _engine.get_threads()


def shares_units(batch: int) -> bool:
    """Whether threads share the units of every step, not the rows of a batch: where these are few.

    Examples
    --------
    >>> shares_units(1), shares_units(32)
    (True, False)
    """
    return batch <= 2


def usable_cores() -> int:
    """Cores that this process may use: hyper-threads counted once, no more than its group's share of the processors.

    Examples
    --------
    >>> usable_cores() >= 1
    True
    """
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    cores = len({_siblings(cpu) for cpu in os.sched_getaffinity(0)})
    return max(1, int(min(cores, quota())))  # threads above the quota would spin it away and then wait, all of them


def quota(root: Path = Path("/")) -> float:
    """Return how many processors the control groups (version 1 or 2) of this process may keep busy; infinite without.

    Containers are limited so: `docker run --cpus=1.5`. A group has no more than those above it.

    Examples
    --------
    >>> quota() > 0
    True
    """
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return math.inf
    found = [math.inf]
    for line in lines:
        controllers, _, path = line.partition(":")[2].partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        group = Path(path.lstrip("/"))
        for mount in ("", "unified", "cpu", "cpu,cpuacct"):
            found += [_share(root / "sys/fs/cgroup" / mount / above) for above in (group, *group.parents)]
    return min(found)


def _share(group: Path) -> float:
    """Processors of one control group: `cpu.max` of version 2, `cpu.cfs_*_us` of version 1."""
    try:
        if (v2 := group / "cpu.max").exists():
            limit, period = v2.read_text(encoding="ascii").split()
        else:
            limit, period = ((group / f"cpu.cfs_{name}_us").read_text(encoding="ascii") for name in ("quota", "period"))
        return int(limit) / int(period) if limit.strip() != "max" and int(limit) > 0 and int(period) > 0 else math.inf
    except (OSError, ValueError):
        return math.inf


def _siblings(cpu: int) -> str:
    """Name of the core that a logical processor belongs to."""
    path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return str(cpu)


def cache_sizes(root: Path = Path("/")) -> dict[int, int]:
    """Return the bytes of each level of a core's caches that hold data; empty where the system does not tell them.

    Examples
    --------
    >>> all(size > 0 for size in cache_sizes().values())
    True
    """
    sizes = {}
    for path in (root / "sys/devices/system/cpu/cpu0/cache").glob("index*"):
        try:
            level, kind, size = (
                (path / name).read_text(encoding="ascii").strip() for name in ("level", "type", "size")
            )
            if kind != "Instruction" and int(size.removesuffix("K")) > 0:
                sizes[int(level)] = int(size.removesuffix("K")) * 1024
        except (OSError, ValueError):
            continue
    return sizes


def fetched_above(wanted: str) -> int:
    """Return the bytes of packed weights from which on a product fetches the next ones while it multiplies.

    Those of the second-level cache, unless `wanted` is "on" or "off": what lies there needs no fetching.

    Examples
    --------
    >>> fetched_above("on")
    0
    """
    never = 2**62
    if wanted not in ("on", "off", ""):
        raise UnrolledError(f"UNROLLED_PREFETCH is {brief(wanted)}; it must be on or off")
    return {"on": 0, "off": never}.get(wanted, cache_sizes().get(2, never))


def use_environment() -> None:
    """Take the number of threads, the instruction set and whether weights are fetched ahead from the environment."""
    _engine.fetch_above(fetched_above(os.environ.get("UNROLLED_PREFETCH", "").strip().lower()))
    ours, others = (os.environ.get(name, "").strip() for name in ("UNROLLED_THREADS", "OMP_NUM_THREADS"))
    if ours and not (ours.isdecimal() and len(ours) <= 4 and 1 <= int(ours) <= 1024):
        raise UnrolledError(f"UNROLLED_THREADS is {brief(ours)}; it must be a whole number from 1 to 1024")
    first = others.split(",")[0]  # OpenMP takes a list, a number a level; what makes no sense there is not ours to say
    _engine.set_threads(
        int(ours or 0) or (int(first) if first.isdecimal() and len(first) <= 3 else 0) or usable_cores()
    )
    wanted = os.environ.get("UNROLLED_ISA", "").strip()
    if wanted:
        known = _engine.instruction_sets()
        if wanted.lower() not in known:
            raise UnrolledError(f"UNROLLED_ISA is {brief(wanted)}; this machine and this build have {', '.join(known)}")
        _engine.select(wanted.lower())


def instruction_set() -> str:
    """Name of the instruction set that runs.

    Examples
    --------
    >>> instruction_set() in _engine.instruction_sets()
    True
    """
    return _engine.instruction_set()


def build_info() -> dict[str, Any]:
    """Return how the engine was built, as `backends.build_info` lists it."""
    picked = {"runs": _engine.instruction_sets(), "picked": instruction_set(), "threads": get_threads()}
    return _engine.build() | picked
