"""The verifier beyond the catalogue: how it is set up, what it leaks, how much it can take."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tabard import AuthenticationFailed, ConfigurationError, GuardUnavailable
from tabard.identity import TokenVerifier, TrustBundle, fingerprint

NOW = 1_800_000_000
Sign = Callable[[str | bytes, str | bytes], str]
Claims = Mapping[str, object]


def refused(verifier: TokenVerifier, token: Any) -> AuthenticationFailed:
    with pytest.raises(AuthenticationFailed) as caught:
        verifier.verify(token)
    return caught.value


class TestSetUp:
    @pytest.mark.parametrize("audience", [None, "", 0, b"guard", ["guard"], ("guard",), {}, object])
    def test_audience_is_one_text(self, bundle: TrustBundle, audience: Any) -> None:
        """Without an audience there is no verifier: it would accept a token meant for nobody."""
        with pytest.raises(ConfigurationError, match="audience"):
            TokenVerifier(bundle, audience=audience)

    @pytest.mark.parametrize(
        "time", [float("nan"), float("inf"), -float("inf"), -1.0, 1e18, None, "now", True, 1j]
    )
    def test_clock_gives_no_time(
        self, bundle: TrustBundle, sign: Sign, header: str, claims: Claims, time: Any
    ) -> None:
        """A clock that gives no POSIX time refuses a good token."""
        verifier = TokenVerifier(bundle, audience=str(claims["aud"]), clock=lambda: time)
        with pytest.raises(GuardUnavailable) as caught:
            verifier.verify(sign(header, json.dumps(claims)))
        assert caught.value.code == "clock"


class TestTimes:
    @pytest.mark.parametrize(
        ("iat", "nbf", "exp", "code"),
        [
            (0, 20, 5, "bad_nbf"),
            (0, 5, 5, "bad_nbf"),
            (20, 0, 5, "bad_exp"),
            (20, 20, 20, "bad_exp"),
            (0, 31, 40, "not_yet_valid"),
            (31, 0, 40, "not_yet_valid"),
            (0, 0, 0, "token_expired"),
            (-3600, -3600, 1, "lifetime_too_long"),
        ],
    )
    def test_times_that_contradict(
        self,
        verifier: TokenVerifier,
        sign: Sign,
        header: str,
        claims: Claims,
        iat: int,
        nbf: int,
        exp: int,
        code: str,
    ) -> None:
        """A token that is never valid is not made valid by the clock skew."""
        times = {"iat": NOW + iat, "nbf": NOW + nbf, "exp": NOW + exp}
        token = sign(header, json.dumps({**claims, **times}))
        assert refused(verifier, token).code == code

    @pytest.mark.parametrize(
        ("iat", "nbf", "exp"), [(0, 0, 1), (30, 30, 31), (-3599, -3599, 1), (0, -9999, 1)]
    )
    def test_edges_that_hold(
        self,
        verifier: TokenVerifier,
        sign: Sign,
        header: str,
        claims: Claims,
        iat: int,
        nbf: int,
        exp: int,
    ) -> None:
        """The last second of a life, the last of the skew and the longest life are accepted."""
        times = {"iat": NOW + iat, "nbf": NOW + nbf, "exp": NOW + exp}
        verified = verifier.verify(sign(header, json.dumps({**claims, **times})))
        assert (verified.issued_at, verified.expires_at) == (NOW + iat, NOW + exp)

    @pytest.mark.parametrize("number", ["1e999", "-1e999", "1" + "0" * 400 + ".0"])
    def test_number_that_overflows(
        self, verifier: TokenVerifier, sign: Sign, header: str, claims: Claims, number: str
    ) -> None:
        """A number too large for a float is an Infinity in disguise."""
        text = json.dumps({**claims, "exp": 0}).replace('"exp": 0', f'"exp": {number}')
        assert refused(verifier, sign(header, text)).code == "non_finite_number"


class TestSpelling:
    def test_member_spelled_with_an_escape(
        self, verifier: TokenVerifier, sign: Sign, header: str, claims: Claims
    ) -> None:
        """An escaped member name is the same member: twice is twice."""
        twice = header.replace('"alg"', '"al\\u0067": "none", "alg"')
        assert refused(verifier, sign(twice, json.dumps(claims))).code == "duplicate_member"
        text = json.dumps(claims).replace('"sub"', '"s\\u0075b": "x", "sub"')
        assert refused(verifier, sign(header, text)).code == "duplicate_member"

    def test_byte_order_mark(
        self, verifier: TokenVerifier, sign: Sign, header: str, claims: Claims
    ) -> None:
        """JSON does not begin with a byte order mark."""
        token = sign(header, b"\xef\xbb\xbf" + json.dumps(claims).encode())
        assert refused(verifier, token).code == "malformed"

    @pytest.mark.parametrize(
        "kind", [bytearray, memoryview, lambda b: b.decode("utf-16", "ignore")]
    )
    def test_other_kinds_of_bytes(
        self, verifier: TokenVerifier, sign: Sign, header: str, claims: Claims, kind: Any
    ) -> None:
        """What is neither text nor bytes is no token, even when it spells one."""
        token = kind(sign(header, json.dumps(claims)).encode() + b"\x00")
        assert refused(verifier, token).code == "malformed"

    @pytest.mark.parametrize("length", [8192, 8193])
    def test_length_is_counted_whole(self, verifier: TokenVerifier, length: int) -> None:
        """The cap is exact, and the same for text and for bytes."""
        expected = "too_long" if length > 8192 else "malformed"
        assert refused(verifier, "x" * length).code == expected
        assert refused(verifier, b"x" * length).code == expected


class TestDepth:
    @pytest.fixture
    def _deep_stack(self) -> Iterator[None]:
        before = sys.getrecursionlimit()
        sys.setrecursionlimit(20_000)
        yield
        sys.setrecursionlimit(before)

    @pytest.mark.usefixtures("_deep_stack")
    @pytest.mark.parametrize("member", ["sub", "aud", "iss", "exp", "jti", "txn", "x"])
    def test_nesting_under_a_raised_limit(
        self, verifier: TokenVerifier, sign: Sign, header: str, claims: Claims, member: str
    ) -> None:
        """A host that raises the recursion limit does not make deep nesting any better."""
        text = json.dumps({**claims, member: 0}).replace(
            f'"{member}": 0', f'"{member}": ' + "[" * 2000 + "]" * 2000
        )
        code = refused(verifier, sign(header, text)).code
        assert code in {"bad_" + member, "wrong_audience", "wrong_issuer", "unexpected_claim",
                        "bad_subject"}  # fmt: skip


class TestSecrecy:
    @pytest.mark.parametrize(
        "broken",
        [b"SECRET-token\xff", '{"alg": SECRET}', '{"SECRET": 1, "SECRET": 1}', '{"SECRET": NaN}',
         b'{"SECRET": "\xff"}', "[" * 3000 + "SECRET"],
        ids=["bytes", "json", "duplicate", "number", "utf-8", "depth"],
    )  # fmt: skip
    def test_nothing_hangs_on_the_refusal(
        self, verifier: TokenVerifier, sign: Sign, header: str, broken: Any
    ) -> None:
        """No earlier exception, which would carry the token, hangs on the refusal."""
        whole = broken if isinstance(broken, bytes) and b"{" not in broken else None
        for token in [whole] if whole else [sign(broken, "{}"), sign(header, broken)]:
            refusal = refused(verifier, token)
            assert refusal.__context__ is None
            assert refusal.__cause__ is None
            assert "SECRET" not in repr(vars(refusal))

    def test_subject_is_not_named(
        self, verifier: TokenVerifier, sign: Sign, header: str, claims: Claims
    ) -> None:
        """A subject that is no SPIFFE ID is neither in the refusal nor behind it."""
        refusal = refused(verifier, sign(header, json.dumps({**claims, "sub": "SECRET"})))
        assert (refusal.code, refusal.__context__) == ("bad_subject", None)
        assert "SECRET" not in str(refusal)


class TestFingerprint:
    def test_names_without_showing(self) -> None:
        """Text and its bytes have one name of 16 hex digits; different credentials have others."""
        assert fingerprint("abc") == fingerprint(b"abc") == "ba7816bf8f01cfea"
        assert len({fingerprint(c) for c in ("?", "\ud800", "\ud801", "", "a", "a\n")}) == 6

    @pytest.mark.parametrize("credential", [None, 5, [b"abc"], object(), bytearray(b"abc")])
    def test_anything_can_be_recorded(self, credential: Any) -> None:
        """What is no credential at all has a name too, so that the attempt can be recorded."""
        assert len(fingerprint(credential)) == 16


class TestFuzz:
    @settings(max_examples=150, deadline=None)
    @given(data=st.data())
    def test_one_character_changed(
        self,
        verifier: TokenVerifier,
        sign: Sign,
        header: str,
        claims: Claims,
        data: st.DataObject,
    ) -> None:
        """A token with any one character changed, removed or added is refused."""
        token = sign(header, json.dumps(claims))
        at = data.draw(st.integers(0, len(token) - 1))
        new = data.draw(st.sampled_from(["", "A", "_", ".", "=", "\n", "é", token[at] + "A"]))
        changed = token[:at] + new + token[at + 1 :]
        if changed != token:
            assert refused(verifier, changed).code

    @pytest.mark.parametrize("filler", ["x", ".", "A.A.", "=", "é", "\ud800", "{", "\x00"])
    def test_a_megabyte(self, verifier: TokenVerifier, filler: str) -> None:
        """A megabyte of anything is refused before it is read."""
        text = filler * (1_000_000 // len(filler))
        assert refused(verifier, text).code == "too_long"
        assert refused(verifier, text.encode(errors="replace")).code in {"too_long", "malformed"}
