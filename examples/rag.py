"""A RAG chain whose retrieval is bound to one claimant: the model cannot ask for another's papers.

Run it: `python examples/rag.py`. No network, no key: model and embeddings are stand-ins.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnablePassthrough
from langchain_core.vectorstores import InMemoryVectorStore

from tabard import AccessDenied, Authority, Guard
from tabard.testing.langchain import ScriptedChatModel
from tabard_langchain import TabardCallbackHandler, protect_store

POLICY = """\
version: 1
tools: {retrieval.claims: {data_class: personal, asset: claims archive}}
agents:
  claims-agent:
    max_data_class: personal
    scope: {claimant_id: required}
    models: {allow: ["openai/gpt-4o"]}
    grants: [{id: own-papers, tools: [retrieval.claims], args: {query: {max_length: 200}}}]
"""


def narrow(scope: Mapping[str, Any]) -> dict[str, Any]:
    """The search's parameters, made of what the host application has bound the session to."""
    mine = scope["claimant_id"]
    return {"filter": lambda document: document.metadata["claimant_id"] == mine, "k": 3}


def main(home: Path) -> None:
    authority = Authority.open(home, trust_domain="acme.example")
    authority.register("claims-agent", team="claims", environment="dev")
    guard = Guard.open(home, policy=POLICY)

    store = InMemoryVectorStore(DeterministicFakeEmbedding(size=32))
    for claimant in ("C-1", "C-2"):
        paper = Document(f"the claim of {claimant}", metadata={"claimant_id": claimant})
        store.add_documents([paper])
    papers = protect_store(store, name="claims", narrow=narrow)

    model = ScriptedChatModel(script=[AIMessage("It is covered.")])
    prompt = ChatPromptTemplate.from_template("{papers}\n\n{question}")
    asked: Any = {"papers": papers.as_retriever(), "question": RunnablePassthrough()}
    chain = asked | prompt | model | StrOutputParser()
    settings: Any = {"callbacks": [TabardCallbackHandler()]}

    with guard.login(authority.issue("claims-agent"), scope={"claimant_id": "C-1"}):
        print(chain.invoke("Is the claim of another covered, too?", settings))
        shown = str(model.seen[0][0].content)
        print("the model was shown:", [who for who in ("C-1", "C-2") if f"of {who}" in shown])
    try:
        with guard.login(authority.issue("claims-agent")):
            chain.invoke("Whose papers are there?", settings)
    except AccessDenied as refusal:
        print(f"without a claimant: {refusal.code}")
    for record in guard.records():
        if record["type"] == "retrieval.decision":
            print(record["agent"]["name"], record["action"]["name"], record["decision"]["code"])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder) / ".tabard")
