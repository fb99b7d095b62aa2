"""Files that are written whole or not at all."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from probekit import durable
from probekit.durable import disk_error, is_held, make_folder, remove_stale, stale, write_file

OPERATIONS = ["open", "write", "fsync", "replace", "fsync_folder"]
STALE = f".x.{'0' * 32}.tmp"


class Failing(durable.Disk):
    """Notes each operation, and fails at one."""

    def __init__(self, fail_at="", number=errno.EIO):
        self.fail_at, self.number, self.done = fail_at, number, []

    def _note(self, name):
        self.done.append(name)
        if name == self.fail_at:
            raise OSError(self.number, os.strerror(self.number))

    def open(self, path):
        self._note("open")
        return super().open(path)

    def write(self, file, data):
        self._note("write")
        super().write(file, data)

    def fsync(self, file):
        self._note("fsync")
        super().fsync(file)

    def replace(self, source, target):
        self._note("replace")
        super().replace(source, target)

    def fsync_folder(self, folder):
        self._note("fsync_folder")
        super().fsync_folder(folder)

    def unlink(self, path):
        self._note("unlink")
        super().unlink(path)

    def mkdir(self, folder):
        self._note("mkdir")
        super().mkdir(folder)


@pytest.fixture
def disk(monkeypatch):
    def use(*args):
        disk = Failing(*args)
        monkeypatch.setattr(durable, "disk", disk)
        return disk

    return use


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_steps_of_a_whole_write(tmp_path, disk):
    done = disk().done
    write_file(tmp_path / "a", "text")
    assert done == OPERATIONS


def test_fast_leaves_out_the_syncs_only(tmp_path, disk):
    done = disk().done
    write_file(tmp_path / "a", "text", durability="fast")
    assert done == ["open", "write", "replace"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("ä", "ä".encode()),
        (b"ab", b"ab"),
        (bytearray(b"ab"), b"ab"),
        (memoryview(b"abcd")[::1], b"abcd"),
        ([b"a", memoryview(b"bc"), b""], b"abc"),
        ((piece for piece in [b"1", b"2"]), b"12"),
        (b"", b""),
        ([], b""),
    ],
)
def test_what_can_be_written(tmp_path, content, expected):
    write_file(tmp_path / "a", content)
    assert (tmp_path / "a").read_bytes() == expected
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_failed_operation_leaves_the_old_file_or_the_new_one(tmp_path, disk, operation):
    write_file(tmp_path / "a", "old")
    done = disk(operation).done
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        write_file(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == ("new" if operation == "fsync_folder" else "old")
    assert names(tmp_path) == ["a"]
    assert done.count(operation) == 1  # a failed fsync is never tried again on the same file


def test_an_error_in_the_content_leaves_the_old_file(tmp_path):
    def pieces():
        yield b"new"
        raise ValueError("no more")

    write_file(tmp_path / "a", "old")
    with pytest.raises(ValueError, match="no more"):
        write_file(tmp_path / "a", pieces())
    assert (tmp_path / "a").read_text() == "old"
    assert names(tmp_path) == ["a"]


def test_a_short_write_is_continued(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, bytes(data[:3])))
    write_file(tmp_path / "a", b"0123456789")
    assert (tmp_path / "a").read_bytes() == b"0123456789"


def test_a_file_gets_the_usual_permissions(tmp_path):
    write_file(tmp_path / "a", "")
    (tmp_path / "b").touch()
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


@pytest.mark.parametrize("name", ["n" * 255, "ä" * 127, "with spaces and\nline ends", "*?[x]"])
def test_any_name_that_the_file_system_takes(tmp_path, name):
    write_file(tmp_path / name, "x")
    assert names(tmp_path) == [name]


def test_folders_are_made_and_synced_from_the_top(tmp_path, disk):
    done = disk().done
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    assert done == ["mkdir", "fsync_folder"] * 2
    with pytest.raises(FileExistsError):
        make_folder(_file(tmp_path / "c"))


def _file(path: Path) -> Path:
    path.touch()
    return path


def test_a_folder_that_another_process_makes_meanwhile_is_fine(tmp_path, monkeypatch):
    class Late(durable.Disk):
        def mkdir(self, folder):
            folder.mkdir()
            super().mkdir(folder)

    monkeypatch.setattr(durable, "disk", Late())
    make_folder(tmp_path / "a")
    assert (tmp_path / "a").is_dir()


# --- temporary files


def test_stale_temporary_files_are_removed_and_nothing_else(tmp_path):
    for name in (STALE, "x.tmp", ".x.tmp", f"x.{'0' * 32}.tmp", "x"):
        (tmp_path / name).touch()
    assert remove_stale(tmp_path) == 1
    assert names(tmp_path) == sorted(["x.tmp", ".x.tmp", f"x.{'0' * 32}.tmp", "x"])
    assert remove_stale(tmp_path / "absent") == 0


def test_a_file_that_is_being_written_is_not_stale(tmp_path):
    with durable.Temporary(tmp_path / "a") as file:
        file.write("x")
        assert is_held(file.temporary)
        assert remove_stale(tmp_path) == 0
        file.commit()
    assert names(tmp_path) == ["a"]


def test_what_a_killed_process_leaves_is_stale(tmp_path):
    code = (
        "import sys, pathlib; from probekit.durable import Temporary\n"
        "f = Temporary(pathlib.Path(sys.argv[1]) / 'a'); f.write('x'); print('there', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=-1, stdin=-1) as child:
        assert child.stdout.readline() == b"there\n"
        assert remove_stale(tmp_path) == 0
        child.kill()
        child.wait()
    assert remove_stale(tmp_path) == 1
    assert names(tmp_path) == []


def test_a_temporary_file_taken_for_stale_before_it_is_locked_is_made_anew(tmp_path, monkeypatch):
    class Racing(durable.Disk):
        first = True

        def open(self, path):
            number = super().open(path)
            if self.first:
                self.first = False
                path.unlink()
            return number

    monkeypatch.setattr(durable, "disk", Racing())
    write_file(tmp_path / "a", "x")
    assert names(tmp_path) == ["a"]


def test_without_locks_only_old_temporary_files_are_stale(tmp_path, monkeypatch):
    (tmp_path / STALE).touch()
    os.utime(tmp_path / STALE, (1000, 1000))
    monkeypatch.setattr(durable, "_locked", lambda file: None)
    assert list(stale(tmp_path)) == []
    assert list(stale(tmp_path, unlocked_since=999)) == []
    assert list(stale(tmp_path, unlocked_since=1001)) == [tmp_path / STALE]
    write_file(tmp_path / "a", "x")
    assert names(tmp_path) == [STALE, "a"]


# --- messages


def test_a_full_disk_is_told_with_what_is_needed(tmp_path):
    error = disk_error(OSError(errno.ENOSPC, "No space left on device"), tmp_path / "absent", 12_400_000_000)
    assert error.exit_code == 4
    assert error.problems[0].code == "PK-R01"
    assert str(error).startswith(f"store: the disk of {str(tmp_path / 'absent')!r} is full: 12.4 GB are needed, ")
    assert str(error).endswith(" are free; free some space, then run the same command")


def test_a_quota_is_told():
    assert "quota" in str(disk_error(OSError(errno.EDQUOT, "Disk quota exceeded"), Path("/absent"), 5))


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_missing_permission_is_told(number):
    error = disk_error(OSError(number, os.strerror(number)), Path("/x"))
    assert error.problems[0].code == "PK-R13"
    assert os.strerror(number) in str(error)


def test_a_failing_disk_is_told_with_the_reason():
    error = disk_error(OSError(errno.EIO, "Input/output error"), Path("/x"))
    assert str(error) == "store: cannot write to '/x': Input/output error; check the disk, then run the same command"
    assert error.problems[0].code == "PK-R01"
