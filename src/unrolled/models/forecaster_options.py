"""The options of a forecaster: its series, how they are read, and what it is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from ..cells import Cell
from ..checks import check_size
from ..data.series import FILLS
from ..data.windows import INSTANCES, OUTPUTS
from ..declared import Declared, again, documented, one_of, option
from ..errors import UnrolledError
from ..keywords import suggesting
from .options import ModelOptions
from .plan import LOSSES

GROUP = "Series"
LONGEST = 1_000_000
"""Steps of a context, a horizon or a segment, at most."""


@dataclass(frozen=True)
class SeriesOptions(Declared):
    """Options of series and their forecasts."""

    target: str = option(
        "",
        "Columns to forecast, with commas between, or all.",
        GROUP,
        also=("--targets",),
        unset="the only column of numbers",
    )
    horizon: int = option(24, "Steps to forecast.", GROUP, partial(check_size, most=LONGEST))
    context: int = option(
        0,
        "Steps that a forecast is made from; 0 chooses.",
        GROUP,
        partial(check_size, least=0, most=LONGEST),
        about="Steps that a forecast is made from, whole segments; 0: four horizons or two seasons, whichever is more, "
        "but at most half of the shortest series.",
    )
    time: str = option("", "Column of times.", GROUP, unset="seen from its values")
    id: str = option("", "Column that names the series which a row is of.", GROUP)
    known: str = option(
        "",
        "Columns known beforehand, with commas between: prices, holidays.",
        GROUP,
        about="Columns that are known beforehand, with commas between, such as prices or holidays: a forecast reads "
        "their values over its horizon.",
    )
    calendar: bool = option(
        True,
        "Read hour, weekday and season of the year.",
        GROUP,
        about="Whether hour, weekday and season of the year are read, as sine and cosine, where times are dates and "
        "the series are long enough to show them.",
    )
    fill: str = option(
        "no",
        "Fill gaps and missing values: linear, last; no refuses them.",
        GROUP,
        one_of("way to fill gaps", FILLS),
        about="What gaps and missing values are filled with: linear, between neighbours; last, the value before; no "
        "refuses them.",
    )
    loss: str = option(
        "absolute",
        f"{', '.join(LOSSES)}.",
        GROUP,
        one_of("loss", LOSSES),
        about="What training minimises: the absolute, squared or Huber error of one number a step; quantile and "
        "gaussian learn how sure a forecast is too.",
    )
    output: str = option(
        "direct",
        "direct: all steps in one pass; recurrent: each fed back.",
        GROUP,
        one_of("output", OUTPUTS),
        about="How a horizon is forecast: direct, all segments in one pass; recurrent, each segment from the one "
        "before, which is the true one in training and the forecast one after it.",
    )
    instance: str = option(
        "last",
        "Normalise a window by its last value, mean, standard deviation, or none.",
        GROUP,
        one_of("normalisation", INSTANCES),
        about="What each window is normalised by: less its last value, less its mean, or that divided by its standard "
        "deviation too; none.",
        source="Kim et al. 2022",
    )
    apart: bool = option(
        False,
        "Give each series a decoder of its own.",
        GROUP,
        about="Whether each of several series has a decoder of its own; the layers before are shared.",
    )
    segment: int = option(
        0,
        "Steps that the network reads at once; 0 chooses.",
        GROUP,
        partial(check_size, least=0, most=LONGEST),
        about="Steps that the network reads, and gives, at once; 0: the divisor of the horizon that is nearest to 24.",
        source="Lin et al. 2023",
    )
    stride: int = option(
        1,
        "Steps between two forecasts that are scored.",
        GROUP,
        check_size,
        about="Steps between forecasts that are "
        "scored, in validation, test and `score`; training has one at every step.",
    )


@suggesting
@documented
@dataclass(frozen=True)
class Options(ModelOptions, SeriesOptions):
    """How to build and train a forecaster.

    Attributes
    ----------
    **options

    Examples
    --------
    >>> Options(horizon=96).segments()
    24
    """

    cell: str | Cell = again(ModelOptions, "cell", "gru_reset_after")
    embedding_size: int = again(ModelOptions, "embedding_size", 0)
    hidden_size: int | tuple[int, ...] = again(ModelOptions, "hidden_size", 256)
    num_layers: int = again(ModelOptions, "num_layers", 1)
    dropout: float = again(ModelOptions, "dropout", 0.5)
    batch_size: int = again(ModelOptions, "batch_size", 256, help="Windows a step.")
    epochs: float = again(ModelOptions, "epochs", 10.0)
    learning_rate: float | None = again(ModelOptions, "learning_rate", 1e-3)
    schedule: str = again(ModelOptions, "schedule", "cosine")
    grad_clip: float = again(ModelOptions, "grad_clip", 1.0)
    val_fraction: float = again(ModelOptions, "val_fraction", 0.1)
    test_fraction: float = again(ModelOptions, "test_fraction", 0.1)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("embedding_size", "tied", "label_smoothing"):
            if getattr(self, name):
                raise UnrolledError(f"{name} is {getattr(self, name)}; a forecaster reads numbers, and has no symbols")
        w = self.segments()
        for name in ("horizon", "context"):
            if getattr(self, name) % w:
                raise UnrolledError(f"{name} is {getattr(self, name)}; it must be whole segments of {w} (--segment)")

    def segments(self) -> int:
        """Return the steps of a segment: as asked for, or the divisor of the horizon that is nearest to 24."""
        if self.segment:
            return self.segment
        fitting = [w for w in range(1, self.horizon + 1) if self.horizon % w == 0 and self.context % w == 0]
        return min(fitting, key=lambda w: max(w / 24, 24 / w))
