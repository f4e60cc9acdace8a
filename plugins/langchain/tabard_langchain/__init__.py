"""tabard for LangChain: every tool, model and retriever call under its agent's own identity.

```python
from tabard_langchain import TabardCallbackHandler, protect

with guard.login(source):
    chain.invoke(question, config={"callbacks": [TabardCallbackHandler()]})
```
"""

from typing import TYPE_CHECKING

from tabard.lazily import lazily

try:
    from tabard_langchain.binding import bind, hand_over
    from tabard_langchain.embeddings import protect_embeddings
    from tabard_langchain.handler import TabardCallbackHandler
    from tabard_langchain.net import assert_installed, install
    from tabard_langchain.retrievers import protect_retriever
    from tabard_langchain.stores import protect_store
    from tabard_langchain.tools import protect, protect_all
except ModuleNotFoundError as error:
    if error.name is None or error.name.partition(".")[0] != "langchain_core":
        raise
    raise ImportError('LangChain is not installed: pip install "tabard[langchain]"') from error

if TYPE_CHECKING:
    from tabard_langchain.middleware import TabardMiddleware
    from tabard_langchain.nodes import tool_node

__all__ = [
    "TabardCallbackHandler",
    "TabardMiddleware",
    "assert_installed",
    "bind",
    "hand_over",
    "install",
    "protect",
    "protect_all",
    "protect_embeddings",
    "protect_retriever",
    "protect_store",
    "tool_node",
]

_agents = lazily(__name__, {"TabardMiddleware": "middleware", "tool_node": "nodes"})


def __getattr__(name: str) -> object:
    """Load what is for agents when it is asked for: it needs `langchain`, which takes seconds."""
    try:
        return _agents(name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("langchain", "langgraph"):
            raise
        raise ImportError('LangChain is not installed: pip install "tabard[agents]"') from error
