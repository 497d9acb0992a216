"""Labelled texts and series, in memory and in files of every kind."""

import contextlib
import gzip
import io
import zipfile

import numpy as np
import pytest

import unrolled as ur
from unrolled.data.examples import labelled
from unrolled.data.labelled import read_labelled


@pytest.fixture
def put(tmp_path):
    def put(name, data):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return str(path)

    return put


def refused(said, *args, **how):
    with pytest.raises(ur.UnrolledError, match=said) as caught:
        read_labelled(*args, **how)
    assert "\n" not in str(caught.value)


# --- texts


def test_tables_by_column(put):
    path = put("a.csv", 'id,review,mood\n1,"Very\ngood",glad\n2,bad,sad\n')
    found = read_labelled(path, text="review", label="mood")
    assert found.x == ["Very\ngood", "bad"]
    assert found.labels == ("glad", "sad")
    assert found.place(1).endswith("a.csv, line 4")
    for odd in ([True, False], [0.5], "ab", None, [[0]]):
        with pytest.raises(ur.UnrolledError, match=r"^rows are .*; expected whole numbers \(N,\)$"):
            found.part(odd)
    with pytest.raises(ur.UnrolledError, match=r"^rows are -1 to 9; there are 2 examples, from 0$"):
        found.part([9, -1])
    assert "".join(found.part([1]).table.written({"predicted": ["sad"]})) == "id,review,mood,predicted\n2,bad,sad,sad\n"


@pytest.mark.parametrize(
    ("text", "how"),
    [
        ("text,label\ngood,1\nbad,0\n", {}),
        ("text,mood\ngood,1\nbad,0\n", {"label": "mood"}),
        ("mood,review\n1,good\n0,bad\n", {"label": "mood"}),
        ("mood,review\n1,good\n0,bad\n", {"text": "review"}),
        ("x,label,y,text\n,1,,good\n,0,,bad\n", {}),
        ("1,a,good\n0,b,bad\n", {"text": "3", "label": "1"}),
    ],
)
def test_what_says_which_columns_are_which(put, text, how):
    found = read_labelled(put("a.csv", text), **how)
    assert (found.x, found.labels) == (["good", "bad"], ("1", "0"))


def test_json_lines_and_packed_tsv(put):
    lines = '{"text": "good", "label": 1}\n{"label": 0, "text": "bad"}\n'
    assert read_labelled(put("a.jsonl", lines)).labels == ("1", "0")
    packed = put("a.tsv.gz", gzip.compress(b"text\tlabel\ngood, or so\tx\n"))
    assert read_labelled(packed).x == ["good, or so"]


def test_several_tables_are_one_and_rows_keep_their_places(put):
    paths = [put("a.csv", "text,label\nx,1\n"), put("b.csv", "text,label\ny,2\nz,1\n")]
    found = read_labelled(paths)
    assert found.labels == ("1", "2", "1")
    assert found.place(2).endswith("b.csv, line 3")
    refused("has other columns than", [paths[0], put("c.csv", "text,label,more\ny,2,3\n")])


def test_a_folder_a_class(put, tmp_path):
    for name, text in (("neg/1.txt", "bad"), ("pos/b/2.txt", "good\nvery"), ("pos/1.txt", "fine"), ("README", "no")):
        put(f"moods/{name}", text)
    found = read_labelled(tmp_path / "moods")
    assert found.x == ["bad", "fine", "good\nvery"]
    assert found.labels == ("neg", "pos", "pos")
    assert found.table.names == ("file", "label")
    assert "1 beside the folders" in found.notes[0]
    assert read_labelled(tmp_path / "moods" / "pos", labels=False).x == ["fine", "good\nvery"]
    refused("has no folders", tmp_path / "moods" / "neg")


def test_a_file_a_class_by_the_ends_of_their_names_or_the_names(put):
    ends = [put("rt.pos", "good\n\n caf\xe9 \n".encode("latin-1")), put("rt.neg", "bad\n")]
    found = read_labelled(ends, encoding="ISO-8859-1")
    assert (found.x, found.labels) == (["good", "café", "bad"], ("pos", "pos", "neg"))
    refused(r"rt.pos: byte 0xe9 at offset 10 is not UTF-8; --encoding names the right one", ends)
    names = [put("glad.txt", "good\n"), put("sad.txt", "bad\n")]
    assert read_labelled(names).labels == ("glad", "sad")
    assert read_labelled(names[1], classes=("glad", "sad")).labels == ("sad",)
    assert read_labelled(names[1], labels=False).labels is None
    refused("glad.txt has no labels; expected a table", names[0])
    refused("two files are of the class 'pos'", [ends[0], put("other/rt.pos", "x\n"), ends[1]])


