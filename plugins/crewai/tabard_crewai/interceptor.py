"""The seal of a provider's key, in the form that CrewAI's own OpenAI and Anthropic models take."""

from __future__ import annotations

import httpx
from crewai.llms.hooks.base import BaseInterceptor

from tabard.transport import Seal
from tabard.transport.sealed import ajudge, aread, judge, read


class SealedInterceptor(BaseInterceptor[httpx.Request, httpx.Response]):
    """Lets a request of a model leave, with the key, that the hooks have admitted.

    ```python
    seal = Seal("openai", ProviderKey.from_environment("OPENAI_API_KEY"))
    llm = LLM(model="openai/gpt-4o", api_key=PLACEHOLDER, interceptor=SealedInterceptor(seal))
    ```

    An interceptor can only raise: the SDK takes a refusal here for a broken connection, tries
    again, and tells that in the end. The reason is on record, and the cause of the exception.
    Models of Gemini, Azure and Bedrock take no interceptor.
    """

    def __init__(self, seal: Seal) -> None:
        """Set up with the seal of the provider whose model it is."""
        self._seal = seal

    def on_outbound(self, message: httpx.Request) -> httpx.Request:
        """The request to send in place of this one.

        Raises:
            AccessDenied: It may not leave.
        """
        content = read(self._seal, message)
        sent: httpx.Request = self._seal.prepare(httpx, message, content, is_async=False)[0]
        return sent

    async def aon_outbound(self, message: httpx.Request) -> httpx.Request:
        """The request to send in place of this one.

        Raises:
            AccessDenied: It may not leave.
        """
        content = await aread(self._seal, message)
        sent: httpx.Request = self._seal.prepare(httpx, message, content, is_async=True)[0]
        return sent

    def on_inbound(self, message: httpx.Response) -> httpx.Response:
        """What the caller gets of the provider's answer."""
        answer: httpx.Response = judge(httpx, self._seal, message)
        return answer

    async def aon_inbound(self, message: httpx.Response) -> httpx.Response:
        """What the caller gets of the provider's answer."""
        answer: httpx.Response = await ajudge(httpx, self._seal, message)
        return answer

    def __repr__(self) -> str:
        """Names the provider."""
        return f"<SealedInterceptor of {self._seal.provider}>"

    def __deepcopy__(self, memo: object) -> SealedInterceptor:
        """Itself, so that a model that holds one can be copied."""
        return self
