"""tabard for LangChain: every tool, model and retriever call under its agent's own identity.

```python
from tabard_langchain import TabardCallbackHandler, protect

with guard.login(source):
    chain.invoke(question, config={"callbacks": [TabardCallbackHandler()]})
```
"""

try:
    from tabard_langchain.handler import TabardCallbackHandler
    from tabard_langchain.tools import protect
except ModuleNotFoundError as error:
    if error.name is None or error.name.partition(".")[0] != "langchain_core":
        raise
    raise ImportError('LangChain is not installed: pip install "tabard[langchain]"') from error

__all__ = ["TabardCallbackHandler", "protect"]