@pytest.mark.parametrize(
    ("text", "how", "said"),
    [
        (
            "review,mood\nx,1\n",
            {"text": "reviw", "label": "mood"},
            "no column is called 'reviw'; did you mean 'review'",
        ),
        ("review,mood\nx,1\n", {"text": "review", "label": "mod"}, "no column is called 'mod'; did you mean 'mood'"),
        ("a,b,c\nx,1,2\n", {"text": "a"}, "a, b, c, and nothing says which is the column of labels; --label names it"),
        ("a,b,c\nx,1,2\n", {"label": "a"}, "nothing says which is the column of texts; --text names it"),
        ("a,b,c\nx,1,2\n", {}, "nothing says which is the column of labels"),
        ("text,label\nx,1\n  ,2\n", {}, r"a.csv, line 3: the text is empty; leave it out"),
        ("text,label\nx,\n", {}, r"a.csv, line 2: the label is empty"),
        ("text,label\nx,1\n", {"text": "text", "id": "label"}, "--text is of texts and --id of series"),
    ],
)
def test_what_is_wrong_with_a_table_is_said_in_one_line(put, text, how, said):
    refused(said, put("a.csv", text), **how)


def test_files_of_mixed_kinds_and_options_of_others(put):
    table, series = put("a.csv", "text,label\nx,1\n"), put("b.ts", "@classLabel true a\n@data\n1:a\n")
    refused(r"a.csv is a table, .*b.ts series \(.ts\); expected files of one kind", [table, series])
    refused("--label names a column of a table", series, label="x")


# --- .ts

TS = """#A comment
@problemName Vowels
@timeStamps false
@missing true
@univariate false
@dimensions 2
@equalLength false
@classLabel true 1 2
@data
1,2.5,3:4,5,6:1
7,?:8,9:2
?,1,NaN,?:2,2,?,NaN:1
"""


def test_ts_files_have_unequal_lengths_and_missing_numbers(put):
    found = read_labelled(put("a.ts", TS))
    assert [series.tolist() for series in found.x] == [
        [[1, 4], [2.5, 5], [3, 6]],
        [[7, 8], [7, 9]],
        [[1, 2], [1, 2]],
    ]
    assert found.labels == ("1", "2", "1")
    assert found.channels == ("1", "2")
    assert found.x[0].dtype == np.float32
    assert found.place(0).endswith("a.ts, line 10")
    assert "".join(found.table.written({"predicted": ["1", "2", "2"]})).split("\n")[1] == "1,1,1"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("1,2:3:1", r"line 10: its channels have different lengths \(2, 1\)"),
        ("1,2:3,4:5,6:1\n1,2:3,4:1", r"line 11 has 2 channels, .*line 10 3"),
        ("1,two:3,4:1", "line 10: channel 1 has 'two'; expected a number"),
        ("1,2:3,4:3", r"line 10: no label of @classLabel is called '3'"),
        ("1,2:?,?:1", "line 10: channel 2 has no number"),
        (":1", "line 10: the series is empty"),
        ("?:?:1", "line 10: the series is empty"),
        ("1,inf:3,4:1", "line 10: step 2 of channel 1 is inf"),
        ("(1,2),(2,3):1", "has time stamps"),
        ("", "no series below @data"),
    ],
)
def test_what_is_wrong_with_a_ts_file(put, line, said):
    head = TS.split("@data\n")[0] + "@data\n"
    refused(said, put("a.ts", head + line + "\n"))


def test_ts_files_without_labels_are_for_predictions(put):
    path = put("a.ts", "@classLabel false\n@data\n1,2:3,4\n")
    assert read_labelled(path, labels=False).x[0].tolist() == [[1, 3], [2, 4]]
    refused("has no labels", path)
    refused("expected @data before the series", put("b.ts", "1,2:3,4:a\n"))


# --- .npz


def archive(tmp_path, **arrays):
    np.savez(tmp_path / "a.npz", **arrays)
    return str(tmp_path / "a.npz")


