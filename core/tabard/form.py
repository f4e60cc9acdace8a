"""The form of an action: whether it can be judged and written down at all."""

from __future__ import annotations

from tabard.actions import Action, Delegation, ModelCall, Retrieval, ToolCall
from tabard.redaction import holds_credential, names_credential
from tabard.remark import has_utf8_form

_KINDS = (ToolCall, ModelCall, Retrieval, Delegation)


def is_well_formed(action: Action) -> bool:
    """Whether it is well formed; one that cannot even be looked at is not."""
    try:
        return _has_form(action)
    except Exception:
        return False


def _has_form(action: Action) -> bool:
    """The action is one of ours, and what is written down of it is text."""
    if type(action) not in _KINDS or not _is_of_text(action) or not action.name:
        return False
    if type(action) is ModelCall and not _are_counts(action.input_tokens, action.max_output_tokens):
        return False
    if type(action) is Delegation and type(action.spiffe_id) not in (str, type(None)):
        return False
    if names_credential(action.name):
        return False  # it would stand in the log
    if action.call_id is not None and holds_credential(str(action.call_id)):
        return False
    return action.name.isascii() or has_utf8_form(action.name)


def _is_of_text(action: Action) -> bool:
    """Whether its name is made of text: an object that prints itself could do so differently."""
    if isinstance(action, ModelCall):
        parts: tuple[object, ...] = (action.model,)
        if action.provider is not None:
            parts += (action.provider,)
    elif isinstance(action, Retrieval):
        parts = (action.source, *action.injected)
    else:
        parts = (action.name, *getattr(action, "injected", ()))
    return all(type(part) is str for part in parts)


def _are_counts(*numbers: object) -> bool:
    """Whether each is a number of tokens, or not given; -1 means no limit to some providers."""
    return all(n is None or (type(n) is int and n >= 0) for n in numbers)


def named(action: Action) -> Action:
    """An action that can be recorded, whatever was passed."""
    return action if is_well_formed(action) else ToolCall("(malformed)")
