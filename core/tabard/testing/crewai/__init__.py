"""For CrewAI: a scripted model that needs no network and no key, and the matrix of its paths.

```python
llm = ScriptedLLM(model="gpt-4o", script=[("query", {"table": "claims"}), "done"])
```
"""

from tabard.testing.crewai.models import ScriptedLLM

__all__ = ["ScriptedLLM"]
