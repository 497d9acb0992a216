"""What the proofs of the engine share: problems of any size, and the engine beside the reference."""

import numpy as np
import pytest
from own_cell import OWN

from unrolled.cells import CELLS
from unrolled.reference import scan

kernels = pytest.importorskip(
    "unrolled.backends.cpu.kernels", reason="the native engine is not built", exc_type=ImportError
)

ALL = {**CELLS, "own": OWN}


def problem(cell, dtype, T, B, I, H, *, bias=True, scale=1.0, seed=0, proj=0):
    """Random parameters, inputs, states and gradients of one layer."""
    rng = np.random.default_rng(seed)
    draw = lambda *shape: (scale * rng.standard_normal(shape)).astype(dtype)  # noqa: E731
    smaller = {"weight_ih": np.sqrt(I), "weight_hh": np.sqrt(H)}
    shapes = cell.shapes(I, H, bias=bias, proj=proj)
    widths = [proj or H, *[H] * (len(cell.state_fields) - 1)]
    w = {name: draw(*shape) / np.dtype(dtype).type(smaller.get(name, 1)) for name, shape in shapes.items()}
    x = rng.standard_normal((T, B, I)).astype(dtype)
    s = cell.state(*(rng.standard_normal((B, width)).astype(dtype) for width in widths))
    dy = rng.standard_normal((T, B, widths[0])).astype(dtype)
    ds = cell.state(*(rng.standard_normal((B, width)).astype(dtype) for width in widths))
    return w, x, s, dy, ds


def masks(cell, kind, T, B, H, proj=0):
    """`live`, `keep` and `drop` of a kind such as live_keep: a row without a step, zoneout, its mixture, dropout."""
    rng = np.random.default_rng(5)
    live = np.arange(T)[:, None] < np.append(0, rng.integers(0, T + 1, B - 1)) if "live" in kind else None
    keep = drop = None
    if "keep" in kind:
        fields = [rng.random((T, B, H if n else proj or H)) < 0.3 for n in range(len(cell.state_fields))]
        keep = cell.state(*fields)
    if "mix" in kind:  # the first field by a rate, the second not at all
        keep = cell.state(*(0.25 if n == 0 else None if n == 1 else 0.5 for n in range(len(cell.state_fields))))
    if "drop" in kind:
        drop = np.where(rng.random((T, B, H)) < 0.4, 0, 1 / 0.6)
    return {"live": live, "keep": keep} | ({} if drop is None else {"drop": drop})


def close(got, want, what, tolerance):
    """Compare with the largest number of the array as the scale: sums have the error of their largest part."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, what
    assert got.dtype == want.dtype, what
    if want.size:
        same = got == want  # infinities
        error = np.abs(np.where(same, 0, got - want)).max() / max(
            1, np.abs(want[np.isfinite(want)], dtype="f8").max(initial=0)
        )
        assert error <= tolerance, f"{what}: {error:.2e} > {tolerance:.2e}"


def compare(cell, w, x, s, dy, ds, *, engine=kernels, factor=1.0, **masks):
    """Run both backends and compare everything."""
    with np.errstate(all="ignore"):
        if "drop" in masks:
            masks["drop"] = masks["drop"].astype(s[0].dtype)
        dtype = s[0].dtype
        T, _, H = dy.shape
        # Each sum has H + I or T B terms with a rounding each, and T steps pass errors on; gates are contractions.
        tolerance = factor * 40 * np.sqrt(T + 1) * np.finfo(dtype).eps * (1 + np.sqrt(H / 16))
        y1, s1, tape1 = scan.forward(cell, w, x, s, scan.ScanMasks(**masks))
        y2, s2, tape2 = engine.forward(cell, w, x, s, scan.ScanMasks(**masks))
        y3, s3, none = engine.forward(cell, w, x, s, scan.ScanMasks(**masks), record=False)
        assert none is None
        assert np.array_equal(y2, y3, equal_nan=True)
        close(y2, y1, "y", tolerance)
        for name, a, b, c in zip(s1._fields, s1, s2, s3, strict=True):
            close(b, a, f"final {name}", tolerance)
            assert np.array_equal(b, c, equal_nan=True)
        for n, (a, b) in enumerate(zip(tape1.kept, getattr(tape2, "kept", ()), strict=False)):
            assert (a is None) == (b is None)
            for name in a._fields if a else ():
                close(getattr(b, name), getattr(a, name), f"stage {n}: kept.{name}", tolerance)
        for kind in ("states", "gates", "proposed"):
            for name in getattr(tape1, kind)._fields:
                close(
                    getattr(getattr(tape2, kind), name),
                    getattr(getattr(tape1, kind), name),
                    f"{kind}.{name}",
                    tolerance,
                )
        close(tape2.y, tape1.y, "tape.y", tolerance)
        for name in tape1.norms:
            for a, b, what in zip(tape1.norms[name], tape2.norms[name], ("rows", "1 / deviation"), strict=True):
                close(b, a, f"norms[{name}], {what}", tolerance)
        dx1, ds1, grads1 = scan.backward(tape1, dy, ds)
        dx2, ds2, grads2 = engine.backward(tape2, dy, ds)
        assert sorted(grads1) == sorted(grads2)
        if dx1 is None:
            assert dx2 is None
        else:
            close(dx2, dx1, "dx", 2 * tolerance)
        for name, a, b in zip(ds1._fields, ds1, ds2, strict=True):
            close(b, a, f"initial d{name}", 2 * tolerance)
        for name in grads1:
            close(grads2[name], grads1[name], f"d {name}", 2 * tolerance)


every_cell = pytest.mark.parametrize("cell", ALL.values(), ids=ALL)
every_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])
