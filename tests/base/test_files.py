"""Files appear complete or not at all, carry their format, and are never unpickled; options are refused by name."""
import os
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from wood_nb.base import files
from wood_nb.base.files import (DataError, check_options, empty_folder, read_json, read_npz, temporary_name, write_json, write_npz,
                                write_whole)


def says(error, *parts) -> bool:
    "Whether a message is one line that holds all `parts` and a remedy after a semicolon."
    message = str(error.value)
    assert "\n" not in message and ";" in message, message
    for part in parts:
        assert str(part) in message, f"{part!r} is not in: {message}"
    return True


class Evil:
    "Unpickling it creates the file BOO."
    def __reduce__(self):
        return open, ("BOO", "w")


def test_options_are_refused_by_name():
    rules = {"tau": (lambda value: 0 < value <= 1, "a share above 0, at most 1")}
    check_options(SimpleNamespace(tau=0.2, other="anything"), **rules)
    for wrong in (20, 0, "much", None):
        with pytest.raises(DataError) as error:
            check_options(SimpleNamespace(tau=wrong), **rules)
        assert str(error.value) == f"tau={wrong!r}: must be a share above 0, at most 1"


def test_write_whole_keeps_the_old_file(tmp_path):
    target = tmp_path / "deep/er/file.txt"
    with write_whole(target, "w") as file:
        file.write("old\n")
    for error in (RuntimeError, KeyboardInterrupt, SystemExit):
        with pytest.raises(error), write_whole(target, "w") as file:
            file.write("new")
            raise error
    assert target.read_bytes() == b"old\n" and os.listdir(target.parent) == ["file.txt"]


