"""Forecasts of windows: what the loop asks of a forecaster, and what its files are made with.

Letters: R windows, m segments of a horizon of H steps, T steps and F features of the network, K outputs a step.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..backends import choose
from ..checks import Array, check_a
from ..data.windows import Window, Windows
from ..errors import UnrolledError, count
from ..nn.network import Network
from ..training.trainer import Metrics
from .bands import Bands, calibrated, check_bands, reached
from .of_data import OfData
from .plan import LEVELS, Plan

_SCORES = 20_000_000
"""Values whose errors bands are found from, at most."""


class Forecasting(OfData):
    """A forecaster as the loop trains it: windows in, forecasts and their bands out, all standardised.

    Parameters
    ----------
    network : Network
    plan : Plan
    bands : Bands, optional
    """

    kind = "forecaster"
    nats = False

    def __init__(self, network: Network, plan: Plan, bands: Bands | None = None) -> None:
        super().__init__(check_a("network", network, Network, "a Network"))
        self.plan, self.bands = check_a("plan", plan, Plan, "a Plan"), bands
        self._seen: Windows | None = None
        self.reads = f"{count(plan.layout.features, 'number')} a step"
        sizes = network.spec.vocabulary_size, network.head.outputs
        if sizes != (plan.layout.features, plan.head().outputs):
            raise UnrolledError(f"the network reads and gives {sizes} numbers a step; the plan is of other sizes")
        if bands is not None:
            check_bands(bands, plan)

    @property
    def guess(self) -> float:
        """About the loss of a forecast that is the last value: values are scaled by how far they move."""
        return 1.0

    def evaluate(self, batches: Windows) -> Metrics:
        """Return the loss, the mean squared and absolute error of standardised values, and what bands hold."""
        total, squares, sizes, held, plan = 0.0, 0.0, 0.0, np.zeros(len(LEVELS)), self.plan
        self._seen = batches
        for k in range(len(batches)):
            window = batches.window(k)
            outputs = self._outputs(window)
            y, _ = plan.layout.targets((window.future - window.offset) / window.spread, window.series)
            loss, _ = self.network.head.loss(choose(self.backend), outputs, y[-len(outputs) :], gradient=False)
            total += loss * len(window.series)
            middle, lower, upper = self._ends(window, outputs)
            error = middle.astype(float) - window.future
            squares, sizes = squares + float((error * error).sum()), sizes + float(np.abs(error).sum())
            if lower is not None and upper is not None:
                held += ((lower <= window.future) & (window.future <= upper)).sum(axis=(1, 2))
        rows = len(batches.places)
        values = rows * plan.layout.horizon
        found = {"loss": total / rows, "mse": squares / values, "mae": sizes / values}
        if self.bands is not None:
            found |= {f"coverage_{100 * p:.0f}": float(h / values) for p, h in zip(LEVELS, held, strict=True)}
        return found

    def settle(self, val: Any) -> bool:
        """Find how wide bands must be to hold what they should where the model was validated; whether it did so."""
        if val is None or self.bands is not None:
            return False
        some = replace(val, places=val.places[:: -(-len(val.places) * self.plan.layout.horizon // _SCORES)])
        windows = [some.window(k) for k in range(len(some))]
        read = [(window, *self.plan.read(self._outputs(window), window.series)) for window in windows]
        self.bands = calibrated(self.plan, read)
        return True

    def preview(self, rng: np.random.Generator, length: int) -> str:
        """Return a forecast of the part to validate beside what came; as many steps as a line holds."""
        if self._seen is None:
            return ""
        windows = replace(self._seen, places=self._seen.places[[rng.integers(len(self._seen.places))]])
        window = windows.window(0)
        c = int(window.series[0])
        mean, deviation = self.plan.means[c], self.plan.deviations[c]
        shown = [
            " ".join(f"{v * deviation + mean:.4g}" for v in values[0, : min(length, 8)].tolist())
            for values in (self._ends(window)[0], window.future)
        ]
        return f"{self.plan.names[c]}: {shown[0]} (came: {shown[1]})"

    # --- forecasts of windows, standardised

    def _outputs(self, window: Window) -> Array:
        """Return the outputs of the m steps that are asked for a segment, (m, R, K)."""
        layout, x = self.plan.layout, window.x
        if layout.direct:
            return self.network(x)[0][-layout.asked :]
        outputs, state = self.network(x[: layout.read])
        found = [outputs[-1:]]
        for step in x[layout.read :]:  # each reads the forecast of the one before
            fed = step.copy()
            fed[:, : layout.segment] = self.plan.read(found[-1], window.series)[0]
            outputs, state = self.network(fed[None], state)
            found.append(outputs)
        return np.concatenate(found)

    def _ends(self, window: Window, outputs: Array | None = None) -> tuple[Array, Array | None, Array | None]:
        """Return the middle of forecasts (R, H) and the ends of their bands (levels, R, H), or None."""
        middle, reach = self.plan.read(self._outputs(window) if outputs is None else outputs, window.series)
        there = middle * window.spread + window.offset
        reach = reached(self.bands, reach, window.series)
        if reach is None:
            return there, None, None
        lower, upper = middle - reach[:, 0], middle + reach[:, 1]
        return there, lower * window.spread + window.offset, upper * window.spread + window.offset
