"""Keeps a provider's key out of the agent: it is added on the wire, to what was admitted.

```python
seal = Seal("openai", ProviderKey.from_environment("OPENAI_API_KEY"))
client = OpenAI(api_key=PLACEHOLDER, http_client=seal.client())
with guard.admit(ModelCall("gpt-4o", provider="openai")):
    client.chat.completions.create(model="gpt-4o", messages=messages)
```

It needs `httpx` or `httpx2`, whichever the provider's SDK uses.
"""

from tabard.transport.key import ProviderKey
from tabard.transport.seal import PLACEHOLDER, Seal

__all__ = ["PLACEHOLDER", "ProviderKey", "Seal"]
