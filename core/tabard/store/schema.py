"""The tables of a SQLite home and how older ones are brought up to date."""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlite_utils import Database

APPLICATION_ID = 0x74616264
"""`tabd`: marks a SQLite file as tabard's, so that a foreign database is never written to."""

VERSION = 4
"""`PRAGMA user_version` of a database with every migration below applied."""

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


def migrate(connection: sqlite3.Connection, *, trust_domain: str | None) -> None:
    """Create the tables for a trust domain, or bring those of an older version up to date."""
    from sqlite_utils import Database, Migrations

    migrations = Migrations("tabard")

    @migrations(name="0001_identity_and_record")
    def create(database: Database) -> None:
        for statement in _split(_TABLES):
            database.execute(statement)
        database.execute("INSERT INTO meta VALUES ('trust_domain', ?)", [trust_domain])
        database.execute("INSERT INTO meta VALUES ('secret', ?)", [os.urandom(32).hex()])
        database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        database.execute("PRAGMA user_version = 1")

    @migrations(name="0002_revocation")
    def add_revocation(database: Database) -> None:
        for statement in _split(_REVOCATION):
            database.execute(statement)
        database.execute("PRAGMA user_version = 2")

    @migrations(name="0003_api_keys")
    def add_api_keys(database: Database) -> None:
        for statement in _split(_API_KEYS):
            database.execute(statement)
        database.execute("PRAGMA user_version = 3")

    @migrations(name="0004_trust")
    def add_trust(database: Database) -> None:
        for statement in _split(_TRUST):
            database.execute(statement)
        database.execute("PRAGMA user_version = 4")

    migrations.apply(Database(connection))


def _split(script: str) -> list[str]:
    """The statements of a script; `executescript` would commit the migration half-way."""
    statements, pending = [], ""
    for line in script.splitlines():
        pending += line + "\n"
        if sqlite3.complete_statement(pending):
            statements.append(pending.strip())
            pending = ""
    return statements
