"""`tabard bundle`: whose credentials count here, and the keys that vouch for them."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from tabard.authority import Authority
from tabard.cli.output import AsJson, Author, Reason, moment, print_json, print_table, say
from tabard.errors import ConfigurationError
from tabard.home import Home
from tabard.identity import TrustBundle
from tabard.identity.issuer_key import IssuerKey
from tabard.identity.trusted_domain import TrustedDomain
from tabard.store import SqliteStore

app = typer.Typer(help="Trust bundles and the keys in them.", no_args_is_help=True)

Domain = Annotated[str, typer.Argument(help="The trust domain, for example other.example.")]


@app.command()
def show(context: typer.Context, as_json: AsJson = False) -> None:
    """Show every trust domain that counts here, and this home's own keys."""
    store = SqliteStore(Home.locate(context.obj).database)  # needs no signing key
    domains, keys = store.trusted_domains(), store.issuer_keys()
    if as_json:
        print_json(_facts(domain) for domain in domains)
        print_json(map(_key_facts, keys))
        return
    rows = [
        (f["trust_domain"], f["sequence"], len(f["keys"]), f["authorities"], f["origin"])
        for f in map(_facts, domains)
    ]
    columns = ("trust domain", "sequence", "keys", "authorities", "origin")
    print_table("trust domains", columns, rows)
    _print_keys(keys)


def _print_keys(keys: list[IssuerKey]) -> None:
    rows = [(k.kid, k.state, k.use, moment(k.since)[5:]) for k in keys]
    print_table("keys of this home", ("key", "state", "use", "since (UTC)"), rows)


def _key_facts(key: IssuerKey) -> dict[str, Any]:
    return {"kid": key.kid, "use": key.use, "state": key.state, "since": key.since}


def _facts(domain: TrustedDomain) -> dict[str, Any]:
    bundle = TrustBundle.from_jwks(domain.document, trust_domain=domain.name)
    return {
        "trust_domain": domain.name,
        "origin": domain.origin,
        "sequence": bundle.sequence,
        "keys": sorted(bundle.token_key_ids),
        "authorities": len(bundle.authorities),
        "checked": domain.checked_at,
    }


@app.command()
def export(
    context: typer.Context,
    trust_domain: Annotated[str | None, typer.Argument(help="Default: this home's own.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="On one line.")] = False,
) -> None:
    """Print a trust bundle as a SPIFFE JWKS, for verifiers elsewhere; it holds no secret."""
    store = SqliteStore(Home.locate(context.obj).database)
    name = trust_domain or store.trust_domain
    domain = store.trusted_domain(name)
    if domain is None:
        raise ConfigurationError(f"{name!r} is not trusted here")
    document = domain.document.rstrip("\n")
    typer.echo(json.dumps(json.loads(document)) if as_json else document)


@app.command()
def trust(
    context: typer.Context,
    trust_domain: Domain,
    origin: Annotated[
        str, typer.Argument(help="A file, an https:// address, or unix:///... of a Workload API.")
    ],
    pin: Annotated[
        str | None, typer.Option(help="PEM certificates that have to vouch for the address.")
    ] = None,
    replace: Annotated[bool, typer.Option(help="Replace the bundle it is trusted by now.")] = False,
    go_back: Annotated[
        bool, typer.Option(help="Believe keys again that are refused; take a lower sequence.")
    ] = False,
    author: Author = None,
    as_json: AsJson = False,
) -> None:
    """Trust another trust domain by its bundle, so that its agents can be registered here."""
    with Authority.open(context.obj) as authority:
        bundle = authority.federation.trust(
            trust_domain,
            origin,
            pin=pin,
            replace_known=replace,
            go_back=go_back,
            author=author,
        )
    if as_json:
        facts = {"keys": len(bundle), "authorities": len(bundle.authorities)}
        print_json([{"trust_domain": trust_domain, **facts}])
        return
    held = f"{len(bundle)} keys and {len(bundle.authorities)} authorities"
    say(f"{trust_domain} is trusted by {held}; register its agents with --spiffe-id")


@app.command()
def distrust(
    context: typer.Context,
    trust_domain: Domain,
    reason: Reason,
    author: Author = None,
    as_json: AsJson = False,
) -> None:
    """Trust a domain no more: every credential and session of its agents is refused."""
    with Authority.open(context.obj) as authority:
        authority.federation.distrust(trust_domain, reason=reason, author=author)
    if as_json:
        print_json([{"trust_domain": trust_domain, "trusted": False}])
    else:
        say(f"{trust_domain} is trusted no more")


@app.command()
def rotate(context: typer.Context, author: Author = None, as_json: AsJson = False) -> None:
    """Let the next keys sign from now on; what the old ones signed counts to its end."""
    with Authority.open(context.obj) as authority:
        keys = authority.issuer.rotate(author=author)
    if as_json:
        print_json(map(_key_facts, keys))
    else:
        _print_keys(keys)


@app.command(context_settings={"ignore_unknown_options": True})  # an id may begin with a dash
def kill(
    context: typer.Context,
    kid: Annotated[str, typer.Argument(help="The key, as `bundle show` names it.")],
    reason: Reason,
    author: Author = None,
    as_json: AsJson = False,
) -> None:
    """Trust a key no more, at once: all it vouched for is refused; another one takes over."""
    with Authority.open(context.obj) as authority:
        killed = authority.issuer.kill(kid, reason=reason, author=author)
    if as_json:
        print_json([_key_facts(killed)])
        return
    say(f"{kid} is dead; every credential and session it vouched for is refused")
