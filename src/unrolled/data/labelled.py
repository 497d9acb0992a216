"""Files of labelled texts and series: tables, a folder a class, a file a class, .ts and .npz."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from ..checks import check_a
from ..errors import UnrolledError, brief, check_path, listed
from .examples import Labelled, joined
from .labelled_series import of_long, read_npz, read_ts
from .tables import Table, read_table
from .text import whole_text
from .text.files import shown, sources, walk
from .text.packed import plain_name

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
TABLES = (".csv", ".tsv", ".tab", ".jsonl", ".ndjson")
KINDS = {
    "table": "a table",
    "ts": "series (.ts)",
    "npz": "arrays (.npz)",
    "folder": "a folder of classes",
    "lines": "lines of text",
}


def read_labelled(
    paths: Paths,
    *,
    text: str = "",
    label: str = "",
    id: str = "",
    time: str = "",
    encoding: str = "utf-8",
    labels: bool = True,
    channels: Sequence[str] = (),
    classes: Collection[str] = (),
    series: bool = False,
) -> Labelled:
    r"""Read texts or series with their labels; what a file is, its name tells.

    - A table (.csv, .tsv, .jsonl, packed or not): a row is a text, in the column `text`, with its label, in the column
      `label`. With `id`, a row is a step of a series: its number columns are channels, in the order of rows or of
      `time`. Numbers as names count the columns, from 1, of a table whose first row names none.
    - A folder: every folder in it is a class, and every file in that a text.
    - Several other files: each is a class, and every line of it a text. A class is called as the end of its file's name
      is, `rt.pos` and `rt.neg`, or as the file where all ends are alike, `pos.txt` and `neg.txt`. (One such file has no
      labels; its lines may be classified.)
    - .ts (`read_ts`) and .npz (`read_npz`): series.

    Parameters
    ----------
    paths : path or paths
    text, label, id, time : str
        Columns of tables. Without `text`, the one called "text", or the one beside the label; without `label`, the one
        called "label", or the one beside the text.
    encoding : str
        Of texts: "utf-8", "latin-1" (ISO-8859-1), ...
    labels : bool
        Whether they are wanted.
    channels : sequence of str
        Columns of numbers that a model takes; by default all.
    classes : collection of str
        Labels that are known, for files that are a class each.
    series : bool
        Whether they have to be series.

    Returns
    -------
    Labelled

    Raises
    ------
    UnrolledError
        If a file can't be read, files are of mixed kinds or columns, a column isn't there, or a text is empty; names
        the file and the line.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name, lines in (("rt.pos", "good\nvery good\n"), ("rt.neg", "bad\n")):
    ...         _ = Path(folder, name).write_text(lines)
    ...     found = read_labelled([Path(folder, "rt.pos"), Path(folder, "rt.neg")])
    >>> found.x, found.labels
    (['good', 'very good', 'bad'], ('pos', 'pos', 'neg'))
    """
    columns = {"text": text, "label": label, "id": id, "time": time}
    for name, value in columns.items():
        check_a(name, value, str, f"the name of a column (--{name})")
    used = [value for value in columns.values() if value]
    if twice := next((value for value in used if used.count(value) > 1), ""):
        flags = " and ".join(f"--{name}" for name, value in columns.items() if value == twice)
        raise UnrolledError(f"{flags} are one column, {brief(twice)}; name a column for each")
    if text and id:
        raise UnrolledError("--text is of texts and --id of series; leave out one of the two")
    given = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    names = [check_path("a file to read", path) for path in given]
    if not names:
        raise UnrolledError("no file given; name at least one file or folder")
    kinds = [_kind(name, table=bool(text or id)) for name in names]
    if odd := [n for n, kind in enumerate(kinds) if kind != kinds[0]]:
        n = odd[0]
        raise UnrolledError(
            f"{shown(names[0])} is {KINDS[kinds[0]]}, {shown(names[n])} {KINDS[kinds[n]]}; expected files of one kind"
        )
    kind = kinds[0]
    if series and (kind in ("lines", "folder") or (kind == "table" and not id)):
        raise UnrolledError(
            f"{shown(names[0])} is {KINDS[kind]}; expected series as they were learnt from: .ts or .npz"
        )
    if kind == "lines":
        return _of_lines(names, encoding, labels, classes)
    if kind != "table" and (odd_column := next((name for name, value in columns.items() if value), "")) and labels:
        raise UnrolledError(f"--{odd_column} names a column of a table; {shown(names[0])} is {KINDS[kind]}")
    if kind == "ts":
        found = [read_ts(name, labels=labels, encoding=encoding) for name in names]
    elif kind == "npz":
        found = [read_npz(name, labels=labels) for name in names]
    elif kind == "folder":
        found = [_of_folder(name, encoding, labels=labels) for name in names]
    else:
        found = [_of_table(name, columns, encoding, labels=labels, channels=channels) for name in names]
    return _checked(joined(found))


def _kind(path: str, *, table: bool) -> str:
    """Return what a file is: one of `KINDS`."""
    name = plain_name(path).lower()
    if path != "-" and os.path.isdir(path):
        return "folder"
    if name.endswith((".ts", ".npz")):
        return name.rpartition(".")[2]
    return "table" if table or path == "-" or name.endswith(TABLES) else "lines"


def _checked(found: Labelled) -> Labelled:
    """Refuse empty texts and labels."""
    for n, value in enumerate(found.x):
        if isinstance(value, str) and not value.strip():
            raise UnrolledError(f"{found.place(n)}: the text is empty; leave it out")
    for n, label in enumerate(found.labels or ()):
        if not str(label).strip():
            raise UnrolledError(f"{found.place(n)}: the label is empty; leave it out")
    return found


# --- tables -----------------------------------------------------------------------------------------------------------


def _of_table(
    path: str, columns: Mapping[str, str], encoding: str, *, labels: bool, channels: Sequence[str]
) -> Labelled:
    """Return the examples of a table."""
    named = [name for name in columns.values() if name]
    table = read_table(path, encoding=encoding, header=not (named and all(name.isdigit() for name in named)))
    if columns["id"]:
        label = columns["label"] or _other(table, "label", "")
        if not labels:
            named = list(channels) or [n for n in table.names if n not in (columns["id"], columns["time"], label)]
            label, channels = "", named
        how = {"id": columns["id"], "label": label, "time": columns["time"]}
        return of_long(table, **how, channels=channels, paths=(path,))
    text, label = columns["text"], columns["label"]
    if text and not label and labels:
        label = _other(table, "label", text)
    elif not text:
        label = label or _other(table, "label", "") if labels else label
        text = _other(table, "text", label)
    table.check(text)
    found = dict(columns) | {"text": text, "label": label}
    return Labelled(table.texts(text), tuple(table.texts(label)) if labels else None, table, (), found, (path,))


def _other(table: Table, usual: str, known: str) -> str:
    """Return the column that is called as is usual, or the only one beside the known one."""
    if known:
        table.check(known)
    if usual in table.names and usual != known:
        return usual
    others = [name for name in table.names if name != known]
    if known and len(others) == 1:
        return others[0]
    hint = f"the column of {usual}s; --{usual} names it"
    raise UnrolledError(f"{table.where} has the columns {listed(table.names, 20)}, and nothing says which is {hint}")


# --- folders and files of lines ---------------------------------------------------------------------------------------


def _class_folders(path: str) -> list[Path]:
    """Return the folders of the classes in a folder."""
    return sorted(entry for entry in Path(path).iterdir() if entry.is_dir() and not entry.name.startswith("."))


def files_of_classes(folder: str) -> list[str]:
    """Return the files that examples are read from, of a folder with one of each class."""
    return [file for inner in _class_folders(folder) for file in walk(str(inner), Counter())]


def _of_folder(path: str, encoding: str, *, labels: bool) -> Labelled:
    """Return the texts of a folder: a file each, in a folder a class."""
    root, folders = Path(path), _class_folders(path)
    if not folders and labels:
        raise UnrolledError(
            f"{shown(path)} has no folders; expected one of each class, with a text a file, or name files that are a "
            "class each"
        )
    notes, texts, named, files = list[str](), list[str](), list[str](), list[str]()
    beside = sum(1 for entry in root.iterdir() if entry.is_file() and not entry.name.startswith("."))
    if labels and beside:
        notes.append(f"{shown(path)}: {beside:,} beside the folders of the classes not read")
    for folder in folders if labels else [root]:
        for source in sources([str(folder)], "byte", notes):
            text, where = whole_text(source.path, encoding)
            texts.append(text)
            named.append(folder.name)
            files.append(where)
    rows = [[file, label] if labels else [file] for file, label in zip(files, named, strict=True)]
    table = Table(shown(path), ("file", "label") if labels else ("file",), rows, range(1, len(rows) + 1))
    return Labelled(texts, tuple(named) if labels else None, table, (), {}, (path,), tuple(notes), places=tuple(files))


def _of_lines(paths: Sequence[str], encoding: str, labels: bool, classes: Collection[str]) -> Labelled:
    """Return the lines of files that are a class each."""
    if labels and len(paths) == 1 and not set(_names(paths[0])) & set(classes):
        raise UnrolledError(
            f"{shown(paths[0])} has no labels; expected a table with --text and --label, a folder a class, or files "
            "that are a class each, such as rt.pos and rt.neg"
        )
    called = _called(paths, classes) if labels else [""] * len(paths)
    if len(set(called)) < len(called) and labels:
        raise UnrolledError(f"{listed(paths)}: two files are of the class {brief(called[0])}; name each for its class")
    found = []
    for path, name in zip(paths, called, strict=True):
        text, where = whole_text(path, encoding)
        lines = [(n, line.strip()) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
        if not lines:
            raise UnrolledError(f"{where} has no lines; expected a text a line")
        rows = [[line, name] if labels else [line] for _, line in lines]
        table = Table(where, ("text", "label") if labels else ("text",), rows, [n for n, _ in lines])
        texts = [line for _, line in lines]
        found.append(Labelled(texts, (name,) * len(lines) if labels else None, table, (), {}, (path,)))
    return joined(found)


def _names(path: str) -> tuple[str, str]:
    """Return the end of a file's name, and the name without it."""
    stem, _, end = os.path.basename(plain_name(path)).rpartition(".")
    return (end, stem) if stem else (end, end)


def _called(paths: Sequence[str], classes: Collection[str]) -> list[str]:
    """Return the class of each file: the end of its name, or its name where all ends are alike."""
    pairs = [_names(path) for path in paths]
    for k in (0, 1):
        if all(pair[k] in classes for pair in pairs):
            return [pair[k] for pair in pairs]
    return [pair[len({end for end, _ in pairs}) == 1] for pair in pairs]
