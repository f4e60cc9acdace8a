"""The tables of a SQLite home and how older ones are brought up to date."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlite_utils import Database

APPLICATION_ID = 0x74616264
"""`tabd`: marks a SQLite file as tabard's, so that a foreign database is never written to."""

_TABLES = """
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE agent (
    spiffe_id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    team TEXT NOT NULL,
    environment TEXT NOT NULL,
    purpose TEXT,
    owner TEXT,
    attributes TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('active', 'revoked')),
    created_at INTEGER NOT NULL,
    revoked_at INTEGER,
    reason TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX agent_by_name ON agent (name);

-- AUTOINCREMENT: the highest index ever given is kept, so a missing tail shows.
CREATE TABLE record (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    leaf BLOB NOT NULL,
    body TEXT NOT NULL
) STRICT;

-- Guard rails against mistakes; the evidence is the chain.
CREATE TRIGGER record_is_final BEFORE UPDATE ON record
BEGIN SELECT raise(ABORT, 'audit records are never changed'); END;
CREATE TRIGGER record_stays BEFORE DELETE ON record
BEGIN SELECT raise(ABORT, 'audit records are never deleted'); END;
CREATE TRIGGER identity_stays BEFORE DELETE ON agent
BEGIN SELECT raise(ABORT, 'an identity is never deleted, so that it is never reused'); END;
"""


_REVOCATION = """
-- Tokens issued before this POSIX second are refused; 0 refuses none.
ALTER TABLE agent ADD COLUMN min_iat INTEGER NOT NULL DEFAULT 0;

-- Single tokens that are refused; a row is of no more use after `expires`.
CREATE TABLE denied_token (
    jti TEXT PRIMARY KEY,
    expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
"""

_API_KEYS = """
CREATE TABLE api_key (
    id TEXT PRIMARY KEY,
    spiffe_id TEXT NOT NULL REFERENCES agent (spiffe_id),
    digest BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    revoked INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX api_key_by_agent ON api_key (spiffe_id);
"""


_TRUST = """
-- Whatever bears a name (a credential, a key, a trust domain, a proof) until a POSIX second.
CREATE TABLE refused (
    name TEXT PRIMARY KEY,
    expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO refused SELECT jti, expires FROM denied_token;
DROP TABLE denied_token;

ALTER TABLE api_key ADD COLUMN kind TEXT NOT NULL DEFAULT 'key'
    CHECK (kind IN ('key', 'join', 'joined'));

-- The authority's keys; their private halves lie in files. `element` is what the bundle says.
CREATE TABLE issuer_key (
    kid TEXT PRIMARY KEY,
    use TEXT NOT NULL CHECK (use IN ('jwt-svid', 'x509-svid')),
    state TEXT NOT NULL CHECK (state IN ('next', 'active', 'retiring', 'gone', 'killed')),
    since INTEGER NOT NULL,
    element TEXT NOT NULL,
    expires INTEGER
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX one_key_signs ON issuer_key (use) WHERE state = 'active';

-- One key set per trust domain.
CREATE TABLE trust_bundle (
    trust_domain TEXT PRIMARY KEY,
    document TEXT NOT NULL,
    origin TEXT NOT NULL,
    pin TEXT,
    checked_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
"""


_POLICY = """
-- Every policy that ever decided here, by digest; and which one is in force.
CREATE TABLE policy (
    digest TEXT PRIMARY KEY,
    text TEXT NOT NULL,
    stored_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE policy_change (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    digest TEXT NOT NULL REFERENCES policy (digest),
    applied_at INTEGER NOT NULL,
    applied_by TEXT
) STRICT;

-- Nano-units. A hold is the truth about one call; a budget row is the sum of its holds.
CREATE TABLE budget (
    key TEXT PRIMARY KEY,
    spent INTEGER NOT NULL CHECK (spent >= 0),
    held INTEGER NOT NULL CHECK (held >= 0)
) STRICT, WITHOUT ROWID;
CREATE TABLE hold (
    call TEXT PRIMARY KEY,
    amount INTEGER NOT NULL CHECK (amount >= 0),
    keys TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('open', 'settled', 'expired')),
    actual INTEGER CHECK (actual >= 0),
    expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX hold_by_expiry ON hold (expires) WHERE state = 'open';

-- The moments (POSIX microseconds) of the latest calls that count against a rate.
CREATE TABLE rate_call (
    key TEXT NOT NULL,
    n INTEGER NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (key, n)
) STRICT, WITHOUT ROWID;

CREATE TABLE approval (
    id TEXT PRIMARY KEY,
    binding TEXT NOT NULL,
    spiffe_id TEXT NOT NULL,
    chain TEXT NOT NULL,
    session TEXT NOT NULL,
    tool TEXT NOT NULL,
    rule TEXT NOT NULL,
    role TEXT NOT NULL,
    ttl INTEGER NOT NULL,
    shown TEXT NOT NULL,
    requested_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'granted', 'denied', 'used')),
    decided_by TEXT,
    reason TEXT
) STRICT;
CREATE INDEX approval_by_binding ON approval (binding);
"""


_JOINED = """
-- The join token a key was made for: who takes the one back takes the other along.
ALTER TABLE api_key ADD COLUMN parent TEXT;
CREATE INDEX refused_by_expiry ON refused (expires);
"""


_SHORT_HOLDS = """
-- A settled hold is of no more use: the outcome record says what the call has cost. What is left is
-- little, and the ids of calls begin with their time, so that no index is needed to find the old.
DELETE FROM hold WHERE state = 'settled';
DROP INDEX hold_by_expiry;
"""


