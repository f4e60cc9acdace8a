"""Shows a snapshot of the log in a browser on this machine, with Datasette; extra `tabard[ui]`.

It listens on 127.0.0.1 and lets in who has the address it prints: other users of the machine, and
pages of other sites in the same browser, get nothing.
"""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

from tabard.errors import ConfigurationError

HOST = "127.0.0.1"

_SETTINGS = {
    "allow_download": False,
    "default_cache_ttl": 0,
    "facet_time_limit_ms": 1000,
    "sql_time_limit_ms": 3000,
    "suggest_facets": False,
    "truncate_cells_html": 200,
}
_BARS = {"type": "bar", "tooltip": True}


def _chart(title: str, query: str, x: dict[str, Any], y: dict[str, Any], by: str) -> dict[str, Any]:
    encoding = {"x": x, "y": y, "color": {"field": by, "type": "nominal"}}
    return {
        "title": title,
        "db": "log",
        "query": query,
        "library": "vega-lite",
        "display": {"mark": _BARS, "encoding": encoding},
    }


def _amount(field: str, title: str) -> dict[str, Any]:
    return {"field": field, "type": "quantitative", "title": title}


def _named(field: str, title: str) -> dict[str, Any]:
    return {"field": field, "type": "nominal", "title": title, "sort": "-x"}


_HOURS = {"field": "hour", "type": "temporal", "title": "hour (UTC)"}
_CHARTS = {
    "timeline": _chart(
        "Decisions per hour",
        "SELECT hour, decision, calls FROM timeline_per_hour",
        _HOURS,
        _amount("calls", "calls"),
        "decision",
    ),
    "denials": _chart(
        "Why calls were refused",
        "SELECT code, agent, sum(denials) AS denials FROM denials_by_code GROUP BY code, agent",
        _amount("denials", "refused"),
        _named("code", "code"),
        "agent",
    ),
    "calls": _chart(
        "Who called what",
        "SELECT agent, action, allowed + refused AS calls FROM calls_by_agent_and_tool LIMIT 200",
        _amount("calls", "calls"),
        _named("action", "tool, model or source"),
        "agent",
    ),
    "spend": _chart(
        "What it cost",
        "SELECT agent, currency, spent FROM spend_by_agent",
        _amount("spent", "spent"),
        _named("agent", "agent"),
        "currency",
    ),
}
_QUERIES = {
    "session": {
        "title": "What one session did",
        "sql": "SELECT * FROM entry WHERE session = :session ORDER BY entry",
    },
    "refused": {
        "title": "The latest refusals",
        "sql": "SELECT entry, time, agent, action, decision, code, reason FROM entry "
        "WHERE decision <> 'allow' ORDER BY entry DESC LIMIT 100",
    },
    "without_outcome": {
        "title": "Calls that were let run, and have no outcome",
        "sql": "SELECT * FROM entry AS d WHERE type LIKE '%.decision' AND decision = 'allow' "
        "AND NOT EXISTS (SELECT 1 FROM entry AS o WHERE o.call = d.call AND o.outcome <> '' "
        "AND o.session = d.session) ORDER BY entry",
    },
}


def metadata(origin: str, entries: int) -> dict[str, Any]:
    """What Datasette is told: titles, facets, queries, dashboards, and who may look."""
    return {
        "title": f"The audit log {origin}",
        "description": f"A snapshot of {entries} entries, to look at. It proves nothing: "
        "`tabard audit verify` and `tabard audit export` do.",
        "allow": {"id": "root"},
        "databases": {
            # Datasette's list of what it serves: of no use here, and not the log's.
            "_internal": {"allow": False, "allow_sql": False},
            "log": {
                "queries": _QUERIES,
                "tables": {
                    "entry": {
                        "description": "One row an entry; `leaf` is the hash of its exact bytes.",
                        "sort_desc": "entry",
                        "facets": ["agent", "type", "decision", "code"],
                    }
                },
            },
        },
        "plugins": {
            "datasette-dashboards": {
                "agents": {
                    "title": "What the agents did",
                    "layout": [["timeline", "denials"], ["calls", "spend"]],
                    "charts": _CHARTS,
                }
            }
        },
    }


class Viewer:
    """Datasette over one snapshot, not yet serving.

    Attributes:
        url: The address that lets its first visitor in; as good as a password.
    """

    def __init__(self, snapshot: Path, *, origin: str, entries: int, port: int) -> None:
        """Take the port.

        Args:
            snapshot: The file, named `log.db`.
            origin: The name of the log.
            entries: How many entries the snapshot has.
            port: Where to listen; 0 takes a free one.

        Raises:
            ConfigurationError: The extra is not installed, or the port is taken.
        """
        try:
            from datasette.app import Datasette
        except ImportError:
            raise ConfigurationError(
                "audit ui: Datasette is not installed; `pip install tabard[ui]`"
            ) from None
        self._datasette = Datasette(
            immutables=[str(snapshot)],
            metadata=metadata(origin, entries),
            settings=_SETTINGS,
        )
        self._socket = _listen(port)
        token = self._datasette._root_token  # what `datasette --root` prints
        address = f"http://{HOST}:{self._socket.getsockname()[1]}"
        self.url = f"{address}/-/auth-token?token={token}"

    def serve(self) -> None:
        """Answer until somebody interrupts.

        Raises:
            KeyboardInterrupt: Somebody did.
        """
        import uvicorn

        asyncio.run(self._datasette.invoke_startup())
        config = uvicorn.Config(
            self._datasette.app(),
            log_level="error",
            access_log=False,
            lifespan="on",
            timeout_graceful_shutdown=2,
        )
        with self._socket:
            uvicorn.Server(config).run(sockets=[self._socket])


def _listen(port: int) -> socket.socket:
    try:
        return socket.create_server((HOST, port))
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or "no such port"
        raise ConfigurationError(f"audit ui: cannot listen on {HOST}:{port}: {why}") from None
