"""A stream that is cut off: the model goes on past the limit its budget was held for.

Run it: `python examples/stream.py`. No network, no key: the model is scripted, and ignores limits.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage

from tabard import AccessDenied, Authority, Guard
from tabard.testing.langchain import ScriptedChatModel
from tabard_langchain import TabardCallbackHandler

POLICY = """\
version: 1
currency: EUR
prices: {"openai/gpt-4o": {input: "2.50", output: "10000", currency: EUR}}
agents:
  claims-agent:
    models: {allow: ["openai/gpt-4o"], max_output_tokens: 50}
    budgets: [{per: session, limit: "1.00"}]
"""


def main(home: Path) -> None:
    authority = Authority.open(home, trust_domain="acme.example")
    authority.register("claims-agent", team="claims", environment="dev")
    guard = Guard.open(home, policy=POLICY)

    # It says it will write at most 50 tokens (EUR 0.50), and writes a thousand words.
    talker = ScriptedChatModel(script=[AIMessage("and so on " * 333)], max_tokens=50)
    settings: Any = {"callbacks": [TabardCallbackHandler()]}
    with guard.login(authority.issue("claims-agent")):
        for _ in range(3):
            words = 0
            try:
                for part in talker.stream("Tell me about water damage.", settings):
                    words += len(str(part.content).split())
            except AccessDenied as refusal:
                print(f"stopped after {words} words: {refusal.code}")
    for record in guard.records():
        if record["type"] == "model.outcome":
            print(f"charged: EUR {record['cost']['amount'] / 1e9:.2f}")
    print(f"the provider was called {talker.calls} times")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder) / ".tabard")
