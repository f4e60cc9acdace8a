"""tabard for CrewAI: every tool and model call of a crew under its agent's own identity.

```python
from tabard_crewai import bind, install, protect

install()                      # the hooks for every tool and model call in this process
bind(adjuster, source)         # this agent's own identity

@protect
@tool("claims_db.query")
def query(table: str) -> str: ...
```

Importing this imports CrewAI, which takes several seconds.
"""

try:
    from tabard_crewai.binding import bind, unbind
    from tabard_crewai.hooks import assert_installed, install, uninstall
    from tabard_crewai.interceptor import SealedInterceptor
    from tabard_crewai.tools import protect
except ModuleNotFoundError as error:
    if error.name is None or error.name.partition(".")[0] != "crewai":
        raise
    raise ImportError('CrewAI is not installed: pip install "tabard[crewai]"') from error

__all__ = [
    "SealedInterceptor",
    "assert_installed",
    "bind",
    "install",
    "protect",
    "unbind",
    "uninstall",
]
