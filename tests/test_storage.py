"""Files of ours: replaced as a whole or not at all, wherever they lie; arrays as the safetensors library has them."""

import errno
import json
import os
import stat
import struct
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from unrolled import storage
from unrolled.errors import UnrolledError

posix = pytest.mark.skipif(os.name != "posix", reason="links, pipes and modes are POSIX's")


def arrays():
    rng = np.random.default_rng(5)
    return {
        "wide": rng.standard_normal((3, 7)),
        "narrow": rng.standard_normal((2, 5, 4)).astype(np.float32),
        "transposed": rng.standard_normal((6, 5)).astype(np.float32).T,
        'é "\n\x7f': rng.standard_normal(11),
    }


def read(path):
    return storage.read_arrays(path, "ours", "file", lambda content, layout: content)


# --- as the library has it --------------------------------------------------------------------------------------------


def test_the_bytes_are_those_of_the_safetensors_library(tmp_path):
    path = tmp_path / "a"
    storage.write_arrays(path, "ours", arrays(), {"text": 'é "\n', "numbers": [1, 2.5]})
    data = path.read_bytes()
    metadata = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])["__metadata__"]
    assert data == safetensors.numpy.save({k: np.ascontiguousarray(a) for k, a in arrays().items()}, metadata)


def test_the_library_reads_it_and_so_do_we(tmp_path):
    path = tmp_path / "a"
    storage.write_arrays(path, "ours", arrays(), {"numbers": [1, 2.5]})
    content, ours = read(path)
    assert content == {"numbers": [1, 2.5]}
    with safetensors.safe_open(path, "np") as file:
        assert set(file.keys()) == set(arrays())
        for name, array in arrays().items():
            for got in (file.get_tensor(name), ours[name]):
                np.testing.assert_array_equal(got, array)
                assert got.dtype == array.dtype


def test_numbers_of_another_kind_are_refused_by_name(tmp_path):
    with pytest.raises(UnrolledError, match=r"^weight is complex128; a file holds float32, float64 and int8$"):
        storage.write_arrays(tmp_path / "a", "ours", {"weight": np.ones(3, complex)}, {})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("lie", ["C", "F", "every second"])
def test_saving_takes_no_memory_that_grows_with_the_arrays(tmp_path, lie):
    whole = np.zeros((1300, 2 * 1100), np.float32)
    array = {"C": whole, "F": np.asfortranarray(whole), "every second": whole[:, ::2]}[lie]
    tracemalloc.start()
    storage.write_arrays(tmp_path / "a", "ours", {"a": array}, {})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert array.nbytes > 5 * storage.PIECE
    assert peak < 4 * storage.PIECE  # a piece as an array and as bytes, and what the interpreter needs


def test_what_the_disk_gives_back_otherwise_never_replaces_a_file(tmp_path, monkeypatch):
    path = tmp_path / "a"
    storage.write_arrays(path, "ours", arrays(), {})
    before, stored = path.read_bytes(), storage._stored

    def flipped(file, start, place):
        for piece in stored(file, start, place):
            yield bytes([piece[0] ^ 1]) + piece[1:]

    monkeypatch.setattr(storage, "_stored", flipped)
    with pytest.raises(UnrolledError, match=r"^can't write .*: the disk gave back other bytes than were written$"):
        storage.write_arrays(path, "ours", {"a": np.ones(3)}, {})
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a"]


def test_a_large_file_that_has_no_checksum_is_refused_unread(tmp_path, monkeypatch):
    path = tmp_path / "a"
    storage.write_arrays(path, "ours", arrays(), {})
    monkeypatch.setattr(storage, "_digest", lambda *_: None)
    with pytest.raises(UnrolledError, match="its content doesn't match its checksum"):
        read(path)
    head = {"a": {"dtype": "F32", "shape": [1 << 20], "data_offsets": [0, 4 << 20]}, "__metadata__": {"ours": "{}"}}
    head["__metadata__"]["ours"] = json.dumps({"format": storage.FORMAT})
    header = json.dumps(head).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4 << 20))
    monkeypatch.setattr(storage, "_digest", lambda *_: pytest.fail("it was read"))
    with pytest.raises(UnrolledError, match="its content doesn't match its checksum"):
        read(path)


