"""Times of a table: read from texts, the grid that they lie on, and what a calendar says of them.

A time is a number: microseconds since 1970 of dates and clock times, or, where a column holds plain numbers, the number
itself. A grid counts in steps of a fixed size, in months or in weekdays, since none of the three is made of another.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..checks import Array
from ..errors import UnrolledError, brief

Times = NDArray[np.int64] | NDArray[np.float64]
SECOND = 10**6
MINUTE, HOUR, DAY = 60 * SECOND, 3600 * SECOND, 86_400 * SECOND
UNITS = ((7 * DAY, "week"), (DAY, "day"), (HOUR, "hour"), (MINUTE, "minute"), (SECOND, "second"))
SEASONS = {"month": 12, "weekday": 5}
_PARTS = re.compile(r"(\d{1,2})[./-](\d{1,2})[./-](\d{4})(?:[ T]+(.+))?")
_QUARTER = re.compile(r"(\d{4})-?[Qq]([1-4])")
_COMPACT = re.compile(r"(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])")


class Grid(NamedTuple):
    """Equal steps of time.

    Attributes
    ----------
    unit : str
        "microsecond", "month", "weekday", or "number" where times are plain numbers.
    size : float
        How many of them a step is.

    Examples
    --------
    >>> hourly = Grid("microsecond", 3600 * 10**6)
    >>> hourly.title, hourly.seasons(), hourly.texts(hourly.after(parse_times(["2024-02-28 23:00"]), 2))
    ('1 hour', (24, 168), ['2024-02-29 01:00:00'])
    >>> Grid("month", 1).texts(Grid("month", 1).after(parse_times(["2023-11-30"]), [1, 2, 3]))
    ['2023-12-31', '2024-01-31', '2024-02-29']
    """

    unit: str
    size: float

    @property
    def title(self) -> str:
        """A step in words: "1 hour", "15 minutes"."""
        size, unit = self.size, self.unit
        if unit == "number":
            return f"{size:g}"
        if unit == "microsecond":
            named = ((size / length, name) for length, name in UNITS if size % length == 0)
            size, unit = next(named, (size / SECOND, "second"))
        elif unit == "month" and size % 12 == 0:
            size, unit = size / 12, "year"
        return f"1 {unit}" if size == 1 else f"{size:g} {unit}s"

    def seasons(self) -> tuple[int, ...]:
        """Return the lengths, in steps, of what returns by the calendar: a day, a week, a year; the shortest first."""
        if self.unit == "number":
            return ()
        if self.unit == "month":
            lengths = [SEASONS["month"] / self.size]
        elif self.unit == "weekday":
            lengths = [SEASONS["weekday"] / self.size]
        else:
            year = (365.25 * DAY / self.size) if self.size == 7 * DAY else 0
            lengths = [DAY / self.size, 7 * DAY / self.size, round(year)]
        return tuple(int(n) for n in lengths if n >= 2 and n == int(n))

    def places(self, times: Times) -> NDArray[np.float64]:
        """Return how many steps after the first each time is; no whole numbers where it lies beside the grid."""
        if self.unit == "month":
            months = _days(times).astype("datetime64[M]").astype(int)
            return np.asarray((months - months[0]) / self.size, float)
        if self.unit == "weekday":
            days = _days(times)
            return np.asarray(np.busday_count(days[0], days) / self.size, float)
        return np.asarray((times - times[0]) / self.size, float)

    def after(self, times: Times, steps: Any) -> Times:
        """Return the times so many steps after these; from a month's last day to last days."""
        steps = np.asarray(steps)
        if self.unit == "number":
            return np.asarray(times + steps * self.size)
        if self.unit == "microsecond":
            return np.asarray(times + steps * int(self.size))
        days = _days(times)
        if self.unit == "weekday":
            moved = np.busday_offset(days, steps * int(self.size), roll="backward")
        else:
            month = days.astype("datetime64[M]")
            into, length = (days - month.astype("datetime64[D]")).astype(int), _length(month)
            then = month + np.asarray(steps * int(self.size), "timedelta64[M]")
            last = _length(then) - 1
            moved = then.astype("datetime64[D]") + np.where(into == length - 1, last, np.minimum(into, last))
        return np.asarray(times + (moved - days).astype(np.int64) * DAY)

    def texts(self, times: Times) -> list[str]:
        """Return times as they are written: dates alone where a step is whole days of midnights."""
        if self.unit == "number":
            return [f"{time:.15g}" for time in times.tolist()]
        dates = self.unit != "microsecond" or self.size % DAY == 0
        unit = "D" if dates and not (times % DAY).any() else "us" if (times % SECOND).any() else "s"
        return [str(time).replace("T", " ") for time in times.astype("datetime64[us]").astype(f"datetime64[{unit}]")]


