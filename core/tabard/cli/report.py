"""`tabard report`: what people have to hand in, with the entries each line rests on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tabard.audit.entries import Entry, Filter, find_entries, read_moment
from tabard.audit.reports.access import report_access
from tabard.audit.reports.art12 import report_art12
from tabard.audit.reports.art30 import report_art30
from tabard.audit.reports.csv_text import to_csv
from tabard.audit.reports.declared import Declared
from tabard.audit.reports.denials import report_denials
from tabard.audit.reports.dora import report_dora
from tabard.audit.reports.json_text import to_json
from tabard.audit.reports.log_facts import read_log_facts
from tabard.audit.reports.markdown import to_markdown
from tabard.audit.reports.page import to_html
from tabard.audit.reports.report import LogFacts, Report, Span
from tabard.audit.reports.spend import report_spend
from tabard.cli.output import AsJson, print_json, say
from tabard.cli.sources import PolicyOption
from tabard.clock import read_clock, system_clock
from tabard.errors import ConfigurationError
from tabard.home import Home
from tabard.identity.draft import draft_of
from tabard.policies import CentralPolicy
from tabard.policy.loader import load_document
from tabard.store import SqliteStore, Store

app = typer.Typer(help="Reports to hand in, made from the log.", no_args_is_help=True)


class Format(StrEnum):
    """The forms a report comes in."""

    MARKDOWN = "md"
    HTML = "html"
    CSV = "csv"
    JSON = "json"


_RENDERERS: dict[Format, Callable[[Report], str]] = {
    Format.MARKDOWN: to_markdown,
    Format.HTML: to_html,
    Format.CSV: to_csv,
    Format.JSON: to_json,
}

Since = Annotated[str | None, typer.Option(help="The earliest time, e.g. 2026-11-25T09:30 (UTC).")]
Until = Annotated[str | None, typer.Option(help="The time before which it was.")]
OneSession = Annotated[str | None, typer.Option(help="One session only, by its id.")]
Form = Annotated[Format | None, typer.Option("--format", help="Default md.")]
Out = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write it to a new file, mode 0600.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """What every report is made from."""

    entries: Iterator[Entry]
    log: LogFacts
    span: Span
    declared: Declared | None

    @property
    def digest(self) -> str | None:
        """Of the policy, to be named."""
        return None if self.declared is None else self.declared.policy.digest


def _open(
    context: typer.Context,
    since: str | None,
    until: str | None,
    policy: Path | None,
    session: str | None = None,
) -> _Source:
    store = SqliteStore(Home.locate(context.obj).database)
    span = Span(since=read_moment(since), until=read_moment(until), session=session)
    made_at = datetime.fromtimestamp(read_clock(system_clock), UTC)
    return _Source(
        entries=find_entries(store, Filter(since=span.since, until=span.until)),
        log=read_log_facts(store, made_at=made_at),
        span=span,
        declared=_declared(store, policy),
    )


def _declared(store: Store, file: Path | None) -> Declared | None:
    """The policy of a file, else the one in force; None when no policy was ever applied."""
    from tabard.policy.compiler import compile_document

    if file is None and not store.policy_changes():
        return None
    if file is not None:
        document, text = load_document(file)
    else:
        # A line break, so that it is not taken for a path.
        document, text = load_document(CentralPolicy(store).current().text + "\n")
    return Declared(document=document, policy=compile_document(document, text))


def _tell(report: Report, form: Format | None, out: Path | None, as_json: bool) -> None:
    """Print a report, or write it to a file."""
    if as_json and form not in (None, Format.JSON):
        raise ConfigurationError("report: --json and --format ask for two different forms")
    chosen = Format.JSON if as_json else form or Format.MARKDOWN
    text = _RENDERERS[chosen](report)
    if out is None:
        typer.echo(text, nl=False)
        return
    _write(out, text)
    if as_json:
        print_json([{"file": str(out), "report": report.name, "format": chosen.value}])
    else:
        say(f"{out}: {report.title}")


def _write(path: Path, text: str) -> None:
    """Put a new file in its place, whole; one that is there already is never touched.

    Raises:
        ConfigurationError: There is one, or it cannot be written.
    """
    try:
        with draft_of(path, text.encode(), mode=0o600) as draft:
            os.link(draft, path)
    except FileExistsError:
        raise ConfigurationError(f"{path}: exists already, and is not written over") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no such path can be"
        raise ConfigurationError(f"{path}: cannot be written: {reason}") from None


@app.command()
def art30(
    context: typer.Context,
    since: Since = None,
    until: Until = None,
    policy: PolicyOption = None,
    form: Form = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Draft the register of GDPR Art. 30(1): what the policy declares against what was seen."""
    of = _open(context, since, until, policy)
    _tell(report_art30(of.entries, of.log, of.declared, span=of.span), form, out, as_json)


@app.command()
def art12(
    context: typer.Context,
    session: OneSession = None,
    since: Since = None,
    until: Until = None,
    policy: PolicyOption = None,
    form: Form = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Tell what happened, for AI Act Art. 12, 19 and 26: timeline, risks, oversight, retention."""
    of = _open(context, since, until, policy, session)
    report = report_art12(of.entries, of.log, span=of.span, policy=of.digest)
    if session is not None and not report.extent.entries:
        raise ConfigurationError("report art12: no record of such a session in this span")
    _tell(report, form, out, as_json)


@app.command()
def dora(
    context: typer.Context,
    since: Since = None,
    until: Until = None,
    policy: PolicyOption = None,
    form: Form = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Say which agent reached which ICT asset, for DORA; who changed that; failures of logging."""
    of = _open(context, since, until, policy)
    _tell(report_dora(of.entries, of.log, of.declared, span=of.span), form, out, as_json)


@app.command()
def access(
    context: typer.Context,
    since: Since = None,
    until: Until = None,
    policy: PolicyOption = None,
    form: Form = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Say of each permission when it was used last; what never was is a candidate for removal."""
    of = _open(context, since, until, policy)
    if of.declared is None:
        raise ConfigurationError(
            "report access: no policy was ever applied here; give one with --policy FILE"
        )
    _tell(report_access(of.entries, of.log, of.declared, span=of.span), form, out, as_json)


@app.command()
def spend(
    context: typer.Context,
    since: Since = None,
    until: Until = None,
    policy: PolicyOption = None,
    form: Form = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Say what was held and spent, by budget period, agent and model, against the limits."""
    of = _open(context, since, until, policy)
    _tell(report_spend(of.entries, of.log, of.declared, span=of.span), form, out, as_json)


@app.command()
def denials(
    context: typer.Context,
    since: Since = None,
    until: Until = None,
    policy: PolicyOption = None,
    form: Form = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Say what was refused, by code, agent, rule and action, the most frequent first."""
    of = _open(context, since, until, policy)
    _tell(report_denials(of.entries, of.log, span=of.span, policy=of.digest), form, out, as_json)
