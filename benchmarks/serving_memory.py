"""The memory of `alphamix serve` over 100,000 requests: resident size after 10,000, 20,000, …, whole and streamed.

The server has an ensemble of two equal policies in front of one fast fake upstream, with 32 requests in flight; one
request in ten is streamed, in 100 chunks. Run `python benchmarks/serving_memory.py`; as with `serving.py`, both ends
need uvloop.
"""

import argparse
import re
import tempfile
from pathlib import Path

from serving import Load, measured, proxies, running, upstream

ROUNDS = 10
ROUND = (Load("whole", 32, 9_000), Load("streamed", 32, 1_000, is_stream=True))


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds: int = parser.parse_args().rounds
    per_round = sum(load.requests for load in ROUND)
    print("| requests | resident, MB |\n|---|---|")
    with upstream() as port, tempfile.TemporaryDirectory() as folder:
        *_, ensemble = proxies(Path(folder), f"http://127.0.0.1:{port}/v1", None)
        with running(ensemble) as (own_port, process):
            print(f"| 1 | {resident_mb(process):.1f} |")
            for number in range(1, rounds + 1):
                for load in ROUND:
                    measured(own_port, load, process, ensemble.model)
                print(f"| {number * per_round:,} | {resident_mb(process):.1f} |", flush=True)


def resident_mb(process: int) -> float:
    """Return the resident memory of a process."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


if __name__ == "__main__":
    main()
