"""Files appear complete or not at all, carry their format, and are never unpickled; options are refused by name."""
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from wood_nb.base.files import DataError, check_options, read_json, read_npz, write_json, write_npz, write_whole


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