def test_npz_archives_of_equal_and_of_unequal_lengths(tmp_path):
    x, y = np.arange(24.0).reshape(2, 4, 3), np.array([5, 7])
    found = read_labelled(archive(tmp_path, x=x, y=y))
    assert (found.x[1] == x[1]).all()
    assert found.labels == (5, 7)
    found = read_labelled(archive(tmp_path, X=x, Y=np.array(["a", "b"]), lengths=np.array([4, 2])))
    assert [len(series) for series in found.x] == [4, 2]
    assert found.labels == ("a", "b")
    flat = x.reshape(8, 3)
    for how in ({"lengths": np.array([5, 3])}, {"offsets": np.array([0, 5])}, {"offsets": np.array([0, 5, 8])}):
        found = read_labelled(archive(tmp_path, x=flat, y=y, **how))
        assert (found.x[0] == flat[:5]).all()
        assert (found.x[1] == flat[5:]).all()
    padded = x.copy()
    padded[1, 2:] = np.nan
    assert [len(s) for s in read_labelled(archive(tmp_path, x=padded, y=y)).x] == [4, 2]
    assert read_labelled(archive(tmp_path, x=x[..., 0]), labels=False).x[0].shape == (4, 1)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"y": np.array([1, 2])}, "has no array x"),
        ({"x": np.zeros((2, 3, 1))}, "has no array y"),
        ({"x": np.zeros((2, 3, 1)), "y": np.zeros(3)}, "2 examples and 3 labels"),
        ({"x": np.zeros((2, 3, 1)), "y": np.array(["a", "\ud800"])}, "label 1 is '.ud800'; expected a text or a whole"),
        ({"x": np.zeros((2, 3, 1)), "y": np.array([0.5, 1])}, "label 0 is 0.5; expected a text or a whole number"),
        ({"x": np.zeros((2, 3, 1)), "y": np.zeros(2), "lengths": np.array([4, 1])}, "lengths run from 1 to 4"),
        ({"x": np.zeros((6, 2)), "y": np.zeros(2), "lengths": np.array([4, 1])}, "expected .N, T, C."),
        ({"x": np.zeros((6, 2)), "y": np.zeros(2), "offsets": np.array([1, 3])}, "offsets have to rise from 0"),
        ({"x": np.full((2, 3, 1), np.nan), "y": np.zeros(2)}, "series 1 is empty"),
        ({"x": np.array([[0, np.nan, 1]]), "y": np.zeros(1)}, "step 2 of channel 1 is nan; expected a finite number"),
        ({"x": np.array(["a"]), "y": np.zeros(1)}, "x is <U1"),
        ({"x": np.array([{}]), "y": np.zeros(1)}, "without Python objects"),
    ],
)
def test_what_is_wrong_with_an_archive(tmp_path, arrays, said):
    refused(said, archive(tmp_path, **arrays))


def test_what_is_no_archive(put):
    refused("is no archive of plain arrays", put("a.npz", "text"))
    for shape in ("(99999999999999999999, 5)", "(-3, 5)", "'a'"):
        head = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as file:
            file.writestr("x.npy", b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head)
        refused("is no archive of plain arrays", put("a.npz", packed.getvalue()))
    packed = io.BytesIO()
    np.savez_compressed(packed, x=np.arange(400.0).reshape(20, 20), y=np.arange(20))
    whole = packed.getvalue()
    for at in range(60, len(whole) // 2, 9):
        with contextlib.suppress(ur.UnrolledError):  # one that is harmless, in a file's date, may be read
            read_labelled(put("a.npz", whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :]))
    refused("no such file", "none.npz")


# --- tables with a row a step

LONG = "who,t,up,down,kind\na,2,1,2,x\nb,1,3,4,y\na,1,5,6,x\nb,3,7,8,y\n"


