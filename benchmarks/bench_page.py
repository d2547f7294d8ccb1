"""What the owner's page costs on a meter: its memory, that of a forecast's process, and how long a page takes.

The home has six weeks of slots, a model, two weeks of prices and of trade, made by the agent's own code; the page is
`openmg-agent page` over HTTP on 127.0.0.1. Memory is the peak resident size that the kernel counted (VmHWM), in MB of 10^6
bytes. Ends with 1 when the page needs more than GOAL_MB. Writes `benchmarks/results/page.json`. With --meters also the page of
a gateway, each of whose tenants logs in and looks once at a home of six weeks; forecasts are left out there, since theirs is
another process.

    python benchmarks/bench_page.py [--pages 50] [--meters 100]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/page")]

from page_kit import T0, PageProcess, fill_store, keep_model, keep_prices, meter_file, trade, write_config  # noqa: E402

from edge_agent.page.codes import CodeFile  # noqa: E402

RESULTS = Path(__file__).with_name("results") / "page.json"
GOAL_MB = 40.0
"""Less than the agent itself (goal 45): both run on a board of 512 MB, beside its system."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=50, help="pages that are asked for; default: 50")
    parser.add_argument("--meters", type=int, default=0, help="of a gateway, 1 to 250; default: no gateway")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        figures = measure(Path(name), arguments.pages)
    if arguments.meters:
        with tempfile.TemporaryDirectory() as name:
            figures |= gateway(Path(name), arguments.meters)
    for key, value in figures.items():
        print(f"{key:30} {value:10.3f}")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    good = max(figures["page_peak_mb"], figures.get("gateway_peak_mb", 0.0)) <= GOAL_MB
    print(f"{'met' if good else 'MISSED'}: at most {GOAL_MB:.0f} MB")
    return 0 if good else 1


def measure(folder: Path, pages: int) -> dict[str, float]:
    """The figures, with units in their names."""
    state = folder / "state"
    state.mkdir()
    store = fill_store(state)
    keep_model(state, store)
    store.close()
    keep_prices(state)
    trade(state, days=14)
    page = PageProcess(ROOT, write_config(folder, market=True))
    try:
        began_mb = peak_mb(page.process.pid)
        page.login()
        page.ask("/")  # with the forecast
        before_s = cpu_s(page.process.pid)
        taken = [timed(page) for _ in range(pages)]
        used_s = cpu_s(page.process.pid) - before_s
        ended_mb = peak_mb(page.process.pid)
    finally:
        page.stop()
    return {
        "page_at_start_mb": began_mb,
        "page_peak_mb": ended_mb,
        "page_median_s": statistics.median(taken),
        "page_cpu_s": used_s / pages,
        **forecast(state),
    }


def gateway(folder: Path, meters: int) -> dict[str, float]:
    """The page of so many meters, each looked at once."""
    names = [f"home-{number}" for number in range(1, meters + 1)]
    (folder / "first").mkdir()
    fill_store(folder / "first").close()
    for name in names:
        meter_file(folder, name)
        shutil.copytree(folder / "first", folder / name)
    page, codes = PageProcess(ROOT, folder / "meters.d"), CodeFile(folder / "page")
    try:
        began_mb, before_s = peak_mb(page.process.pid), cpu_s(page.process.pid)
        for name in names:
            page.cookie = ""
            page.cookie = page.try_code(codes.issue(name, time.time())).cookie
            assert len(page.ask("/api/energy").json["days"]) == 30
        used_s, ended_mb = cpu_s(page.process.pid) - before_s, peak_mb(page.process.pid)
    finally:
        page.stop()
    figures = {"gateway_at_start_mb": began_mb, "gateway_peak_mb": ended_mb, "gateway_login_and_energy_cpu_s": used_s / meters}
    return {"gateway_meters": float(meters), **figures}


def timed(page: PageProcess) -> float:
    began = time.perf_counter()
    answer = page.ask("/")
    assert answer.status == 200 and answer.body.count(b"<svg") == 6
    return time.perf_counter() - began


def forecast(state: Path) -> dict[str, float]:
    """What the process of a forecast takes, in processor time and memory."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    words = (str(state / "store.sqlite"), str(state), "Asia/Seoul", str(T0))
    command = [sys.executable, "-c", CHILD, *words]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=300)
    assert json.loads(result.stdout)["unknown"] is None
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"forecast_peak_mb": float(result.stderr) * 1024 / 1e6, "forecast_cpu_s": used_s}


CHILD = """
import resource, sys
from edge_agent.page.forecast_child import main
main(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


def peak_mb(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(text.split("VmHWM:")[1].split()[0]) * 1024 / 1e6


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(main())
