"""Series of a table: what its columns are, the grid of its times, and what is refused, with the row."""

import numpy as np
import pytest

import unrolled as ur
from unrolled.data.series import Columns, read_series
from unrolled.data.times import HOUR, Grid, calendar, calendar_of, grid_of, parse_times

HOURS = [f"2024-02-28 {hour:02}:00" for hour in range(24)] + [f"2024-02-29 {hour:02}:00" for hour in range(4)]


def table(tmp_path, *rows, name="load.csv"):
    path = tmp_path / name
    path.write_text("\n".join(rows) + "\n")
    return path


def test_a_wide_table_is_a_series_a_column(tmp_path):
    path = table(tmp_path, "when,load,heat", *(f"{time},{n},{n / 4}" for n, time in enumerate(HOURS)))
    found = read_series(path, target="all")
    assert found.columns == Columns(("load", "heat"), "when")
    assert found.grid == Grid("microsecond", HOUR)
    assert [s.name for s in found.series] == ["load", "heat"]
    np.testing.assert_array_equal(found.series[1].values, np.arange(28) / 4)
    assert found.grid.texts(found.grid.after(found.series[0].times[-1:], [1])) == ["2024-02-29 04:00:00"]


def test_a_long_table_is_a_series_an_id_each_with_times_of_its_own(tmp_path):
    rows = ["a,2024-01-01,1", "b,2024-01-05,10", "a,2024-01-02,2", "b,2024-01-06,11", "a,2024-01-03,3"]
    found = read_series(table(tmp_path, "shop,day,sold", *rows), id="shop")
    assert [(s.name, s.values.tolist()) for s in found.series] == [("a", [1, 2, 3]), ("b", [10, 11])]
    assert found.grid.title == "1 day"
    two = read_series({"k": ["u", "u", "v", "v"], "p": [1, 2, 3, 4.0], "q": [5, 6, 7, 8.0]}, id="k", target="q,p")
    assert [(s.name, s.values.tolist()) for s in two.series][2:] == [("v q", [7, 8]), ("v p", [3, 4])]


@pytest.mark.parametrize(
    ("texts", "title", "after"),
    [
        (["2023-11-01", "2023-12-01", "2024-01-01"], "1 month", "2024-02-01"),
        (["2023-11", "2023-12", "2024-01"], "1 month", "2024-02-01"),
        (["2023-12-31", "2024-01-31", "2024-02-29"], "1 month", "2024-03-31"),
        (["2023Q2", "2023Q3", "2023Q4"], "3 months", "2024-01-01"),
        (["2021-05-03", "2022-05-03", "2023-05-03"], "1 year", "2024-05-03"),
        (["2024-03-07", "2024-03-08", "2024-03-11", "2024-03-12"], "1 weekday", "2024-03-13"),
        (["30.12.2023", "31.12.2023", "01.01.2024"], "1 day", "2024-01-02"),
        (["12/30/2023", "12/31/2023", "1/1/2024"], "1 day", "2024-01-02"),
        (["20240228", "20240229", "20240301"], "1 day", "2024-03-02"),
        (["2024-02-29T23:15Z", "2024-02-29T23:30Z", "2024-03-01T00:45+01:00"], "15 minutes", "2024-03-01 00:00:00"),
        (["0.5", "1", "1.5"], "0.5", "2"),
    ],
)
def test_times_are_understood(texts, title, after):
    times = parse_times(texts)
    grid = grid_of([times], "{} {}".format)
    assert grid.title == title
    np.testing.assert_array_equal(grid.places(times), np.arange(len(texts)))
    assert grid.texts(grid.after(times[-1:], [1])) == [after]


def test_a_grid_has_the_calendars_seasons():
    assert Grid("microsecond", HOUR).seasons() == (24, 168)
    assert Grid("month", 1).seasons() == (12,)
    assert Grid("weekday", 1).seasons() == (5,)
    assert Grid("microsecond", 7 * 24 * HOUR).seasons() == (52,)
    assert calendar_of(Grid("microsecond", 24 * HOUR), 1000) == ("weekday", "year")
    assert calendar_of(Grid("number", 1), 1000) == ()
    monday_noon = calendar(parse_times(["2024-03-04 12:00"]), ["hour", "weekday"])
    angle = 2 * np.pi / 14  # half a day of seven
    np.testing.assert_allclose(monday_noon, [[0, -1, np.sin(angle), np.cos(angle)]], atol=1e-15)


