"""Threads that decode a struct for the first time at once: the decoder's own race, and that we never run it."""

import subprocess
import sys

RACE = """
import sys, threading, msgspec
from buckler.model.prepared import prepare_structs

def wide(number):
    inner = msgspec.defstruct(f"Inner{number}", [(f"field{place}", int, 0) for place in range(60)])
    fields = [(f"field{place}", str | None, None) for place in range(60)]
    return msgspec.defstruct(f"Outer{number}", [("inner", tuple[inner, ...], ()), *fields])

kinds = [wide(number) for number in range(500)]
assert prepare_structs() >= 2 * len(kinds)
sys.setswitchinterval(1e-6)
for kind in kinds:
    together = threading.Barrier(6)
    def decode():
        together.wait()
        msgspec.json.decode(b'{"inner": [{"field1": 2}]}', type=kind)
    threads = [threading.Thread(target=decode) for _ in range(6)]
    for each in threads: each.start()
    for each in threads: each.join()
"""


def test_structs_that_are_prepared_may_be_decoded_by_many_threads_at_once():
    """With msgspec 0.22 the same without the preparation ends by SIGSEGV."""
    done = subprocess.run([sys.executable, "-c", RACE], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