def _days(times: Times) -> NDArray[np.datetime64]:
    return np.asarray(times).astype("datetime64[us]").astype("datetime64[D]")


def _length(months: Any) -> Any:
    """Return the days of months."""
    after = months + np.timedelta64(1, "M")
    return (after.astype("datetime64[D]") - months.astype("datetime64[D]")).astype(int)


def parse_times(texts: Sequence[str], row: Callable[[int], str] = "row {}".format) -> Times:
    """Return times as numbers: of plain numbers themselves, else microseconds since 1970.

    Parameters
    ----------
    texts : sequence of str
        Numbers, or ISO 8601 (also with a blank or slashes, a month "2024-03" or a quarter "2024Q1" alone, an offset
        from UTC, which is taken off), or day, month and year as "31.12.2024", in the order that the column shows.
    row : callable
        Names a row for messages.

    Raises
    ------
    UnrolledError
        If one is no time; names the row.

    Examples
    --------
    >>> parse_times(["0.5", "1"]).tolist(), parse_times(["1970-01-01 00:00", "1970-01-02T00:00:00Z"]).tolist()
    ([0.5, 1.0], [0, 86400000000])
    """
    texts = [text.strip() for text in texts]
    if all(map(_COMPACT.fullmatch, texts)):
        texts = [f"{text[:4]}-{text[4:6]}-{text[6:]}" for text in texts]
    try:
        numbers = np.array([float(text) for text in texts])
    except ValueError:
        return _dates(texts, row)
    if odd := np.flatnonzero(~np.isfinite(numbers)).tolist():
        raise UnrolledError(f"{row(odd[0])}: the time is {brief(texts[odd[0]], 60)}; expected a finite number")
    return numbers


def is_time(text: str) -> bool:
    """Whether a text is a date or a clock time, and no plain number."""
    if _COMPACT.fullmatch(text.strip()) or _PARTS.fullmatch(text.strip()):
        return True
    try:
        return parse_times([text]).dtype.kind == "i"
    except UnrolledError:
        return False


def _dates(texts: Sequence[str], row: Callable[[int], str]) -> NDArray[np.int64]:
    parts = [_PARTS.fullmatch(text) for text in texts]
    day_first = _day_first(parts, row) if all(parts) else False
    found = np.empty(len(texts), np.int64)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    for n, (text, part) in enumerate(zip(texts, parts, strict=True)):
        iso = text.replace("/", "-")
        if part is not None:
            one, two, year, clock = part.groups()
            day, month = (one, two) if day_first else (two, one)
            iso = f"{year}-{month:>02}-{day:>02}" + (f" {clock}" if clock else "")
        elif quarter := _QUARTER.fullmatch(text):
            iso = f"{quarter[1]}-{3 * int(quarter[2]) - 2:02}-01"
        elif re.fullmatch(r"\d{4}-\d\d?", iso):
            iso = f"{iso[:5]}{iso[5:]:>02}-01"
        try:
            time = datetime.fromisoformat(iso)
        except ValueError:
            expected = "a time such as 2024-03-31 or 2024-03-31 15:00"
            raise UnrolledError(f"{row(n)}: the time is {brief(text, 60)}; expected {expected}") from None
        since = (time if time.tzinfo else time.replace(tzinfo=UTC)) - epoch
        found[n] = (since.days * 86_400 + since.seconds) * SECOND + since.microseconds
    return found


