"""What is counted while serving, as Prometheus reads it.

The hot path adds to plain counters; the samples are made when somebody asks for them. Labels are names of policies,
ensembles and codes of errors: never a client's words.
"""

from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS_S = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000)


class Metrics(Collector):
    """Of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self.requests = Counter[tuple[str, str]]()
        """Answered requests by model and status."""
        self.best_of = Counter[tuple[str, str]]()
        """Answered best-of requests by how the best was selected, and by what ended the search."""
        self.draws = Counter[tuple[str, str]]()
        """Of their budgets, by how the best was selected: drawn, failed, cancelled or spared."""
        self.verdicts = Counter[str]()
        """Of programs that were judged; of those that were only run, AC says that none failed."""
        self._outcomes: dict[str, Counter[str]] = {}
        self._gauges: dict[str, tuple[Callable[[], int], Callable[[], bool]]] = {}
        self._seconds = Histogram(
            "alphamix_request_seconds",
            "From the request until its answer is sent.",
            ["model"],
            buckets=_BUCKETS_S,
            registry=self._registry,
        )

    def answered(self, model: str, status: int, seconds: float) -> None:
        """Count a request of a client. `model` must be one that is served, or empty."""
        self.requests[model, str(status)] += 1
        self._seconds.labels(model).observe(seconds)

    def outcomes_of(self, policy: str) -> Counter[str]:
        """Where a policy counts what came of its calls: `ok`, `left`, or the code of an error."""
        return self._outcomes.setdefault(policy, Counter())

    def watch(self, policy: str, in_flight: Callable[[], int], is_out: Callable[[], bool]) -> None:
        """Read the state of a policy whenever metrics are asked for."""
        self._gauges[policy] = (in_flight, is_out)

    def unwatch(self, policy: str) -> None:
        """Read it no more; what was counted stays."""
        del self._gauges[policy]

    def as_text(self) -> bytes:
        """Write all down in Prometheus' text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Make the samples."""
        requests = CounterMetricFamily("alphamix_requests", "Requests of clients.", labels=["model", "status"])
        for labels, count in list(self.requests.items()):
            requests.add_metric(labels, count)
        calls = CounterMetricFamily("alphamix_policy_calls", "Calls of policies.", labels=["policy", "outcome"])
        for policy, outcomes in self._outcomes.items():
            for outcome, count in list(outcomes.items()):
                calls.add_metric((policy, outcome), count)
        in_flight = GaugeMetricFamily("alphamix_policy_in_flight", "Calls under way.", labels=["policy"])
        is_out = GaugeMetricFamily("alphamix_policy_out_of_service", "1: it failed repeatedly.", labels=["policy"])
        for policy, (count_now, out_now) in self._gauges.items():
            in_flight.add_metric((policy,), count_now())
            is_out.add_metric((policy,), out_now())
        best_of = CounterMetricFamily("alphamix_best_of", "Best-of requests.", labels=["select", "stopped"])
        for labels, count in list(self.best_of.items()):
            best_of.add_metric(labels, count)
        draws = CounterMetricFamily("alphamix_best_of_draws", "Of their budgets.", labels=["select", "state"])
        for labels, count in list(self.draws.items()):
            draws.add_metric(labels, count)
        verdicts = CounterMetricFamily("alphamix_verdicts", "Programs of clients that ran.", labels=["verdict"])
        for verdict, count in list(self.verdicts.items()):
            verdicts.add_metric((verdict,), count)
        yield from (requests, calls, in_flight, is_out, best_of, draws, verdicts)