def test_gaps_and_missing_values_are_filled_when_asked_for(tmp_path):
    path = table(tmp_path, "time,y", "2024-01-01,1", "2024-01-02,", "2024-01-03,3", "2024-01-06,9")
    assert read_series(path, fill="linear").series[0].values.tolist() == [1, 2, 3, 5, 7, 9]
    last = read_series(path, fill="last")
    assert last.series[0].values.tolist() == [1, 1, 3, 3, 3, 9]
    assert last.notes == ("3 steps filled: last",)
    assert last.grid.texts(last.series[0].times)[3] == "2024-01-04"


def test_rows_of_the_future_have_what_is_known_and_no_target(tmp_path):
    path = table(tmp_path, "t,y,price", "1,5,0.1", "2,6,0.2", "3,,0.3", "4,,0.4")
    found = read_series(path, known="price").series[0]
    assert (found.values.tolist(), found.known.ravel().tolist()) == ([5, 6], [0.1, 0.2, 0.3, 0.4])


ROWS = ["date,y,z", "2024-01-01,1,4", "2024-01-02,2,5", "2024-01-03,3,6"]


@pytest.mark.parametrize(
    ("rows", "how", "said"),
    [
        ([*ROWS, "2024-01-03,4,7"], {"target": "y"}, "load.csv, line 5, 'date': the time stands there twice"),
        ([*ROWS, "2023-12-31,4,7"], {"target": "y"}, "line 5, 'date': the time is before that of the row above"),
        ([*ROWS, "2024-01-07,4,7"], {"target": "y"}, "line 5: the time goes from 2024-01-03 to 2024-01-07, 3 steps of"),
        ([*ROWS, "2024-01-04 06:00,4,7"], {"target": "y"}, "line 5: the time lies beside the steps of 1 day"),
        ([*ROWS, "2024-01-04,oops,7"], {"target": "all"}, "line 5: 'y' is 'oops'; expected a number"),
        ([*ROWS, "2024-01-04,NaN,7"], {"target": "all"}, "line 5: 'y' is missing; training with --fill linear or"),
        ([*ROWS, "2024-01-04,inf,7"], {"target": "all"}, "line 5: 'y' is infinite; expected a number"),
        ([*ROWS, "soon,4,7"], {"target": "y"}, "line 5: the time is 'soon'; expected a time such as 2024-03-31"),
        ([*ROWS, "2024-01-04,1e300,7"], {"target": "y"}, "line 5: 'y' is 1e+300; expected a number below 1e+30"),
        (
            [*ROWS, "2024-01-04,4,-2e30"],
            {"target": "y", "known": "z"},
            "line 5: 'z' is -2e+30; expected a number below",
        ),
        ([*ROWS, "9999-12-31,4,7"], {"target": "y", "fill": "last"}, "hardly any steps are there; check the times"),
        (["who,y", "a,1", " ,2"], {"target": "y", "id": "who"}, "line 3: 'who' is empty; expected the series"),
        (ROWS, {}, "name what to forecast with --target: y, z, or all"),
        (ROWS, {"target": "yy"}, "no column is called 'yy'; did you mean 'y'?"),
        (ROWS, {"target": "date"}, "'date' is to be forecast, and the time, the id or known too"),
        (ROWS, {"target": "y,y"}, "--target names y, y; name each column once"),
        (ROWS, {"target": "y", "time": "z", "known": "dates"}, "no column is called 'dates'; did you mean 'date'?"),
        (["a,b,y", "2024-01-01,2024-01-02,1"], {}, "several columns hold times, a, b; name one with --time"),
        (["date,y", "1/2/2024,1", "2/2/2024,3"], {}, "days and months of the times can't be told apart"),
        (["date,y", "whenever,1"], {}, "line 2: the time is 'whenever'; expected a time"),
        (["date,y", "2024-01-01,1"], {}, "line 2, 'date': no series has two times"),
        (["date,y", "2024-01-01,", "2024-01-02,"], {"target": "y", "fill": "last"}, "line 2: 'y' has no values at all"),
    ],
)
def test_what_is_no_series_is_refused_in_one_line_with_its_row(tmp_path, rows, how, said):
    with pytest.raises(ur.UnrolledError) as error:
        read_series(table(tmp_path, *rows), **how)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_arrays_and_columns_in_memory_are_series():
    array = np.arange(6.0).reshape(3, 2)
    found = read_series(array, target="all")
    assert [(s.name, s.values.tolist()) for s in found.series] == [("series 1", [0, 2, 4]), ("series 2", [1, 3, 5])]
    assert read_series(array[:, 0]).columns == Columns(("series",))
    with pytest.raises(ur.UnrolledError, match=r"the data, line 2: 'series' is missing"):
        read_series(np.array([1, np.nan, 2]))
    with pytest.raises(ur.UnrolledError, match=r"the columns have 2, 3 rows"):
        read_series({"a": [1, 2], "b": [1, 2, 3]})
    for odd in (1, [[1, 2], [3, 4]], "text"):
        with pytest.raises(ur.UnrolledError, match=r"^the column 'y' is .*; expected a number or a time a row$"):
            read_series({"y": odd})
    with pytest.raises(ur.UnrolledError, match=r"the data, line 1: 'y' is infinite; expected a number"):
        read_series({"y": [10**400, 1, 3]})
    with pytest.raises(ur.UnrolledError, match=r"^several columns are called '1'; rename all but one$"):
        read_series({1: [1, 2], "1": [3, 4]})
    with pytest.raises(ur.UnrolledError, match=r"^target is 5; expected the name of a column"):
        read_series({"y": [1, 2]}, target=5)
    with pytest.raises(ur.UnrolledError, match=r"there is no column to forecast beside date$"):
        read_series({"date": ["2024-01-01", "2024-01-02"]})
    with pytest.raises(ur.UnrolledError, match=r"^the data has no columns; expected a file, numbers"):
        read_series({})
    with pytest.raises(ur.UnrolledError, match=r"^the series has rows of unequal length; expected an array"):
        read_series([[1, 2], [3]])
    with pytest.raises(ur.UnrolledError, match=r"2 files of series; put them into one"):
        read_series(["a.csv", "b.csv"])