KILLED = """
import os, signal
from wood_nb.base.files import write_whole
with write_whole("file", "w") as file:
    file.write("half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_killed_while_writing_leaves_the_old_file(tmp_path):
    (tmp_path / "file").write_text("old")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path, env=environment)
    assert done.returncode == -9 and (tmp_path / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["file"]
    assert len(list(tmp_path.iterdir())) == 2
    with write_whole(tmp_path / "other"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "other"]  # what the dead process left is cleared


def test_only_what_dead_processes_left_is_cleared(tmp_path, monkeypatch):
    ours = temporary_name(tmp_path / "x")
    machine, process, rest = ours.name.split("-")
    elsewhere, long_ago = ours.with_name(f".00000000-{process}-{rest}"), ours.with_name(f".00000001-{process}-{rest}")
    dead, foreign = ours.with_name(f"{machine}-99999999-{rest}"), tmp_path / ".mine.1.tmp"
    for path in (ours, elsewhere, long_ago, dead, foreign):
        path.touch()
    os.utime(long_ago, (0, 0)), os.utime(foreign, (0, 0))
    assert files.clear_leftovers(tmp_path) == 5
    assert set(tmp_path.iterdir()) == {ours, elsewhere, foreign}
    assert files.clear_leftovers(tmp_path / "no such folder") == 0


def test_threads_that_save_one_file_do_not_meet(tmp_path):
    "As measured before: of 600 saves 34 raised, and readers saw mixed content."
    path, texts, wrong = tmp_path / "x", [str(n) * 50_000 for n in range(6)], []
    path.write_text(texts[0])

    def save(text):
        try:
            for _ in range(10):
                with write_whole(path, "w") as file:
                    file.write(text)
                if (seen := path.read_text()) not in texts:
                    wrong.append(seen[:20])
        except Exception as error:
            wrong.append(error)
    threads = [threading.Thread(target=save, args=(text,)) for text in texts]
    [thread.start() for thread in threads], [thread.join() for thread in threads]
    assert not wrong and [file.name for file in tmp_path.iterdir()] == ["x"]


def test_names_of_one_process_number_in_two_containers_differ(tmp_path, monkeypatch):
    names = {temporary_name(tmp_path / "x") for _ in range(1000)}
    assert len(names) == 1000 and all(len(path.name) < 50 for path in names)
    long = tmp_path / ("n" * 250)
    with write_whole(long, "w") as file:
        file.write("x")
    assert long.read_text() == "x"


def test_file_and_folder_are_on_the_disk(tmp_path, monkeypatch):
    synced, real = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda one: synced.append(os.fstat(one).st_mode & 0o170000) or real(one))
    with write_whole(tmp_path / "x") as file:
        file.write(b"x")
    assert synced == [0o100000, 0o040000] or os.name == "nt"


def test_a_folder_of_many_files_is_not_listed_for_each(tmp_path, monkeypatch):
    for n in range(300):
        (tmp_path / str(n)).touch()
    listed, real = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: listed.append(folder) or real(folder))
    for n in range(5):
        with write_whole(tmp_path / f"x{n}"):
            pass
    assert len(listed) == 1


def test_emptying_a_folder_and_a_link_to_one(tmp_path):
    for name in ("plain", "disk"):
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "deep/file").touch(), (tmp_path / name / "file").touch()
    (tmp_path / "outside").mkdir()
    (tmp_path / "disk/out").symlink_to(tmp_path / "outside")
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    empty_folder(tmp_path / "plain"), empty_folder(tmp_path / "link")
    assert not (tmp_path / "plain").exists() and (tmp_path / "link").is_symlink() and not list((tmp_path / "disk").iterdir())
    assert (tmp_path / "outside").is_dir()


def test_json(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"format": "wood_nb.test", "version": 1, "name": "é"})
    assert read_json(path, "wood_nb.test")["name"] == "é"
    assert "é" in path.read_text(encoding="utf-8") and path.read_bytes().endswith(b"}\n")
    with pytest.raises(DataError, match="'format'"):
        write_json(path, {"version": 1})


@pytest.mark.parametrize("content,said", [
    (b'{"format": "wood_nb.test", "version": 2}', "version 2"), (b'{"format": "other", "version": 1}', "not a wood_nb.test"),
    (b"[1]", "not a wood_nb.test"), (b'{"form', "not valid JSON"), (b"", "not valid JSON"),
    (b'{"a": "\xff"}', "not valid JSON"), (None, "no such file")])
def test_json_that_is_refused(tmp_path, content, said):
    path = tmp_path / "x.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as error:
        read_json(path, "wood_nb.test")
    assert says(error, path, said)


def test_npz(tmp_path):
    path = tmp_path / "x.npz"
    write_npz(path, a=np.arange(3), text=np.array(["é", "x"]))
    assert read_npz(path)["a"].tolist() == [0, 1, 2] and read_npz(path)["text"][0] == "é"
    with pytest.raises(DataError) as error:
        write_npz(path, bad=np.array([{}, None]))
    assert says(error, path, "'bad'")
    assert read_npz(path).keys() == {"a", "text"}


def test_npz_is_never_unpickled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.npz"
    np.savez(path, bad=np.array([Evil()], object))
    with pytest.raises(DataError) as error:
        read_npz(path)
    assert says(error, path) and not (tmp_path / "BOO").exists()
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(DataError, match="not a readable"):
        read_npz(path)
    with pytest.raises(DataError, match="no such file"):
        read_npz(tmp_path / "none.npz")


def test_one_of_many_files_does_not_wait_for_the_disk(tmp_path, monkeypatch):
    "A picture's map is not worth two flushes of its own; all of them reach the disk before a stage is noted as done."
    from wood_nb.base import files
    calls = []
    monkeypatch.setattr(files.os, 'fsync', lambda descriptor: calls.append('one'))
    monkeypatch.setattr(files.os, 'sync', lambda: calls.append('all'), raising=False)
    files._unsettled.clear()
    files.settle()
    with files.write_whole(tmp_path/'a', wait=False) as file: file.write(b'a')
    assert calls == [] and (tmp_path/'a').read_bytes() == b'a'
    files.settle(); files.settle()
    assert calls == ['all']
    with files.write_whole(tmp_path/'b') as file: file.write(b'b')
    assert calls == ['all', 'one', 'one'], 'the file, and the folder'
