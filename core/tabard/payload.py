"""Arguments and results that a policy says to keep: scrubbed, encrypted, and erasable.

The log itself holds commitments only. What is kept lies in a table beside it, under the key of the
user it was done for, so that forgetting the user makes it unreadable.
"""

from __future__ import annotations

import hmac
import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tabard.arguments import plain_arguments

if TYPE_CHECKING:
    from tabard.session import Session
    from tabard.store import Store, Transaction

MAX_PAYLOAD = 262_144
"""Bytes of JSON that are kept of one call's arguments, or of its result; more is left out."""


def keep_arguments(
    transaction: Transaction,
    session: Session,
    call: str,
    arguments: Mapping[str, object] | None,
    names: tuple[str, ...],
) -> None:
    """Keep those arguments of a call that the policy names."""
    kept = {name: arguments[name] for name in names if arguments and name in arguments}
    if kept:
        _keep(transaction, session, call, "arguments", kept)


def keep_result(transaction: Transaction, session: Session, call: str, result: object) -> None:
    """Keep the result of a call."""
    _keep(transaction, session, call, "result", result)


def _keep(transaction: Transaction, session: Session, call: str, part: str, value: object) -> None:
    pseudonym, key = session.on_behalf_of, session.commit_key
    if pseudonym is not None and transaction.subject_key(pseudonym) is None:
        return  # the user was erased while this session went on
    from tabard.scrubbing import scrub  # patterns, for the few who keep payloads

    data = json.dumps(scrub(value), separators=(",", ":")).encode("ascii")
    if len(data) <= MAX_PAYLOAD:
        sealed = _encrypt(key, f"{call}/{part}", data)
        transaction.add_payload(call, part, pseudonym=pseudonym, data=sealed)


def read_payload(store: Store, transaction: Transaction, call: str, part: str) -> object | None:
    """What was kept of a call; None when nothing was, or when it has been erased.

    Args:
        store: Where the log is.
        transaction: To read in; whoever reads a payload puts that on record in the same one.
        call: The id of the call.
        part: `arguments` or `result`.

    Raises:
        ValueError: What is there was changed.
    """
    found = transaction.find_payload(call, part)
    if found is None:
        return None
    pseudonym, data = found
    key = store.secret if pseudonym is None else transaction.subject_key(pseudonym)
    return None if key is None else json.loads(_decrypt(key, f"{call}/{part}", data))


def plain_result(result: object) -> object:
    """A result as a plain JSON value.

    Raises:
        ValueError: It has none.
    """
    return plain_arguments({"result": result})["result"]


def _encrypt(key: bytes, about: str, data: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # few policies keep anything

    nonce = os.urandom(12)
    return nonce + AESGCM(_payload_key(key)).encrypt(nonce, data, about.encode())


def _decrypt(key: bytes, about: str, data: bytes) -> bytes:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        return AESGCM(_payload_key(key)).decrypt(data[:12], data[12:], about.encode())
    except InvalidTag:
        raise ValueError("the payload was changed") from None


def _payload_key(key: bytes) -> bytes:
    return hmac.digest(key, b"payload", "sha256")
