"""Fixed-base multiplication against py_ecc, and the calls that every operation shares."""

import random
import subprocess
import sys
import threading
import time

import pytest
from ecc_points import ecc_g1, ecc_g2
from groth16_oracle import R, le

pytestmark = pytest.mark.native

EDGES = [0, 1, 2, R - 1, R - 2, 1 << 253, (1 << 128) - 1]


def test_g1_points_are_those_of_py_ecc(native):
    scalars = EDGES + [random.Random(1).randrange(R) for _ in range(30)]
    assert native.g1_fixed_base(le(scalars)) == ecc_g1(scalars)


def test_g2_points_are_those_of_py_ecc(native):
    scalars = EDGES + [random.Random(2).randrange(R) for _ in range(8)]
    assert native.g2_fixed_base(le(scalars)) == ecc_g2(scalars)


def test_infinity_is_all_zeros_and_no_scalars_are_no_points(native):
    assert native.g1_fixed_base(bytes(32)) == bytes(64)
    assert native.g2_fixed_base(bytes(32)) == bytes(128)
    assert native.g1_fixed_base(b"") == native.g2_fixed_base(b"") == b""


@pytest.mark.parametrize("group", ["g1_fixed_base", "g2_fixed_base"])
def test_scalars_at_the_order_or_of_odd_length_are_refused(native, group):
    with pytest.raises(
        ValueError, match=r"^element 1 of the scalar vector is not below the BN254 scalar order"
    ):
        getattr(native, group)(le([R - 1, R]))
    with pytest.raises(ValueError, match=r"^the scalar vector has 33 bytes, which is no multiple of 32"):
        getattr(native, group)(bytes(33))


def test_points_do_not_depend_on_the_number_of_threads(native, all_threads):
    scalars = le([random.Random(3).randrange(R) for _ in range(300)])
    results = set()
    for count in (1, 2, 3):
        native.set_threads(count)
        assert native.threads() == count
        results.add((native.g1_fixed_base(scalars), native.g2_fixed_base(scalars)))
    assert len(results) == 1


@pytest.mark.parametrize("count", [0, 65])
def test_thread_counts_out_of_range_are_refused(native, count):
    before = native.threads()
    with pytest.raises(ValueError, match=rf"^cannot prove with {count} threads: choose 1 to 64$"):
        native.set_threads(count)
    assert native.threads() == before


def test_other_python_threads_run_during_a_call(native, all_threads):
    """With the interpreter lock held, this thread would stand still for the whole call."""
    native.set_threads(1)
    scalars = le([random.Random(4).randrange(R) for _ in range(20_000)])
    ticks, finished = [], threading.Event()

    def work() -> None:
        started.append(time.perf_counter())
        native.g1_fixed_base(scalars)
        ended.append(time.perf_counter())
        finished.set()

    started: list[float] = []
    ended: list[float] = []
    worker = threading.Thread(target=work)
    worker.start()
    while not finished.wait(0.001):
        ticks.append(time.perf_counter())
    worker.join()
    assert sum(started[0] < tick < ended[0] for tick in ticks) >= 5
    assert native.__version__ == native.version


def test_a_forked_child_starts_threads_of_its_own(native):
    """A child inherits no threads: a pool taken over from the parent would wait forever."""
    script = (
        "import os, signal, openmg_native as native\n"
        "native.set_threads(3)\n"
        "before = native.g1_fixed_base(bytes(31) + b'\\1')\n"
        "child = os.fork()\n"
        "signal.alarm(20)\n"  # ends parent and child alike, should one of them wait forever
        "if child == 0:\n"
        "    os._exit(not (native.g1_fixed_base(bytes(31) + b'\\1') == before and native.threads() == 3))\n"
        "raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", script], timeout=30).returncode == 0
