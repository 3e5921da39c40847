"""One writer at a time: who is refused, who waits, what a crash leaves, and that readers never wait."""
import json
import os
import subprocess
import sys
import threading
import time

import pytest

from wood_nb.base.files import DataError, read_json, temporary_name, write_json
from wood_nb.base.locks import changing, holder, lent, one_writer

HOLDS = """
import sys, time
from wood_nb.base.locks import one_writer
with one_writer(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""
COUNTS = """
import sys
from wood_nb.base.files import read_json, write_json
from wood_nb.base.locks import changing
for _ in range(30):
    with changing(sys.argv[1]):
        content = read_json(sys.argv[1], "wood_nb.test")
        write_json(sys.argv[1], {**content, "n": content["n"] + 1})
"""


def start(script, *words) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([sys.executable, "-c", script, *map(str, words)], env=environment, stdout=subprocess.PIPE, text=True)


def test_a_second_process_is_refused_in_one_line_that_names_the_first(tmp_path):
    folder = tmp_path / "run"
    with start(HOLDS, folder) as other:
        assert other.stdout.readline() == "held\n"
        begun = time.perf_counter()
        with pytest.raises(DataError) as error, one_writer(folder):
            pass
        told = str(error.value)
        assert time.perf_counter() - begun < 1 and "\n" not in told
        for word in (folder, f"process {other.pid} on ", "(-c ", "since 20", "touch ", "STOP"):
            assert str(word) in told, told
        other.kill()  # the lock goes with the process
        other.wait()
        with one_writer(folder):
            assert f"process {os.getpid()}" in holder(folder / ".lock")
    assert not list(folder.iterdir())


def test_a_thread_may_ask_again_and_another_is_refused(tmp_path):
    found = []

    def second():
        try:
            with one_writer(tmp_path):
                found.append("held")
        except DataError as error:
            found.append(str(error))
    with one_writer(tmp_path), one_writer(str(tmp_path) + "/../" + tmp_path.name):
        thread = threading.Thread(target=second)
        thread.start(), thread.join()
    second()
    assert f"process {os.getpid()}" in found[0] and found[1] == "held"


def test_a_process_is_let_in_by_the_writer_that_has_begun_it(tmp_path):
    folder = tmp_path / "run"
    left = folder / temporary_name(folder / "x").name
    with start(HOLDS, folder) as other:
        assert other.stdout.readline() == "held\n"
        left.touch()
        with lent(folder):
            with lent(folder), one_writer(folder):
                pass
            with one_writer(folder):
                assert f"process {other.pid} on " in holder(folder / ".lock") and left.exists(), "it is still the other's"
        with pytest.raises(DataError), one_writer(folder):
            pass
        other.kill()


def test_taking_a_run_clears_what_dead_processes_left_in_it(tmp_path):
    deep = tmp_path / "maps/cam/val"
    deep.mkdir(parents=True)
    machine, _, rest = temporary_name(deep / "x").name.split("-")
    left = deep / f"{machine}-99999999-{rest}"
    left.touch()
    with one_writer(tmp_path):
        assert not left.exists()


def test_no_change_of_two_processes_is_lost(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"format": "wood_nb.test", "version": 1, "n": 0})
    for process in [start(COUNTS, path) for _ in range(2)]:
        process.communicate(timeout=60)
    assert read_json(path, "wood_nb.test")["n"] == 60


def test_who_holds_a_lock_may_be_unknown(tmp_path):
    lock = tmp_path / ".lock"
    for text in ("", "[]", "{}", '{"pid": 1}'):
        (tmp_path / ".lock.json").write_text(text)
        assert holder(lock) == "another process"
    (tmp_path / ".lock.json").write_text(json.dumps({"pid": 7, "host": "h", "since": "s", "command": "wood run"}))
    assert holder(lock) == "process 7 on h (wood run), since s"


def test_a_change_that_takes_too_long_is_told(tmp_path):
    path, go, held = tmp_path / "x", threading.Event(), threading.Event()

    def hold():
        with changing(path):
            held.set()
            go.wait(10)
    thread = threading.Thread(target=hold)
    thread.start(), held.wait()
    with pytest.raises(DataError, match="is writing there; try again"), changing(path, wait=0.1):
        pass
    go.set(), thread.join()
    with changing(path):
        pass