def test_a_data_frame_is_its_columns():
    pandas = pytest.importorskip("pandas")
    index = pandas.date_range("2024-01-30", periods=3, freq="D")
    found = read_series(pandas.DataFrame({"y": [1.0, 2.0, 3.0]}, index=index))
    assert (found.columns, found.grid.title) == (Columns(("y",), "time"), "1 day")
    assert read_series(pandas.DataFrame({"ds": index, "y": [1, 2, 3]})).columns == Columns(("y",), "ds")


def test_an_index_of_times_is_a_column_of_them():
    pandas = pytest.importorskip("pandas")
    index = pandas.date_range("2024-01-30", periods=3, freq="D")
    for times in (index, index.to_period("D"), index.rename("")):
        found = read_series(pandas.Series([1.0, 2.0, 3.0], index=times))
        assert (found.columns, found.grid.title) == (Columns(("series",), "time"), "1 day")
    weeks = pandas.Series([1.0, 2.0, 3.0], index=pandas.period_range("2024-01-01", periods=3, freq="W"))
    assert read_series(weeks).grid.title == "1 week"
    gap = pandas.Series([1.0, 2.0, 3.0], index=index + pandas.to_timedelta([0, 0, 5], "D"))
    with pytest.raises(ur.UnrolledError, match=r"5 steps of 1 day missing"):
        read_series(gap)
    several = pandas.MultiIndex.from_product([["a", "b"], index])
    with pytest.raises(ur.UnrolledError, match=r"^the index has several levels; make columns of them"):
        read_series(pandas.DataFrame({"y": range(6)}, index=several))


def test_an_index_that_is_not_of_times_is_not_looked_at():
    """Names and numbers of rows are no series, nor times; and a column goes before an index of its name."""
    pandas = pytest.importorskip("pandas")
    index = pandas.date_range("2024-01-30", periods=2, freq="D")
    texts = [str(day) for day in index.date]
    for other in ([7, 9], [0.5, 0.1], ["a", "b"], [True, False], texts, pandas.CategoricalIndex(["a", "b"])):
        assert read_series(pandas.Series([1.0, 2.0], index=other)).columns == Columns(("series",))
        found = read_series(pandas.DataFrame({"a": [1, 2], "b": [3, 4]}, index=other), target="all")
        assert found.columns == Columns(("a", "b"))
        found = read_series(pandas.DataFrame({"date": texts, "b": [3, 4]}, index=other))
        assert found.columns == Columns(("b",), "date")
    several = pandas.MultiIndex.from_product([["a"], [1, 2]])
    assert read_series(pandas.DataFrame({"y": [1, 2]}, index=several)).columns == Columns(("y",))
    for named in (index.rename("y"), index):
        found = read_series(pandas.DataFrame({"y": [1, 2], "time": [3, 4]}, index=named), target="y")
        assert found.columns == Columns(("y",), "time")


def test_what_pandas_has_for_missing_is_missing():
    pandas = pytest.importorskip("pandas")
    for column in (pandas.Series([1, None, 3], dtype="Int64"), pandas.Series([True, None, False], dtype="boolean")):
        assert read_series({"y": column}, fill="last").series[0].values[1] == 1
