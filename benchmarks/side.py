"""What the other sides of a comparison share. Each is a script that reads a workload and prints what it accepted.

Standard input is JSON, `{"problems": [problem, …], "programs": [[index of its problem, source], …]}`, with problems as
in a file of problems. The last line of standard output is `{"accepted": [whether, …], "cpu_s": seconds}`: user and
system time, children included, from after the imports to after the last program.
"""

import json
import resource
import sys
from collections.abc import Callable
from typing import Any


def used_cpu_s() -> float:
    """Return the CPU seconds of this process and of all children that were waited for."""
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def serve(accepts: Callable[[dict[str, Any], str], bool]) -> None:
    """Judge all programs on standard input; `accepts` takes a problem and a source."""
    work = json.load(sys.stdin)
    before_s = used_cpu_s()
    accepted = [accepts(work["problems"][index], source) for index, source in work["programs"]]
    print(json.dumps({"accepted": accepted, "cpu_s": used_cpu_s() - before_s}))
