"""Tables: rows by the names of their columns, read and written back."""

import bz2
import gzip

import numpy as np
import pytest

import unrolled as ur
from unrolled.data.tables import parse_table, read_table
from unrolled.data.text import whole_text

CSV = 'id,review,load\n7,"Good, ""really"",\nvery",0.5\n8,bad,-2e1\n\n9,,3\n'


def put(tmp_path, name, data):
    path = tmp_path / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def test_fields_of_several_lines_quotes_and_empty_lines(tmp_path):
    table = read_table(put(tmp_path, "a.csv", CSV))
    assert table.names == ("id", "review", "load")
    assert len(table) == 3
    assert table.lines == [2, 4, 6]
    assert table.texts("review") == ['Good, "really",\nvery', "bad", ""]
    assert table.numbers("load").tolist() == [0.5, -20.0, 3.0]


@pytest.mark.parametrize("mark", ["\t", ";", "|", ","])
def test_delimiters_and_what_is_written_back_reads_the_same(tmp_path, mark):
    table = read_table(put(tmp_path, "a.csv", f'a{mark}b\n"x{mark}y"{mark}1\nz{mark}2\n'))
    assert table.delimiter == mark
    assert table.texts("a") == [f"x{mark}y", "z"]
    again = parse_table("".join(table.written({"c": [0.25, "no"]})), "again")
    assert again.names == ("a", "b", "c")
    assert again.rows == [[f"x{mark}y", "1", "0.25"], ["z", "2", "no"]]


def test_a_tsv_has_tabs_whatever_its_first_line_has_most_of(tmp_path):
    assert read_table(put(tmp_path, "a.tsv", "a,b,c\td\n1\t2\n")).names == ("a,b,c", "d")


def test_a_table_without_names_has_numbers(tmp_path):
    table = read_table(put(tmp_path, "a.csv", "3,title\n4,other\n"), header=False)
    assert table.names == ("1", "2")
    assert table.texts("2") == ["title", "other"]
    assert "".join(table.written({"predicted": ["x", "y"]})) == "3,title,x\n4,other,y\n"


def test_json_lines_keep_their_kinds_and_fields(tmp_path):
    table = read_table(put(tmp_path, "a.jsonl", '{"t": "é", "n": 1, "more": [2]}\n\n{"t": "x", "n": 2.5, "b": true}\n'))
    assert table.names == ("t", "n", "more", "b")
    assert table.numbers("n").tolist() == [1.0, 2.5]
    assert table.texts("n") == ["1", "2.5"]
    assert table.column("b") == [None, True]
    assert "".join(table.written({"p": [0.5, 1]})) == (
        '{"t": "é", "n": 1, "more": [2], "p": 0.5}\n{"t": "x", "n": 2.5, "b": true, "p": 1}\n'
    )


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress])
def test_packed_marked_and_with_other_line_ends(tmp_path, pack):
    table = read_table(put(tmp_path, "a.csv", pack(b"\xef\xbb\xbfa,b\r\n1,2\r\n")))
    assert table.names == ("a", "b")
    assert table.rows == [["1", "2"]]


def test_other_encodings(tmp_path):
    path = put(tmp_path, "a.csv", "a,b\ncafé,1\n".encode("latin-1"))
    assert read_table(path, encoding="ISO-8859-1").texts("a") == ["café"]
    with pytest.raises(ur.UnrolledError, match=r"byte 0xe9 at offset 7 is not UTF-8; --encoding names the right one"):
        read_table(path)
    for name in ("utf-16", "utf-32"):
        assert read_table(put(tmp_path, "b.csv", "a\ncafé\n".encode(name)), encoding=name).texts("a") == ["café"]
        with pytest.raises(ur.UnrolledError, match=f"looks like {name.upper()}"):
            read_table(tmp_path / "b.csv")
    for name in ("latin1000", "rot13", ""):
        with pytest.raises(ur.UnrolledError, match="no encoding is called"):
            whole_text(path, name)


