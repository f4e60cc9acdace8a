"""Whatever is passed to the three doors of the identity room, only a TabardError comes out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any
from unittest.mock import MagicMock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tabard import AuthenticationFailed, TabardError
from tabard.identity import SigningKey, SpiffeId, TokenVerifier, TrustBundle, fingerprint
from tabard.identity.api_key import id_of
from tabard.identity.credential_file import CredentialFile
from tabard.identity.workload_api import check_endpoint

NOW = 1_800_000_000
DOMAIN = "acme.example"
MEGABYTE = 1_000_000
Sign = Callable[[str | bytes, str | bytes], str]


class LyingText(str):
    """A text that says something else to everybody who asks."""

    def __len__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0

    def __str__(self) -> str:
        return "other"

    def __getitem__(self, index: Any) -> str:
        return "other"

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return b"other"


class LyingBytes(bytes):
    """Bytes that say something else to everybody who asks."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: Any) -> Any:
        return b"other"

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return "other"


class RaisingText(str):
    """A text that cannot be looked at."""

    def __len__(self) -> int:
        raise KeyError("length")

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        raise KeyError("encode")


class RaisingBytes(bytes):
    """Bytes that cannot be looked at."""

    def __len__(self) -> int:
        raise KeyError("length")

    def __getitem__(self, index: Any) -> Any:
        raise KeyError("item")

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        raise KeyError("decode")


class NamelessClass:
    """An object that does not say what it is."""

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        raise KeyError("class")


# One leaf of every JSON type, and whole documents of them.
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=40)
    | st.sampled_from(["spiffe://acme.example", "jwt-svid", "EC", "P-256", "ES256", "A" * 43])
)
NAMES = st.sampled_from(
    ["keys", "kty", "crv", "x", "y", "kid", "use", "alg", "spiffe_sequence", "sub", "exp", "d"]
)
DOCUMENTS = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=6),
    max_leaves=15,
)
ANYTHING = LEAVES | st.binary(max_size=200) | st.lists(LEAVES) | st.dictionaries(st.text(), LEAVES)
WEIRD: list[Any] = [
    None, 0, 1.5, True, 1j, (), [], {}, set(), object(), object, int, bytearray(b"a.b.c"),
    memoryview(b"a.b.c"), Exception("x"), lambda: "a.b.c", MagicMock(spec=str),
    MagicMock(spec=bytes), NamelessClass(), RaisingText("a.b.c"), RaisingBytes(b"a.b.c"),
    RaisingText('{"keys": []}'), RaisingBytes(b'{"keys": []}'), RaisingText("spiffe://a/b"),
    LyingText("a.b.c"), LyingBytes(b"a.b.c"), LyingText("spiffe://a/b"),
]  # fmt: skip
# By number: one of them cannot stand being looked at by pytest.
weird = pytest.mark.parametrize("at", range(len(WEIRD)), ids=[type(w).__name__ for w in WEIRD])


def read(text: Any) -> TrustBundle:
    return TrustBundle.from_jwks(text, trust_domain=DOMAIN)


def document_of(size: int, element: str) -> str:
    """A bundle of about that many characters, of one element over and over."""
    return '{"keys": [' + ",".join([element] * (size // (len(element) + 1))) + "]}"


class TestVerify:
    @settings(max_examples=300, deadline=None)
    @given(text=ANYTHING | st.from_regex(r"[A-Za-z0-9_=-]{0,40}(\.[A-Za-z0-9_=-]{0,40}){0,5}"))
    def test_anything(self, verifier: TokenVerifier, text: Any) -> None:
        """Nothing that was not signed gets in, and nothing gets out but the refusal."""
        with pytest.raises(AuthenticationFailed):
            verifier.verify(text)

    @settings(max_examples=200, deadline=None)
    @given(head=DOCUMENTS | st.binary(max_size=60), body=DOCUMENTS | st.binary(max_size=60))
    def test_signed_nonsense(
        self, verifier: TokenVerifier, sign: Sign, header: str, head: Any, body: Any
    ) -> None:
        """Nonsense is refused even when the right key signed it."""
        parts = [p if isinstance(p, bytes) else json.dumps(p) for p in (head, body)]
        for token in (sign(parts[0], parts[1]), sign(header, parts[1])):
            with pytest.raises(AuthenticationFailed):
                verifier.verify(token)

    @settings(max_examples=200, deadline=None)
    @given(changes=st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "jwk"]), LEAVES))
    def test_header_of_any_kind(
        self,
        verifier: TokenVerifier,
        sign: Sign,
        header: str,
        claims: Mapping[str, object],
        changes: dict[str, Any],
    ) -> None:
        """Only the one right header is accepted, whatever else stands in it."""
        right = json.loads(header)
        token = sign(json.dumps({**right, **changes}), json.dumps(dict(claims)))
        if {**right, **changes} == right:
            assert verifier.verify(token).kind == "agent+jwt"
        else:
            with pytest.raises(AuthenticationFailed):
                verifier.verify(token)

    @weird
    def test_what_is_no_text(self, verifier: TokenVerifier, at: int) -> None:
        """An object that is no token, or lies about being one, is refused like any other."""
        with pytest.raises(AuthenticationFailed) as caught:
            verifier.verify(WEIRD[at])
        assert caught.value.code == "malformed"

    @pytest.mark.parametrize("kind", [LyingText, RaisingText])
    def test_text_that_lies(
        self,
        verifier: TokenVerifier,
        sign: Sign,
        header: str,
        claims: Mapping[str, object],
        kind: type[str],
    ) -> None:
        """What is verified, measured and named in the log is what the text really holds."""
        token = sign(header, json.dumps(dict(claims)))
        assert verifier.verify(kind(token)) == verifier.verify(token)
        assert fingerprint(kind(token)) == fingerprint(token)
        with pytest.raises(AuthenticationFailed) as caught:
            verifier.verify(kind("x" * MEGABYTE))
        assert caught.value.code == "too_long"

    @pytest.mark.parametrize("kind", [LyingBytes, RaisingBytes])
    def test_bytes_that_lie(
        self,
        verifier: TokenVerifier,
        sign: Sign,
        header: str,
        claims: Mapping[str, object],
        kind: type[bytes],
    ) -> None:
        """The same for bytes."""
        token = sign(header, json.dumps(dict(claims))).encode()
        assert verifier.verify(kind(token)) == verifier.verify(token)
        assert fingerprint(kind(token)) == fingerprint(token)
        with pytest.raises(AuthenticationFailed) as caught:
            verifier.verify(kind(b"x" * MEGABYTE))
        assert caught.value.code == "too_long"

    def test_a_megabyte_that_is_signed(
        self, verifier: TokenVerifier, sign: Sign, header: str, claims: Mapping[str, object]
    ) -> None:
        """A megabyte is refused for its length before a signature is looked at."""
        token = sign(header, json.dumps({**claims, "pad": "x" * MEGABYTE}))
        for text in (token, token.encode()):
            with pytest.raises(AuthenticationFailed) as caught:
                verifier.verify(text)
            assert caught.value.code == "too_long"


