"""Keys and bundles on disk: whole or absent, whoever else is writing, whatever lies there."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tabard import ConfigurationError
from tabard.identity import SigningKey, TrustBundle

DOMAIN = "acme.example"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a key will lie; its folder does not exist yet."""
    return tmp_path / "keys" / "issuer.pem"


def together(*works: Callable[[], object]) -> list[object]:
    """Run all at once; what each returned or raised."""
    barrier = threading.Barrier(len(works))
    results: list[object] = []

    def run(work: Callable[[], object]) -> None:
        barrier.wait()
        try:
            results.append(work())
        except Exception as error:
            results.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


class TestCreatingAKey:
    def test_one_of_many_threads_wins(self, tmp_path: Path) -> None:
        """Of keys saved at once exactly one is kept, whole; the others are told."""
        for turn in range(15):
            place = tmp_path / str(turn) / "issuer.pem"
            keys = [SigningKey.generate() for _ in range(5)]
            results = together(*(partial(key.save, place) for key in keys))
            assert sum(result is None for result in results) == 1
            assert sum(isinstance(result, ConfigurationError) for result in results) == 4
            assert SigningKey.load(place).kid in {key.kid for key in keys}
            assert [p.name for p in place.parent.iterdir()] == ["issuer.pem"]

    def test_one_of_many_processes_wins(self, path: Path) -> None:
        """Processes that create a key at once all end up with the same one."""
        program = textwrap.dedent("""
            import sys
            from pathlib import Path
            from tabard import ConfigurationError
            from tabard.identity import SigningKey
            sys.stdin.read()
            path = Path(sys.argv[1])
            try:
                SigningKey.generate().save(path)
            except ConfigurationError:
                pass
            print(SigningKey.load(path).kid)
        """)
        children = [
            subprocess.Popen(
                [sys.executable, "-c", program, str(path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
            )
            for _ in range(3)
        ]
        for child in children:
            assert child.stdin is not None
            child.stdin.close()
            child.stdin = None
        kids = {child.communicate(timeout=60)[0] for child in children}
        assert kids == {SigningKey.load(path).kid + "\n"}

    def test_draft_of_a_crashed_process(self, path: Path) -> None:
        """A draft that another process left behind is in nobody's way and is not removed."""
        path.parent.mkdir(mode=0o700)
        left = path.with_name(f".{path.name}.{os.getpid()}")
        left.write_text("half")
        key = SigningKey.generate()
        key.save(path)
        assert SigningKey.load(path).kid == key.kid
        assert left.read_text() == "half"

    @pytest.mark.parametrize("mode", [0o755, 0o710, 0o777])
    def test_folder_open_to_others(self, path: Path, mode: int) -> None:
        """A key is not put where it would be refused afterwards."""
        path.parent.mkdir()
        path.parent.chmod(mode)
        with pytest.raises(ConfigurationError, match=f"mode {mode:04o}, expected 0700"):
            SigningKey.generate().save(path)
        assert list(path.parent.iterdir()) == []

    def test_whatever_the_umask(self, path: Path) -> None:
        """The file is for its owner alone even when the process makes files for everybody."""
        before = os.umask(0)
        try:
            SigningKey.generate().save(path)
            bundle = TrustBundle.of(SigningKey.generate(), trust_domain=DOMAIN)
            bundle.save(path.parent / "bundle.json")
        finally:
            os.umask(before)
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700
        assert (path.parent / "bundle.json").stat().st_mode & 0o777 == 0o644


class TestReadingAKey:
    def test_named_pipe(self, path: Path) -> None:
        """A pipe in the place of the key is refused, not waited for."""
        path.parent.mkdir(mode=0o700)
        os.mkfifo(path, 0o600)
        with pytest.raises(ConfigurationError, match="expected a key file"):
            SigningKey.load(path)

    def test_link_to_a_file_for_everybody(self, path: Path, tmp_path: Path) -> None:
        """A link is judged by the file it leads to."""
        SigningKey.generate().save(path)
        (tmp_path / "open.pem").write_bytes(path.read_bytes())
        (tmp_path / "open.pem").chmod(0o644)
        path.unlink()
        path.symlink_to(tmp_path / "open.pem")
        with pytest.raises(ConfigurationError, match="mode 0644, expected 0600"):
            SigningKey.load(path)

    def test_megabytes(self, path: Path) -> None:
        """A file far too large for a key is refused."""
        path.parent.mkdir(mode=0o700)
        path.write_bytes(b"-----BEGIN PRIVATE KEY-----\n" + b"A" * 5_000_000)
        path.chmod(0o600)
        with pytest.raises(ConfigurationError, match="expected a P-256 private key"):
            SigningKey.load(path)

    @pytest.mark.parametrize(
        "key",
        [ec.generate_private_key(curve) for curve in (ec.SECP384R1(), ec.SECP256K1())]
        + [ec.generate_private_key(ec.SECP256R1()).public_key(), None, b"key"],
        ids=["P-384", "secp256k1", "public", "None", "bytes"],
    )
    def test_made_from_something_else(self, key: Any) -> None:
        """A signing key is P-256 however it is made."""
        with pytest.raises(ConfigurationError, match="P-256"):
            SigningKey(key)


class TestPaths:
    def test_text_is_a_path(self, path: Path) -> None:
        """A path may be text."""
        key = SigningKey.generate()
        key.save(str(path))
        bundle = path.with_name("bundle.json")
        TrustBundle.of(key, trust_domain=DOMAIN).save(str(bundle))
        assert SigningKey.load(str(path)).kid == key.kid
        assert len(TrustBundle.load(str(bundle), trust_domain=DOMAIN)) == 1

    @pytest.mark.parametrize("name", ["a\0b", "", "x" * 300, "missing/deeper/file", "\ud800"])
    def test_path_that_is_none(self, tmp_path: Path, name: str) -> None:
        """A path that cannot be opened or written is one clear refusal."""
        tmp_path.chmod(0o700)
        place = tmp_path / name
        key = SigningKey.generate()
        bundle = TrustBundle.of(key, trust_domain=DOMAIN)
        for work in (
            lambda: SigningKey.load(place),
            lambda: key.save(place),
            lambda: TrustBundle.load(place, trust_domain=DOMAIN),
            lambda: bundle.save(place),
        ):
            with pytest.raises(ConfigurationError):
                work()
        assert list(tmp_path.rglob("*.pem")) == []


class TestBundleFile:
    def test_readers_and_writers(self, tmp_path: Path) -> None:
        """Whoever reads while others replace it sees one whole bundle, always."""
        place = tmp_path / "bundle.json"
        keys = [SigningKey.generate() for _ in range(30)]
        bundles = [TrustBundle.of(*keys[:n], trust_domain=DOMAIN) for n in (1, 30, 2, 25)]
        bundles[0].save(place)

        def write(bundle: TrustBundle) -> None:
            for _ in range(25):
                bundle.save(place)

        def read() -> set[int]:
            return {len(TrustBundle.load(place, trust_domain=DOMAIN)) for _ in range(60)}

        results = together(*(partial(write, each) for each in bundles), read, read)
        sizes = [result for result in results if result is not None]
        assert all(isinstance(size, set) and size <= {1, 30, 2, 25} for size in sizes), sizes
        assert [p.name for p in tmp_path.iterdir()] == ["bundle.json"]

    def test_old_bundle_stays_when_the_new_one_fails(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A full disk leaves the old bundle as it was and no draft behind."""
        place = tmp_path / "bundle.json"
        TrustBundle.of(SigningKey.generate(), trust_domain=DOMAIN).save(place)
        before = place.read_bytes()

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(ConfigurationError, match="No space left"):
            TrustBundle.of(SigningKey.generate(), trust_domain=DOMAIN).save(place)
        assert place.read_bytes() == before
        assert [p.name for p in tmp_path.iterdir()] == ["bundle.json"]