def test_what_is_missing_in_a_column_of_numbers(tmp_path):
    table = read_table(put(tmp_path, "a.csv", "a,b\n1,x\nNA,y\n,z\nnan,z\n"))
    assert np.isnan(table.numbers("a", missing=True)).tolist() == [False, True, True, True]
    with pytest.raises(ur.UnrolledError, match=r"a.csv, line 3: 'b' is '2024_01'; expected a number"):
        read_table(put(tmp_path, "a.csv", "a,b\n1,2\n3,2024_01\n")).numbers("b")
    with pytest.raises(ur.UnrolledError, match=r"a.csv, line 3: 'a' is missing; expected a number"):
        table.numbers("a")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "", "the file is empty"),
        ("a.csv", "\n \n", "the file is empty"),
        ("a.csv", "a,b\n", "no rows below the names"),
        ("a.csv", "a,b\n1,2\n3\n", r"line 3: the row has 1 field, the first one 2"),
        ("a.csv", 'a,b\n"1\n2",2\n3,4,5\n', r"line 4: the row has 3 fields, the first one 2"),
        ("a.csv", "a,a\n1,2\n", "two columns are called 'a'"),
        ("a.csv", 'a,b\n"1"x,2\n', "line 2 is no row of a table"),
        ("a.csv", 'a,b\n"1,2\n', "line 2 is no row of a table"),
        ("a.jsonl", '{"a": 1}\n[2]\n', r"line 2 is '\[2\]'; expected a JSON object a line"),
        ("a.jsonl", '{"a": 1}\n{"a": \n', "line 2 is"),
        ("a.jsonl", "\n\n", "there are no rows"),
        ("a.jsonl", '{"a": 1}\n{"a": "\\uD83D"}\n', "line 2 holds half a character"),
    ],
)
def test_what_is_no_table_is_refused_in_one_line(tmp_path, name, text, said):
    with pytest.raises(ur.UnrolledError, match=said):
        read_table(put(tmp_path, name, text))


def test_the_nearest_column_is_named_and_so_is_the_row(tmp_path):
    table = read_table(put(tmp_path, "a.csv", CSV))
    odd = read_table(put(tmp_path, "a.jsonl", '{"a": "\\ud83d\\ude00"}\n{"a": NaN}\n'))
    with pytest.raises(ur.UnrolledError, match="line 2: 'a' is nan; expected a text"):
        odd.texts("a")
    with pytest.raises(ur.UnrolledError, match="no column is called 'reviev'; did you mean 'review'"):
        table.texts("reviev")
    with pytest.raises(ur.UnrolledError, match=r"line 2: 'review' is 'Good, .*; expected a number"):
        table.numbers("review")
    with pytest.raises(ur.UnrolledError, match="has a column 'load' already"):
        table.written({"load": [1, 2, 3]})
    with pytest.raises(ur.UnrolledError, match="is infinite"):
        read_table(put(tmp_path, "b.csv", "a\ninf\n")).numbers("a", missing=True)
    objects = read_table(put(tmp_path, "a.jsonl", '{"t": {"x": 1}}\n{"s": 1}\n'))
    with pytest.raises(ur.UnrolledError, match=r"line 1: 't' is {'x': 1}; expected a text"):
        objects.texts("t")


def test_a_folder_and_a_missing_file_are_no_tables(tmp_path):
    with pytest.raises(ur.UnrolledError, match="is a folder; expected a file"):
        read_table(tmp_path)
    with pytest.raises(ur.UnrolledError, match="no such file"):
        read_table(tmp_path / "none.csv")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_quotation_marks_of_tsv_are_signs_where_they_do_not_enclose_fields(end):
    for second in ('"so" it goes', '"opens here'):
        text = end.join(["review\tmood", f"{second}\tsad", 'closes "there"\tglad', 'a "third"\tglad', ""])
        table = parse_table(text, "moods.tsv", "moods.tsv")
        assert table.texts("review") == [second, 'closes "there"', 'a "third"']
        written = list(table.written({"predicted": ["a\tb", "c", "d"]}))
        assert written[:2] == ["review\tmood\tpredicted\n", f"{second}\tsad\ta b\n"]


def test_a_quoted_field_of_tsv_may_hold_tabs_and_lines():
    table = parse_table('review\tmood\n"one\ttwo\tor\nthree"\tsad\n"""four"""\tglad\n', "x.tsv", "x.tsv")
    assert table.texts("review") == ["one\ttwo\tor\nthree", '"four"']
    assert table.quoted
