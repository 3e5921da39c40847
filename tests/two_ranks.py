"""Two processes as torchrun starts them, without the launcher, which would load PyTorch a third time (test_led.py has it)."""
import os
import subprocess

from jlab import free_port
from warm import Warm


def in_two(warm: Warm, *words, env: dict[str, str], timeout: float = 240, **options) -> str:
    "Run `python WORDS` as the first and the second of two processes; what both said on stderr, if one of them failed."
    known = env | dict(WORLD_SIZE='2', LOCAL_WORLD_SIZE='2', MASTER_ADDR='127.0.0.1', MASTER_PORT=str(free_port()))
    both = [subprocess.Popen([*warm.python, *words], env=known | dict(RANK=str(n), LOCAL_RANK=str(n)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                             text=True, **options) for n in range(2)]
    try: said = [process.communicate(timeout=timeout)[1] for process in both]
    finally:
        for process in both: process.kill()
    return '\n'.join(text[-3000:] for text in said) if any(process.returncode for process in both) else ''


def environment(*path) -> dict[str, str]:
    "Their environment: one thread each, no GPU, modules from `path`."
    return {**os.environ, 'PYTHONPATH': os.pathsep.join(map(str, path)), 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
