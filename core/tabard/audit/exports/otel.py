"""An entry as an OpenTelemetry span with the names of the GenAI conventions; extra `tabard[otel]`.

A session is a trace. A decision is a span without length; the outcome is its child and as long as
the call was, so that only calls that ran count as operations. Ids follow from the log: an entry
that is sent twice is the same span twice. No convention has a place for a policy's decision, so it
is in `tabard.*`.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

from tabard.audit.entries import Entry
from tabard.audit.exports.members import Members, known

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext, Status

_OPERATIONS = {
    "tool": "execute_tool",
    "model": "chat",
    "retrieval": "retrieval",
    "delegation": "invoke_agent",
}
_MAX_DURATION = 366 * 86_400 * 10**9


def to_span(entry: Entry, origin: str) -> ReadableSpan:
    """The span of an entry, ended.

    Args:
        entry: The entry.
        origin: The name of the log.

    Raises:
        ImportError: The extra is not installed.
    """
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import SpanKind

    members = Members(entry, origin)
    ran = members.kind.endswith(".outcome")
    end = members.nanoseconds
    took = round((members.milliseconds("outcome.duration_ms") or 0) * 10**6) if ran else 0
    return ReadableSpan(
        name=_name(members, ran=ran),
        context=_context(members, "outcome" if ran else "decision"),
        parent=_context(members, "decision") if ran and members.call else None,
        resource=Resource({"service.name": "tabard", "tabard.origin": members.origin}),
        attributes=attributes(members),
        kind=SpanKind.INTERNAL,
        status=_status(members),
        instrumentation_scope=InstrumentationScope("tabard.audit"),
        start_time=max(0, end - min(took, _MAX_DURATION)),
        end_time=end,
    )


def attributes(members: Members) -> dict[str, Any]:
    """What the span says, by the names of the conventions."""
    spiffe_id, name = members.agent
    kind, action = members.text("action.kind"), members.text("action.name")
    provider, model = members.model
    ran = members.kind.endswith(".outcome")
    return known(
        {
            "gen_ai.operation.name": _OPERATIONS.get(kind or "") if ran else None,
            "gen_ai.agent.id": spiffe_id,
            "gen_ai.agent.name": name,
            "gen_ai.conversation.id": members.text("session"),
            "gen_ai.tool.name": action if kind == "tool" else None,
            "gen_ai.tool.call.id": members.text("action.call_id") if kind == "tool" else None,
            "gen_ai.data_source.id": action if kind == "retrieval" else None,
            "gen_ai.provider.name": provider,
            "gen_ai.request.model": model,
            "gen_ai.request.max_tokens": members.count("action.max_output_tokens"),
            "gen_ai.response.id": members.text("provider_id"),
            "gen_ai.usage.input_tokens": members.count("usage.input_tokens"),
            "gen_ai.usage.output_tokens": members.count("usage.output_tokens"),
            "gen_ai.usage.cache_read.input_tokens": members.count("usage.cache_read_tokens"),
            "gen_ai.usage.cache_creation.input_tokens": members.count("usage.cache_write_tokens"),
            "enduser.pseudo.id": members.text("on_behalf_of"),
            "error.type": members.error,
            **{f"tabard.{fact}": value for fact, value in members.own().items()},
        }
    )


def _name(members: Members, *, ran: bool) -> str:
    action = members.text("action.name")
    if action is None:
        return members.kind
    operation = _OPERATIONS.get(members.text("action.kind") or "", members.kind)
    return f"{operation} {action}" if ran else f"decide {operation} {action}"


def _context(members: Members, part: str) -> SpanContext:
    from opentelemetry.trace import SpanContext, TraceFlags

    # An entry about no call stands for itself.
    about = members.call or members.entry.leaf
    trace = members.text("session") or about
    return SpanContext(
        trace_id=_id(members.origin, trace, size=16),
        span_id=_id(members.origin, about, part, size=8),
        is_remote=False,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
    )


def _id(*names: str, size: int) -> int:
    # Never 0, which would be no id.
    return int.from_bytes(sha256("\n".join(names).encode()).digest()[:size]) | 1


def _status(members: Members) -> Status:
    from opentelemetry.trace import Status, StatusCode

    if members.error is None:
        return Status(StatusCode.UNSET)
    return Status(StatusCode.ERROR, members.text("decision.reason") or members.error)