# --- what is in the place ---------------------------------------------------------------------------------------------


@posix
def test_a_link_stays_one_and_its_target_is_written(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "a").write_bytes(b"old")
    (tmp_path / "link").symlink_to("far/a")
    (tmp_path / "second").symlink_to("link")
    (tmp_path / "new").symlink_to("far/b")
    for name in ("link", "second", "new"):
        storage.write_atomically(tmp_path / name, name.encode())
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / name).read_bytes() == name.encode()
    assert (tmp_path / "far" / "a").read_bytes() == b"second"
    assert sorted(os.listdir(tmp_path / "far")) == ["a", "b"]


@posix
@pytest.mark.parametrize("mode", [0o600, 0o400, 0o660, 0o755, 0o644])
def test_an_old_file_s_mode_is_kept(tmp_path, mode):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(mode)
    storage.write_atomically(path, b"new")
    assert (stat.S_IMODE(path.stat().st_mode), path.read_bytes()) == (mode, b"new")


@posix
def test_a_private_file_is_private_while_it_is_written(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(0o600)
    with storage.replaced(path) as file:
        assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) == 0o600


@posix
def test_a_new_file_has_the_mode_of_the_umask_which_is_never_touched(tmp_path, monkeypatch):
    old = os.umask(0o027)
    try:
        with monkeypatch.context() as patch:
            patch.delattr(os, "umask")
            storage.write_atomically(tmp_path / "a", b"new")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


@posix
def test_what_is_no_file_is_never_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("pipe")
    before = {name: (tmp_path / name).lstat() for name in ("pipe", "folder", "link")}
    for name, kind in (("pipe", "a device or a pipe"), ("folder", "a folder"), ("link", "a device or a pipe")):
        with pytest.raises(UnrolledError, match=f"^can't write .*{name}: it is {kind}, not a file; choose another"):
            storage.write_atomically(tmp_path / name, b"new")
    for name, was in before.items():
        now = (tmp_path / name).lstat()
        assert (now.st_mode, now.st_ino) == (was.st_mode, was.st_ino)
    assert sorted(os.listdir(tmp_path)) == ["folder", "link", "pipe"]


