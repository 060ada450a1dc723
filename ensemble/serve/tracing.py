# pyright: reportMissingImports=false, reportUnknownParameterType=false
"""OpenTelemetry: a span for each request, and one within it for each policy that answered. Needs the extra `otel`.

The names of attributes are those of the conventions for generative AI. The variables of OpenTelemetry, such as
`OTEL_EXPORTER_OTLP_ENDPOINT`, say where spans go; `traceparent` is read from clients and sent to upstreams.
"""

from collections.abc import Mapping
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from alphamix.ensemble.serve.protocol.request_record import RequestRecord

_NANOSECONDS = 10**9


class SpanTracer:
    """Traces requests."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer: Any = provider.get_tracer("alphamix")
        self._propagator = TraceContextTextMapPropagator()

    @classmethod
    def from_environment(cls) -> "SpanTracer":
        """Return a tracer that exports spans to where the variables of OpenTelemetry say."""
        provider = TracerProvider(resource=Resource.create({"service.name": "alphamix"}))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        return cls(provider)

    def begin(self, record: RequestRecord, headers: Mapping[str, str]) -> Any:
        """Begin the span of a request, whose id then goes upstream with it."""
        parent = self._propagator.extract(dict(headers))
        start = int(record.started_at * _NANOSECONDS)
        span = self._tracer.start_span(record.path, parent, SpanKind.SERVER, start_time=start)
        self._propagator.inject(record.headers, set_span_in_context(span))
        return span

    def end(self, span: Any, record: RequestRecord) -> None:
        """End the span of a request whose answer has been sent."""
        start = int(record.started_at * _NANOSECONDS)
        span.set_attributes(
            {
                "gen_ai.operation.name": "chat" if record.path.startswith("chat") else "text_completion",
                "gen_ai.request.model": record.model,
                "gen_ai.request.choice.count": record.n,
                "http.response.status_code": record.status,
                "alphamix.request_id": record.id,
                "alphamix.key": record.key,
            }
        )
        if record.first_token_s is not None:
            span.set_attribute("gen_ai.response.time_to_first_chunk", record.first_token_s)
        for failure in record.failures:
            span.add_event("policy_failed", {"alphamix.policy": failure.policy, "error.type": failure.cause})
        if record.error is not None:
            span.set_attribute("error.type", record.error)
            span.set_status(Status(StatusCode.ERROR))
        for name, share in record.policies.items():
            child = self._tracer.start_span(name, set_span_in_context(span), SpanKind.CLIENT, start_time=start)
            tokens = {"input": share.prompt_tokens, "output": share.completion_tokens}
            child.set_attributes(
                {"alphamix.policy": name, "alphamix.choices": share.choices, "alphamix.calls": share.calls}
            )
            child.set_attributes({f"gen_ai.usage.{kind}_tokens": n for kind, n in tokens.items() if n is not None})
            child.end(start + int(share.seconds * _NANOSECONDS))
        span.end(start + int(record.seconds * _NANOSECONDS))

    def close(self) -> None:
        """Export the spans that wait."""
        self._provider.shutdown()
