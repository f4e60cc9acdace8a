"""For LangChain: scripted models that need no network and no key, and the matrix of its paths.

```python
model = ScriptedChatModel(script=[AIMessage("done")], model_name="gpt-4o", provider="openai")
```

`python -m tabard.testing.langchain --guard some.module:handler` tries every path with any guard,
and prints a scoreboard.
"""

from tabard.testing.langchain.models import (
    ScriptedChatModel,
    ScriptedCompletionModel,
    ScriptedRetriever,
    call_tool,
)

__all__ = ["ScriptedChatModel", "ScriptedCompletionModel", "ScriptedRetriever", "call_tool"]