@posix
def test_a_loop_of_links_is_a_line(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(UnrolledError, match=r"^can't write .*a: Too many levels of symbolic links$"):
        storage.write_atomically(tmp_path / "a", b"new")


@pytest.mark.parametrize("name", ["a" * 255, "長" * 85, "é" + "長" * 84])
def test_a_name_may_be_as_long_as_the_system_lets_it(tmp_path, name):
    storage.write_atomically(tmp_path / name, b"new")
    assert (tmp_path / name).read_bytes() == b"new"
    assert os.listdir(tmp_path) == [name]


# --- what the system can't do -----------------------------------------------------------------------------------------


def refuse(monkeypatch, name, number, when=lambda handle: True):
    real = getattr(os, name)

    def refused(handle, *more):
        if when(handle):
            raise OSError(number, os.strerror(number))
        return real(handle, *more)

    monkeypatch.setattr(os, name, refused)


def is_folder(handle):
    return stat.S_ISDIR(os.fstat(handle).st_mode)


@posix
@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EIO, errno.EBADF])
def test_a_folder_that_cannot_be_synced_is_written_to_all_the_same(tmp_path, monkeypatch, number):
    refuse(monkeypatch, "fsync", number, is_folder)
    storage.write_atomically(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"


@posix
def test_a_folder_that_cannot_be_opened_is_written_to_all_the_same(tmp_path, monkeypatch):
    real = os.open

    def only_files(path, flags, *mode):
        if flags & os.O_DIRECTORY:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, flags, *mode)

    monkeypatch.setattr(os, "open", only_files)
    storage.write_atomically(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"


@posix
@pytest.mark.parametrize("name", ["fsync", "fchmod", "fchown", "flock"])
def test_what_only_makes_a_write_safer_is_done_where_it_can_be(tmp_path, monkeypatch, name):
    import fcntl

    (tmp_path / "a").write_bytes(b"old")
    if name == "flock":
        monkeypatch.setattr(fcntl, "flock", lambda handle, how: (_ for _ in ()).throw(OSError(errno.ENOLCK, "no")))
    else:
        refuse(monkeypatch, name, errno.EPERM if name != "fsync" else errno.EINVAL)
    storage.write_atomically(tmp_path / "a", b"new")
    storage.write_arrays(tmp_path / "b", "ours", arrays(), {})
    assert (tmp_path / "a").read_bytes() == b"new"
    assert read(tmp_path / "b")[0] == {}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_sync_that_fails_keeps_the_old_file(tmp_path, monkeypatch, number):
    (tmp_path / "a").write_bytes(b"old")
    refuse(monkeypatch, "fsync", number)
    with pytest.raises(UnrolledError, match=f"^can't write .*a: {os.strerror(number)}$"):
        storage.write_atomically(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_whatever_fails_in_between_keeps_the_old_file(tmp_path):
    (tmp_path / "a").write_bytes(b"old")

    def write_half(failure):
        with storage.replaced(tmp_path / "a") as file:
            file.write(b"half")
            raise failure

    for failure in (KeyboardInterrupt, MemoryError, UnrolledError):
        with pytest.raises(failure):
            write_half(failure)
    assert (tmp_path / "a").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_a_hint_says_what_to_do(tmp_path):
    with (
        pytest.raises(UnrolledError, match=r"^can't write in .*gone: No such file or directory; make it first$"),
        storage.replaced(tmp_path / "gone" / "a", hint="; make it first"),
    ):
        raise AssertionError("nothing can be written there")


# --- leftovers --------------------------------------------------------------------------------------------------------

LEFT = "unrolled-0123456789abcdef.part"


def test_leftovers_are_ours_and_nobody_else_s(tmp_path):
    ours = [f"model.safetensors.{LEFT}", f"config.toml.{LEFT}"]
    others = ["config.toml.my.part", "model.safetensors-old.part", f"other.{LEFT}", f"config.toml.{LEFT}.bak"]
    others += [f"config.toml.{LEFT.upper()}", "model.safetensors", f"xconfig.toml.{LEFT}"]
    for name in (*ours, *others):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / f"config.toml.{LEFT.replace('0', 'a')}").mkdir()
    paths = [tmp_path / "model.safetensors", tmp_path / "config.toml", tmp_path / "gone" / "a"]
    assert [part.name for part in storage.leftovers(paths)] == ours
    storage.remove_leftovers(paths)
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == set(others)


@pytest.mark.parametrize("name", ["a", "a" * 255, "長" * 85, "*?[a]"])
def test_what_is_being_written_is_no_leftover_until_its_process_is_gone(tmp_path, name):
    pytest.importorskip("fcntl", reason="Windows removes no file that is open")
    path = tmp_path / name
    with storage.replaced(path):
        (part,) = tmp_path.iterdir()
        left = part.with_name(part.name[: -len("0" * 16 + ".part")] + "0" * 16 + ".part")
        left.write_bytes(b"what a killed process left")
        assert storage.leftovers([path]) == [left]
        storage.remove_leftovers([path])
    assert os.listdir(tmp_path) == [name]


# --- where memory ends ------------------------------------------------------------------------------------------------

NARROW = """
import resource, sys
import numpy as np, safetensors.numpy
from unrolled import storage
arrays = {name: np.ones(6 << 20, np.float32) for name in "ab"}  # 48 MB
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (int(sys.argv[2]) << 20),) * 2)
storage.write_arrays(sys.argv[1], "ours", arrays, {})
print("saved", flush=True)
try:
    storage.read_arrays(sys.argv[1], "ours", "file", lambda content, layout: None)
    print("read")
except storage.UnrolledError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
@pytest.mark.parametrize(("megabytes", "said"), [(8, "not enough memory to read"), (90, "not enough"), (140, "read")])
def test_where_memory_ends_a_file_is_saved_and_reading_is_a_line(tmp_path, megabytes, said):
    command = [sys.executable, "-c", NARROW, str(tmp_path / "a"), str(megabytes)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert (done.returncode, done.stderr) == (0, "")
    first, second = done.stdout.splitlines()
    assert first == "saved"
    assert second.startswith(said)