def test_series_of_a_table_in_the_order_of_rows_or_of_time(put):
    path = put("a.csv", LONG)
    found = read_labelled(path, id="who", label="kind", time="t")
    assert [series.tolist() for series in found.x] == [[[5, 6], [1, 2]], [[3, 4], [7, 8]]]
    assert (found.labels, found.channels) == (("x", "y"), ("up", "down"))
    found = read_labelled(path, id="who", label="kind")
    assert found.channels == ("t", "up", "down")
    assert found.x[0].tolist() == [[2, 1, 2], [1, 5, 6]]
    again = read_labelled(path, id="who", label="kind", time="t", channels=("down",), labels=False)
    assert again.x[0].tolist() == [[6], [2]]
    assert again.table.rows == [["a"], ["b"]]
    dates = put("b.csv", "who,t,up,kind\na,2026-01-10,1,x\na,2026-01-09 23:00,2,x\n")
    assert read_labelled(dates, id="who", label="kind", time="t").x[0].ravel().tolist() == [2, 1]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("5,6,x", "five,6,x", r"a.csv, line 4: 'up' is 'five'; expected a number"),
        ("5,6,x", "5,,x", "line 4: 'down' is missing; expected a number"),
        ("5,6,x", "5,6,y", "line 4: 'who' 'a' has the label 'y' and 'x'"),
        ("a,1,5", "a,2,5", "line 4: 't' is '2', as in an earlier row"),
        ("a,1,5", "a,soon,5", "line 2: the time is '2'; expected a time such as"),
        ("a,1,5", "a,nan,5", "line 4: the time is 'nan'; expected a finite number"),
        ("a,1,5", "a,2026-01-01,5", "line 2: the time is '2'; expected a time such as"),
        ("b,3,7", " ,3,7", "line 5: 'who' is empty; expected the series that the row is of"),
        ("5,6,x", "1e39,6,x", "a.csv, who a: step 1 of channel 1 is 1e[+]39; expected a finite number"),
    ],
)
def test_what_is_wrong_with_series_of_a_table(put, old, new, said):
    refused(said, put("a.csv", LONG.replace(old, new)), id="who", label="kind", time="t")


def test_columns_of_series_that_are_not_there(put):
    refused("no column is called 'hwo'; did you mean 'who'", put("a.csv", LONG), id="hwo", label="kind")
    refused("no column is called 'tme'", put("a.csv", LONG), id="who", label="kind", time="tme")


def test_what_is_not_in_a_long_list_is_said_shortly(put):
    names = [f"{n} is a very long name of a column" for n in range(1500)]
    with pytest.raises(
        ur.UnrolledError, match=r"no column is called 'b'\. Known: 0 is a very long name .* more$"
    ) as error:
        read_labelled(put("a.csv", ",".join(names) + "\n" + ",".join(names) + "\n"), text="b", label="c")
    assert len(str(error.value)) < 400


def test_one_column_is_not_two(put):
    refused(r"^--text and --label are one column, 'kind'; name a", put("a.csv", LONG), text="kind", label="kind")
    refused("^--id and --time are one column, 't'", put("a.csv", LONG), id="t", label="kind", time="t")
    refused("^--label and --id are one column, 'who'", put("a.csv", LONG), id="who", label="who")


# --- in memory


def test_examples_in_memory():
    assert labelled(["a", "b"], np.array([0, 1])).labels == (0, 1)
    found = labelled(np.arange(12.0).reshape(2, 3, 2), ["x", "y"])
    assert found.channels == ("1", "2")
    ragged = labelled([np.arange(3), np.arange(4)])
    assert [series.shape for series in ragged.x] == [(3, 1), (4, 1)]
    assert labelled(np.array(["a", "b"], object)).x == ["a", "b"]
    pandas = pytest.importorskip("pandas")
    assert labelled(pandas.Series(["a", "b"]), pandas.Series([1, 0])).labels == (1, 0)


@pytest.mark.parametrize(
    ("x", "labels", "said"),
    [
        ("text", None, "the examples are 'text'; expected a list"),
        ([], None, "there are no examples"),
        (["a", np.zeros(3)], None, "example 1 is of another kind than example 0"),
        ([np.zeros((3, 2)), np.zeros((3, 1))], None, "series 1 has 1 channel, series 0 2"),
        ([np.zeros(0)], None, "series 0 is empty"),
        ([np.zeros((2, 2, 2))], None, "series 0 has shape"),
        (["a"], ["x", "y"], "there are 1 example and 2 labels"),
        (["a"], [None], "label 0 is None"),
        ([np.array([0, np.nan, 1])], None, "series 0: step 2 of channel 1 is nan"),
    ],
)
def test_what_are_no_examples(x, labels, said):
    with pytest.raises(ur.UnrolledError, match=said):
        labelled(x, labels)
