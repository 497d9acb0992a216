"""Accuracy of the engine's exp, sigmoid, tanh and log, in units of the last place, against NumPy in longer formats."""

import numpy as np
import pytest

pytest.importorskip("unrolled.backends.cpu.kernels", reason="the native engine is not built", exc_type=ImportError)
from unrolled.backends.cpu import _engine

LONGER = {"float32": np.float64, "float64": np.longdouble}


def ulps(name, x):
    """Largest error of `name` over x, in units of the last place of the true result; results below normal are 0."""
    got = np.empty_like(x)
    (_engine.map32 if x.dtype == np.float32 else _engine.map64)(name, x, got)
    with np.errstate(over="ignore", under="ignore"):
        longer = x.astype(LONGER[x.dtype.name])
        want = 1 / (1 + np.exp(-longer)) if name == "sigmoid" else getattr(np, name)(longer)
    info = np.finfo(x.dtype)
    normal = (np.abs(want) >= info.smallest_normal) & (np.abs(want) <= info.max)
    small = np.abs(want) < info.smallest_normal
    assert np.all(np.abs(got[small]) <= info.smallest_normal)
    assert np.all(got[~normal & ~small] == want[~normal & ~small].astype(x.dtype))
    unit = np.spacing(np.abs(want[normal]).astype(x.dtype)).astype(want.dtype)
    return float(np.max(np.abs(got[normal] - want[normal]) / unit))


def dense(dtype, low, high, count=400_001):
    """Evenly spaced numbers, and numbers spread over all exponents, of both signs."""
    rng = np.random.default_rng(0)
    exponents = rng.uniform(np.log2(np.finfo(dtype).smallest_normal) + 1, np.log2(high), count)
    tiny = 2.0**exponents
    x = np.concatenate([np.linspace(low, high, count), tiny, -tiny]).astype(dtype)
    return np.ascontiguousarray(x[(x >= low) & (x <= high)])


@pytest.mark.parametrize(("dtype", "low", "high"), [("float32", -87.3, 88.7), ("float64", -708, 709.7)])
def test_exp(dtype, low, high):
    assert ulps("exp", dense(dtype, low, high)) <= 2


@pytest.mark.parametrize(("dtype", "low", "high"), [("float32", -87.3, 100), ("float64", -708, 800)])
def test_sigmoid(dtype, low, high):
    assert ulps("sigmoid", dense(dtype, low, high)) <= 3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tanh(dtype):
    assert ulps("tanh", dense(dtype, -25, 25)) <= 3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_log(dtype):
    x = np.concatenate([dense(dtype, 0, 1e30 if dtype == "float32" else 1e300), dense(dtype, 0.5, 2)])
    assert ulps("log", x[x >= np.finfo(dtype).smallest_normal]) <= 2
    x = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, -1.0, 1.0, np.finfo(dtype).smallest_subnormal], dtype)
    y = np.empty_like(x)
    (_engine.map32 if dtype == "float32" else _engine.map64)("log", x, y)
    want = np.array([np.inf, np.nan, np.nan, -np.inf, -np.inf, np.nan, 0, -np.inf], dtype)
    assert np.array_equal(y, want, equal_nan=True)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ends(dtype):
    """Infinities, NaN, zero with its sign, denormals and numbers beyond the range."""
    x = np.array(
        [np.inf, -np.inf, np.nan, 0.0, -0.0, 1e4, -1e4, 1e30, -1e30, np.finfo(dtype).smallest_subnormal], dtype
    )
    run = _engine.map32 if dtype == "float32" else _engine.map64
    e, s, t = np.empty_like(x), np.empty_like(x), np.empty_like(x)
    run("exp", x, e)
    run("sigmoid", x, s)
    run("tanh", x, t)
    assert np.array_equal(e, np.array([np.inf, 0, np.nan, 1, 1, np.inf, 0, np.inf, 0, 1], dtype), equal_nan=True)
    assert np.array_equal(s, np.array([1, 0, np.nan, 0.5, 0.5, 1, 0, 1, 0, 0.5], dtype), equal_nan=True)
    assert np.array_equal(t, np.array([1, -1, np.nan, 0, -0.0, 1, -1, 1, -1, 0], dtype), equal_nan=True)
    assert np.signbit(t[4])
