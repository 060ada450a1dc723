"""Metrics of serving, in the format of Prometheus.

Requests only add to plain counters, which is cheap; the samples are made when the metrics are read. Labels are names of
keys, policies and ensembles and codes of errors, never text of a client.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from alphamix.ensemble.serve.protocol.request_record import RequestRecord

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS_S = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000)


class Metrics(Collector):
    """Metrics of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self.requests = Counter[tuple[str, str]]()
        """Number of answered requests by model and status."""
        self.best_of = Counter[tuple[str, str]]()
        """Number of answered best-of requests by method of selection and by what ended the search."""
        self.draws = Counter[tuple[str, str]]()
        """Number of draws by method of selection and state: drawn, failed, cancelled or spared."""
        self.verdicts = Counter[str]()
        """Number of judged programs by verdict; for programs that were only run, AC means that none of them failed."""
        self.calls = Counter[tuple[str, str]]()
        """Number of calls by policy and outcome: `ok`, `left` (the client left), or the code of an error."""
        self.tokens = Counter[tuple[str, str, str]]()
        """Number of tokens by key, policy and kind: prompt, completion, or estimated where they were not reported."""
        self._gauges: dict[str, tuple[Callable[[], int], Callable[[], bool]]] = {}
        self._seconds = Histogram(
            "alphamix_request_seconds",
            "From the request until its answer is sent.",
            ["model"],
            buckets=_BUCKETS_S,
            registry=self._registry,
        )
        self._first_token_seconds = Histogram(
            "alphamix_first_token_seconds",
            "From the request until the first chunk of its stream.",
            ["model"],
            buckets=_BUCKETS_S,
            registry=self._registry,
        )

    def answered(self, record: RequestRecord) -> None:
        """Count a request of a client. Its model must be the name of a served model, or empty."""
        self.requests[record.model, str(record.status)] += 1
        self._seconds.labels(record.model).observe(record.seconds)
        if record.first_token_s is not None:
            self._first_token_seconds.labels(record.model).observe(record.first_token_s)
        for policy, share in record.policies.items():
            self.tokens[record.key, policy, "prompt"] += share.prompt_tokens or 0
            self.tokens[record.key, policy, "completion"] += share.completion_tokens or 0
            self.tokens[record.key, policy, "estimated"] += share.estimated_tokens

    def watch(self, policy: str, in_flight: Callable[[], int], is_out: Callable[[], bool]) -> None:
        """Report the state of a policy from now on."""
        self._gauges[policy] = (in_flight, is_out)

    def unwatch(self, policy: str) -> None:
        """Stop reporting the state of a policy; its counts are kept."""
        del self._gauges[policy]

    def as_text(self) -> bytes:
        """Return all metrics in the text format of Prometheus."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics but the histogram, as the registry asks for them."""
        verdicts = [((verdict,), count) for verdict, count in self.verdicts.items()]
        yield _counter("alphamix_requests", "Requests of clients.", ["model", "status"], self.requests.items())
        yield _counter("alphamix_policy_calls", "Calls of policies.", ["policy", "outcome"], self.calls.items())
        yield _counter("alphamix_tokens", "Tokens.", ["key", "policy", "kind"], self.tokens.items())
        in_flight = GaugeMetricFamily("alphamix_policy_in_flight", "Calls under way.", labels=["policy"])
        is_out = GaugeMetricFamily("alphamix_policy_out_of_service", "1: it failed repeatedly.", labels=["policy"])
        for policy, (read_in_flight, read_is_out) in self._gauges.items():
            in_flight.add_metric((policy,), read_in_flight())
            is_out.add_metric((policy,), read_is_out())
        yield from (in_flight, is_out)
        yield _counter("alphamix_best_of", "Best-of requests.", ["select", "stopped"], self.best_of.items())
        yield _counter("alphamix_best_of_draws", "Draws of best-of requests.", ["select", "state"], self.draws.items())
        yield _counter("alphamix_verdicts", "Programs of clients that ran.", ["verdict"], verdicts)


def _counter(
    name: str, help_text: str, labels: list[str], counts: Iterable[tuple[tuple[str, ...], int]]
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, help_text, labels=labels)
    for values, count in counts:
        family.add_metric(values, count)
    return family