class TestBundle:
    @settings(max_examples=300, deadline=None)
    @given(document=DOCUMENTS)
    def test_any_document(self, document: Any) -> None:
        """Whatever the document, a bundle or one of our errors comes out."""
        try:
            bundle = read(json.dumps(document))
        except TabardError:
            return
        assert bundle.trust_domain == DOMAIN
        assert len(read(bundle.to_jwks())) == len(bundle)

    @settings(max_examples=200, deadline=None)
    @given(elements=st.lists(st.dictionaries(NAMES, LEAVES), max_size=3), data=st.data())
    def test_elements_around_a_good_key(
        self, issuer: SigningKey, elements: list[Any], data: st.DataObject
    ) -> None:
        """A good key among any elements is trusted, or the whole bundle is refused."""
        at = data.draw(st.integers(0, len(elements)))
        good = {**issuer.jwk, "use": "jwt-svid"}
        try:
            bundle = read(json.dumps({"keys": [*elements[:at], good, *elements[at:]]}))
        except TabardError:
            return
        assert bundle.key(issuer.kid) is not None

    @settings(max_examples=200, deadline=None)
    @given(text=ANYTHING | st.text(alphabet='{}[]":,\\u0 keysNaI-1.e'))
    def test_anything(self, text: Any) -> None:
        """Random text, bytes and objects hold no key."""
        try:
            assert len(read(text)) == 0
        except TabardError:
            return

    @weird
    def test_what_is_no_text(self, at: int) -> None:
        """An object that is no text, or lies about being one, gives no key."""
        try:
            assert len(read(WEIRD[at])) == 0
        except TabardError:
            return

    @pytest.mark.parametrize(
        "text",
        [
            "x" * MEGABYTE,
            b"\xff" * MEGABYTE,
            "[" * MEGABYTE,
            '{"keys":' * (MEGABYTE // 8),
            '{"keys": [' + "1" * MEGABYTE + "]}",
            '{"keys": [], "spiffe_sequence": ' + "9" * MEGABYTE + "}",
            '{"keys": [], "x": "' + "\\ud800" * (MEGABYTE // 6),
            document_of(MEGABYTE, '{"kty":"EC","crv":"P-256","use":"jwt-svid","kid":"k"}'),
        ],
        ids=["text", "binary", "lists", "objects", "digits", "sequence", "escapes", "elements"],
    )
    def test_a_megabyte(self, text: Any) -> None:
        """A megabyte that is no bundle is refused in a short sentence."""
        with pytest.raises(TabardError) as caught:
            read(text)
        assert len(str(caught.value)) < 200

    def test_a_megabyte_of_foreign_elements(self) -> None:
        """A megabyte of elements for somebody else is a bundle that trusts nobody."""
        assert len(read(document_of(MEGABYTE, "{}"))) == 0


class TestSpiffeId:
    @settings(max_examples=300, deadline=None)
    @given(text=ANYTHING | st.from_regex(r"(?i)spiffe:/{0,3}[\w.%:@/?#-]*\s?"))
    def test_anything(self, text: Any) -> None:
        """What is parsed comes back letter for letter; all else is one of our errors."""
        try:
            parsed = SpiffeId.parse(text)
        except TabardError:
            return
        assert str(parsed) == text == f"spiffe://{parsed.trust_domain}{parsed.path}"
        assert text.isascii()
        assert not {"", ".", ".."} & set(parsed.segments)

    @settings(max_examples=200, deadline=None)
    @given(
        domain=st.from_regex(r"[a-z0-9._-]{1,255}", fullmatch=True),
        segments=st.lists(st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,20}", fullmatch=True)),
    )
    def test_every_valid_id(self, domain: str, segments: list[str]) -> None:
        """Every ID that follows the grammar is taken, up to the length the standard asks for."""
        text = f"spiffe://{domain}" + "".join(f"/{segment}" for segment in segments)
        if len(text) > 2048:
            with pytest.raises(TabardError):
                SpiffeId.parse(text)
        else:
            parsed = SpiffeId.parse(text)
            assert (parsed.trust_domain, list(parsed.segments)) == (domain, segments)

    @weird
    def test_what_is_no_text(self, at: int) -> None:
        """An object that is no text, or lies about being one, is no ID."""
        with pytest.raises(TabardError):
            SpiffeId.parse(WEIRD[at])

    @pytest.mark.parametrize("filler", ["a", "/a", "/", "/.", "-", ".", "é", "\ud800", "\0"])
    def test_a_megabyte(self, filler: str) -> None:
        """A megabyte is refused in a short sentence, though it may follow the grammar."""
        with pytest.raises(TabardError) as caught:
            SpiffeId.parse("spiffe://a" + filler * (MEGABYTE // len(filler)))
        assert len(str(caught.value)) < 200


class TestEndpoint:
    """The address of a Workload API."""

    @settings(max_examples=300, deadline=None)
    @given(text=ANYTHING | st.from_regex(r"(unix|tcp):/{0,3}[\w.:\[\]@?#%/-]*"))
    def test_anything(self, text: Any) -> None:
        """What is taken is an absolute path or a literal address; all else is our error."""
        try:
            target = check_endpoint(text)
        except TabardError:
            return
        assert target.isprintable() or target.startswith("unix:/")
        target.encode()

    @weird
    def test_what_is_no_text(self, at: int) -> None:
        """A text that raises when it is measured is taken for what it holds, which is none."""
        with pytest.raises(TabardError):
            check_endpoint(WEIRD[at])

    @pytest.mark.parametrize(
        "start", ["unix:///", "unix:/", "tcp://1", "tcp://[", "tcp://1.2.3.4:"]
    )
    @pytest.mark.parametrize("filler", ["a", "1", "/", ":", "é", "\ud800", "\0"])
    def test_a_megabyte(self, start: str, filler: str) -> None:
        with pytest.raises(TabardError) as caught:
            check_endpoint(start + filler * MEGABYTE)
        assert len(str(caught.value)) < 200


class TestJoinToken:
    """What names itself a join token or an API key."""

    @settings(max_examples=300, deadline=None)
    @given(text=ANYTHING | st.from_regex(r"(tbj|tbk)_[0-9A-Za-z_]{0,70}"))
    def test_anything(self, text: Any) -> None:
        with pytest.raises(AuthenticationFailed):
            id_of(text)

    @weird
    def test_what_is_no_text(self, at: int) -> None:
        with pytest.raises(AuthenticationFailed):
            id_of(WEIRD[at])

    @pytest.mark.parametrize("filler", ["a", "_", "tbj_", "é", "\ud800", "\0"])
    def test_a_megabyte(self, filler: str) -> None:
        for prefix in ("tbj_", "tbk_", "tbj_0123456789_"):
            with pytest.raises(AuthenticationFailed) as caught:
                id_of(prefix + filler * (MEGABYTE // len(filler)))
            assert len(str(caught.value)) < 200


class TestCredentialFile:
    """A file that is to hold a credential, and its path."""

    @settings(max_examples=100, deadline=None)
    @given(content=st.binary(max_size=2_000) | st.binary(max_size=50).map(lambda b: b * 20_000))
    def test_content(self, tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
        """It comes back as it is, or is refused; a megabyte is not read to its end."""
        path = tmp_path_factory.getbasetemp() / "credential"
        path.touch(0o600)
        path.write_bytes(content)
        try:
            text = CredentialFile(path).credential()
        except TabardError:
            return
        assert text == content.decode("ascii").strip()

    @settings(max_examples=200, deadline=None)
    @given(path=ANYTHING | st.from_regex(r"~[a-z]{0,9}(/[a-z.]{0,9}){0,3}", fullmatch=True))
    def test_path(self, path: Any) -> None:
        with suppress(TabardError):
            CredentialFile(path).credential()
            pytest.fail("there is no such file")

    @weird
    def test_what_is_no_path(self, at: int) -> None:
        with pytest.raises(TabardError):
            CredentialFile(WEIRD[at]).credential()

    @pytest.mark.parametrize("filler", ["a", "a/", "~", "../", "\ud800", "\0"])
    def test_a_megabyte(self, filler: str) -> None:
        with pytest.raises(TabardError):
            CredentialFile(filler * (MEGABYTE // len(filler))).credential()
