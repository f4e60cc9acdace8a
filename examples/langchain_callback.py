"""A LangChain agent under its own identity: one callback handler, nothing else changes.

Run it: `python examples/langchain_callback.py`. The model is scripted: no network, no key.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

from langchain_core.messages import AIMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool

from tabard import AccessDenied, Authority, Guard
from tabard.testing.langchain import ScriptedChatModel
from tabard_langchain import TabardCallbackHandler

POLICY = """\
version: 1
agents:
  weather-agent:
    models: {allow: ["openai/gpt-4o*"]}
    grants:
      - {id: forecast, tools: ["forecast"], args: {city: {enum: [Brussels, Ghent]}}}
"""


@tool
def forecast(city: str) -> str:
    """Tell tomorrow's weather."""
    return f"rain in {city}"


def main(home: Path) -> None:
    # LangChain warns of every refusal on the console, too; the log below shows them.
    logging.getLogger("langchain_core.callbacks.manager").setLevel(logging.CRITICAL)

    # Once: an identity for the agent. The home is created on first use.
    authority = Authority.open(home, trust_domain="acme.example")
    authority.register("weather-agent", team="weather", environment="dev")

    # In the process that runs the agent: a policy, and a credential that renews itself.
    guard = Guard.open(home, policy=POLICY)
    source = authority.source("weather-agent")

    model = ScriptedChatModel(script=[AIMessage("Take an umbrella.")], model_name="gpt-4o-mini")
    chain = ChatPromptTemplate.from_template("Weather in {city}?") | model
    config = {"callbacks": [TabardCallbackHandler()]}

    with guard.login(source):
        print(chain.invoke({"city": "Ghent"}, config=config).content)  # type: ignore[arg-type]
        print(forecast.invoke({"city": "Ghent"}, config=config))  # type: ignore[arg-type]
        try:
            forecast.invoke({"city": "Moscow"}, config=config)  # type: ignore[arg-type]
        except AccessDenied as refusal:
            print(f"refused: {refusal}")

    for record in guard.records():
        if "decision" in record:
            decision = record["decision"]
            print(record["agent"]["name"], record["action"]["name"], decision["effect"])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder) / ".tabard")
