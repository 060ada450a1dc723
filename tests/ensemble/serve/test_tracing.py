"""Spans of requests, as an exporter gets them."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from alphamix.ensemble.serve.app import ServeOptions
from alphamix.policies.registry import Registry

from .upstreams import FakeUpstream, status

ASK = {"model": "both", "n": 2, "messages": [{"role": "user", "content": "hi"}]}
TRACE = "0af7651916cd43dd8448eb211c80319c"


def test_a_request_is_a_span_with_one_for_each_policy(tmp_path: Path, serving: Any) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs the extra otel")
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: PLC0415
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter  # noqa: PLC0415

    from alphamix.ensemble.serve.tracing import SpanTracer  # noqa: PLC0415

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with FakeUpstream("low") as low, FakeUpstream("high", status(500)) as high:
        file = tmp_path / "policies.toml"
        lines = [f'[policies.{fake.name}]\nurl = "{fake.url}"\nmodel = "m"\n' for fake in (low, high)]
        file.write_text("\n".join([*lines, "[mixtures.both]\nweights = { low = 1, high = 1 }"]))
        url = serving(Registry.load(file), ServeOptions(tracer=SpanTracer(provider)))
        headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01", "x-request-id": "r-1"}
        assert httpx.post(f"{url}/chat/completions", json=ASK, headers=headers, timeout=60).status_code == 200
        assert httpx.post(f"{url}/chat/completions", json={**ASK, "model": "x"}, timeout=60).status_code == 404
        sent = {request.headers["traceparent"] for request in low.requests}
    child, span, wrong = exporter.get_finished_spans()
    assert f"{span.context.trace_id:032x}" == TRACE
    assert sent == {f"00-{TRACE}-{span.context.span_id:016x}-01"}
    assert span.attributes["gen_ai.request.model"] == "both"
    assert span.attributes["alphamix.request_id"] == "r-1"
    assert [(event.name, dict(event.attributes)) for event in span.events] == [
        ("policy_failed", {"alphamix.policy": "high", "error.type": "server"})
    ]
    assert (child.name, child.parent.span_id, child.attributes["alphamix.choices"]) == ("low", span.context.span_id, 2)
    assert child.attributes["gen_ai.usage.output_tokens"] == 6
    assert span.start_time <= child.start_time <= child.end_time <= span.end_time
    assert (wrong.attributes["error.type"], wrong.status.is_ok) == ("model_not_found", False)