def _day_first(parts: Sequence[re.Match[str] | None], row: Callable[[int], str]) -> bool:
    """Whether "1.2.2024" is in February: what a column shows by a day above 12."""
    first, second = (max(int(part[k]) for part in parts if part) for k in (1, 2))
    if (first > 12) == (second > 12):
        raise UnrolledError(f"{row(0)}: days and months of the times can't be told apart; write them as 2024-03-31")
    return first > 12


def grid_of(times: Sequence[Times], row: Callable[[int, int], str]) -> Grid:
    """Return the grid on which the times of series lie: the step that is most frequent in them.

    Parameters
    ----------
    times : sequence of (N,) arrays
        Of each series, rising.
    row : callable
        Of a series and a row -> what messages call it.

    Raises
    ------
    UnrolledError
        If times are doubled or fall, or no series has two; names the row.

    Examples
    --------
    >>> grid_of([parse_times(["2024-01-31", "2024-02-29", "2024-03-31"])], "{}, {}".format)
    Grid(unit='month', size=1.0)
    """
    gaps = [np.diff(some) for some in times]
    for s, some in enumerate(gaps):
        if len(odd := np.flatnonzero(some <= 0)):
            n = int(odd[0])
            what = "stands there twice" if some[n] == 0 else "is before that of the row above"
            raise UnrolledError(f"{row(s, n + 1)}: the time {what}; give each time once, in rising order")
    together = np.concatenate([*gaps, np.empty(0)])
    if not len(together):
        raise UnrolledError(f"{row(0, 0)}: no series has two times; expected one row a step")
    kinds, counts = np.unique(together, return_counts=True)
    usual = kinds[counts.argmax()]
    if times[0].dtype.kind == "f":
        return Grid("number", float(usual))
    if usual >= 28 * DAY and all(map(_monthly, times)):
        months = np.concatenate([np.diff(_days(some).astype("datetime64[M]")).astype(int) for some in times])
        kinds, counts = np.unique(months, return_counts=True)
        return Grid("month", float(kinds[counts.argmax()]))
    if usual == DAY and 3 * DAY in kinds and all(np.is_busday(_days(some)).all() for some in times):
        return Grid("weekday", 1.0)
    return Grid("microsecond", float(usual))


def _monthly(times: Times) -> bool:
    """Whether times are at one day of their months, or at the last of each."""
    days = _days(times)
    months = days.astype("datetime64[M]")
    into = (days - months.astype("datetime64[D]")).astype(int)
    return len(set(into.tolist())) == 1 or bool((into == _length(months) - 1).all())


CALENDAR = ("hour", "weekday", "year")
"""What a calendar says of a time, each as sine and cosine: where in the day, the week and the year it is."""


def calendar_of(grid: Grid, steps: int) -> tuple[str, ...]:
    """Return what of a calendar can be learnt from so many steps: what is longer than a step, and returned twice.

    Examples
    --------
    >>> calendar_of(Grid("microsecond", HOUR), 24 * 400), calendar_of(Grid("month", 1), 120)
    (('hour', 'weekday'), ('year',))
    """
    if grid.unit == "number":
        return ()
    step = grid.size * {"month": 30.4 * DAY, "weekday": DAY, "microsecond": 1}[grid.unit]
    lengths = zip(CALENDAR, (DAY, 7 * DAY, 365 * DAY), strict=True)
    return tuple(name for name, length in lengths if 2 * step <= length <= steps * step / 2)


def calendar(times: Times, names: Sequence[str]) -> Array:
    """Return sine and cosine of each part of a calendar, (N, 2 K).

    Examples
    --------
    >>> calendar(parse_times(["2024-03-31 06:00"]), ["hour"]).round(3).tolist()
    [[1.0, 0.0]]
    """
    year, clock = _days(times).astype("datetime64[Y]"), (times % DAY) / DAY
    turns = {
        "hour": clock,
        "weekday": ((times // DAY + 3) % 7 + clock) / 7,
        "year": (_days(times) - year.astype("datetime64[D]")).astype(float) / 366,
    }
    columns = [wave(2 * math.pi * turns[name]) for name in names for wave in (np.sin, np.cos)]
    return np.stack(columns, axis=-1) if columns else np.zeros((len(times), 0))