_PROOF = """
-- Names the log for ever: two homes of one trust domain have two logs.
INSERT INTO meta VALUES ('log_id', lower(hex(randomblob(8))));

-- Signed tree heads over the first `size` records, and the full subtrees to go on from.
CREATE TABLE checkpoint (
    size INTEGER PRIMARY KEY,
    note TEXT NOT NULL,
    peaks TEXT NOT NULL,
    sealed_at INTEGER NOT NULL
) STRICT;
CREATE TRIGGER checkpoint_is_final BEFORE UPDATE ON checkpoint
BEGIN SELECT raise(ABORT, 'checkpoints are never changed'); END;
CREATE TRIGGER checkpoint_stays BEFORE DELETE ON checkpoint
BEGIN SELECT raise(ABORT, 'checkpoints are never deleted'); END;

-- How far records were dropped because their time was over; always up to a checkpoint.
CREATE TABLE pruned (
    size INTEGER PRIMARY KEY REFERENCES checkpoint (size),
    pruned_at INTEGER NOT NULL
) STRICT;
DROP TRIGGER record_stays;
CREATE TRIGGER record_stays BEFORE DELETE ON record
WHEN old.id > coalesce((SELECT max(size) FROM pruned), 0)
BEGIN SELECT raise(ABORT, 'audit records are never deleted'); END;

-- The users agents work for. Without its row nobody can tell whose a pseudonym was, or read what
-- was encrypted with its key.
CREATE TABLE subject (
    lookup TEXT PRIMARY KEY,
    pseudonym TEXT NOT NULL UNIQUE,
    key BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Arguments and results that a policy says to keep, encrypted; no record depends on a row here.
CREATE TABLE payload (
    call TEXT NOT NULL,
    part TEXT NOT NULL CHECK (part IN ('arguments', 'result')),
    pseudonym TEXT,
    data BLOB NOT NULL,
    PRIMARY KEY (call, part)
) STRICT, WITHOUT ROWID;
CREATE INDEX payload_by_subject ON payload (pseudonym) WHERE pseudonym IS NOT NULL;

-- What people search the log by: read out of the very bytes that are evidence, so that it cannot
-- disagree with them.
CREATE VIEW entry AS SELECT
    id AS entry,
    body ->> '$.ts' AS time,
    body ->> '$.type' AS type,
    body ->> '$.agent.name' AS agent,
    body ->> '$.agent.team' AS team,
    body ->> '$.agent.environment' AS environment,
    body ->> '$.agent.instance' AS instance,
    body ->> '$.session' AS session,
    coalesce(body ->> '$.call', body ->> '$.id') AS call,
    body ->> '$.action.kind' AS kind,
    body ->> '$.action.name' AS action,
    body ->> '$.decision.effect' AS decision,
    body ->> '$.decision.code' AS code,
    body ->> '$.decision.rule' AS rule,
    body ->> '$.decision.reason' AS reason,
    body ->> '$.decision.mode' AS mode,
    body ->> '$.outcome.status' AS outcome,
    body ->> '$.outcome.error_type' AS error,
    body ->> '$.outcome.duration_ms' AS duration_ms,
    body ->> '$.usage.input_tokens' AS input_tokens,
    body ->> '$.usage.output_tokens' AS output_tokens,
    body ->> '$.cost.amount' AS cost_nano,
    body ->> '$.cost.currency' AS currency,
    body ->> '$.data.purpose' AS purpose,
    body ->> '$.data.data_class' AS data_class,
    body ->> '$.on_behalf_of' AS on_behalf_of,
    lower(hex(leaf)) AS leaf
FROM record;
"""


_SHOWN = """
-- Whose values a question shows, so that they can be erased. Whose those of older questions are
-- is not known: they go now, and open ones are put again.
ALTER TABLE approval ADD COLUMN pseudonym TEXT;
UPDATE approval SET
    shown = '{}',
    expires_at = iif(state IN ('pending', 'granted'), min(expires_at, requested_at), expires_at)
WHERE shown != '{}';
CREATE INDEX approval_by_subject ON approval (pseudonym) WHERE pseudonym IS NOT NULL;
CREATE INDEX approval_that_shows ON approval (expires_at) WHERE shown != '{}';
"""


_STEPS = (
    ("0001_identity_and_record", _TABLES),
    ("0002_revocation", _REVOCATION),
    ("0003_api_keys", _API_KEYS),
    ("0004_trust", _TRUST),
    ("0005_policy", _POLICY),
    ("0006_joined", _JOINED),
    ("0007_short_holds", _SHORT_HOLDS),
    ("0008_proof", _PROOF),
    ("0009_shown", _SHOWN),
)
VERSION = len(_STEPS)
"""`PRAGMA user_version` of a database with every step applied."""


def migrate(connection: sqlite3.Connection, *, trust_domain: str | None) -> None:
    """Create the tables for a trust domain, or bring those of an older version up to date."""
    from sqlite_utils import Database, Migrations

    migrations = Migrations("tabard")
    for version, (name, script) in enumerate(_STEPS, start=1):
        migrations(name=name)(_step(version, script, trust_domain))
    migrations.apply(Database(connection))


def _step(version: int, script: str, trust_domain: str | None) -> Callable[[Database], None]:
    def apply(database: Database) -> None:
        for statement in _split(script):
            database.execute(statement)
        if version == 1:
            database.execute("INSERT INTO meta VALUES ('trust_domain', ?)", [trust_domain])
            database.execute("INSERT INTO meta VALUES ('secret', ?)", [os.urandom(32).hex()])
            database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        database.execute(f"PRAGMA user_version = {version}")

    return apply


def _split(script: str) -> list[str]:
    """The statements of a script; `executescript` would commit the migration half-way."""
    statements, pending = [], ""
    for line in script.splitlines():
        pending += line + "\n"
        if sqlite3.complete_statement(pending):
            statements.append(pending.strip())
            pending = ""
    return statements
