"""Stamps: only a signature by a trusted key raises the status of a submission, and any change makes it void."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from noisybench.cli.app import main
from noisybench.errors import UserError
from noisybench.leaderboard import stamps, submission
from noisybench.leaderboard.entries import COLUMNS
from noisybench.leaderboard.entries import from_csv as entries_from_csv
from noisybench.leaderboard.measurement_tables import from_csv
from tests.leaderboard.changes import index_with, verdict

PEM, PKCS8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8


def write_keys(folder: Path, key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey | None = None) -> tuple[Path, Path]:
    """Write a new pair of keys, and return the files of the private and of the public one."""
    key = key or Ed25519PrivateKey.generate()
    folder.mkdir(exist_ok=True)
    private, public = folder / "private.pem", folder / "public.pem"
    private.write_bytes(key.private_bytes(PEM, PKCS8, serialization.NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    return private, public


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return write_keys(tmp_path / "keys")


def mark(entry: Path, private: Path) -> None:
    submission.mark_verified(submission.read(entry), "re-run", "1.0", 2, stamps.read_private_key(private))


def status(entry: Path, public: Path | None) -> tuple[str, str]:
    found = submission.read(entry, stamps.read_trusted_keys(public) if public else ())
    return found.status, found.stamp.reason


def test_a_stamp_counts_for_those_who_trust_its_key(entry: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    private, public = keys
    assert status(entry, public) == ("claimed", "no stamp")
    mark(entry, private)
    assert status(entry, public)[0] == "re-run"
    assert "2 runs retrained" in status(entry, public)[1]
    assert status(entry, None) == ("claimed", "no key is trusted")
    other = write_keys(tmp_path / "other")[1]
    assert status(entry, other) == ("claimed", "the stamp is not signed by a trusted key")
    both = tmp_path / "both.pem"
    both.write_bytes(other.read_bytes() + b"\n" + public.read_bytes())
    assert status(entry, both)[0] == "re-run"
    assert verdict(entry).problems == [], "the stamp is no part of what is verified"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("status", "re-scored"), ("noisybench", "9"), ("date", "2020-01-01T00:00:00Z"), ("retrained", 500),
        ("signature", "0" * 128), ("signature", ""),
    ],
)  # fmt: skip
def test_a_changed_stamp_is_void(field: str, value: object, entry: Path, keys: tuple[Path, Path]) -> None:
    mark(entry, keys[0])
    place = entry / submission.STAMP_FILE
    place.write_text(json.dumps({**json.loads(place.read_text()), field: value}))
    assert status(entry, keys[1])[0] == "claimed"


def test_a_stamp_is_void_for_a_changed_submission(entry: Path, keys: tuple[Path, Path]) -> None:
    mark(entry, keys[0])
    index_with(description="something else")(entry)
    assert status(entry, keys[1]) == ("claimed", "the stamp is for another submission")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"status": "claimed"}, "re-scored"), ({"retrained": -1}, "greater than"), ({"retrained": "2"}, "integer"),
        ({"more": 1}, "Extra inputs"), ({"date": "today"}, "pattern"), ({"signature": "xyz"}, "pattern"),
    ],
)  # fmt: skip
def test_a_malformed_stamp_is_refused(
    fields: dict[str, object], reason: str, entry: Path, keys: tuple[Path, Path]
) -> None:
    mark(entry, keys[0])
    place = entry / submission.STAMP_FILE
    place.write_text(json.dumps({**json.loads(place.read_text()), **fields}))
    with pytest.raises(UserError, match=reason):
        submission.read(entry)


def test_keys_are_found_where_the_documentation_says(
    keys: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(stamps.KEYS_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert stamps.read_trusted_keys() == []
    folder = tmp_path / "config" / "noisybench"
    folder.mkdir(parents=True)
    shutil.copy(keys[1], folder / stamps.KEYS_FILE)
    assert len(stamps.read_trusted_keys()) == 1
    monkeypatch.setenv(stamps.KEYS_VARIABLE, str(tmp_path / "missing.pem"))
    with pytest.raises(UserError, match=r"NOISYBENCH_TRUSTED_KEYS: .*missing.pem: cannot be read"):
        stamps.read_trusted_keys()


def test_other_keys_are_refused(tmp_path: Path, keys: tuple[Path, Path]) -> None:
    private, public = write_keys(tmp_path / "curve", ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(UserError, match="no Ed25519 key; create one with `openssl genpkey"):
        stamps.read_private_key(private)
    with pytest.raises(UserError, match="not of the kind Ed25519"):
        stamps.read_trusted_keys(public)
    with pytest.raises(UserError, match="must hold public keys"):
        stamps.read_trusted_keys(keys[0])
    with pytest.raises(UserError, match="no private key in PEM form"):
        stamps.read_private_key(keys[1])
    with pytest.raises(UserError, match="not a plain file"):
        stamps.read_trusted_keys(Path("/dev/zero"))
    (tmp_path / "empty.pem").touch()
    with pytest.raises(UserError, match="holds no public key"):
        stamps.read_trusted_keys(tmp_path / "empty.pem")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_the_documented_command_creates_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    subprocess.run(stamps.KEY_HELP, shell=True, check=True, capture_output=True)
    stamps.read_private_key(Path("private.pem"))
    assert len(stamps.read_trusted_keys(Path("public.pem"))) == 1
    assert stamps.KEY_HELP in (Path(__file__).parents[2] / "docs" / "submitting.md").read_text()


def test_no_private_key_is_in_the_repository() -> None:
    root = Path(__file__).parents[2]
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=False).stdout
    marker = "BEGIN " + "PRIVATE KEY"
    assert [name for name in listed.split("\0") if name and marker.encode() in (root / name).read_bytes()] == []


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> object:
    monkeypatch.setattr(sys, "argv", ["noisybench", "leaderboard", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code


def test_the_commands(
    entry: Path, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    private, public = map(str, keys)
    assert command(monkeypatch, "verify", str(entry), "--mark-verified") == 2
    assert "give your private key with --key" in capsys.readouterr().err
    assert not (entry / submission.STAMP_FILE).exists()
    assert not command(monkeypatch, "verify", str(entry), "--mark-verified", "--key", private)
    for arguments, expected in ((("--trusted-keys", public), "re-scored"), ((), "claimed")):
        assert not command(monkeypatch, "summarize", str(entry), "-o", "measured", *arguments)
        assert f"entry: {expected} (" in capsys.readouterr().out
        measurements = from_csv(Path("measured/entry.csv").read_text())
        records = {record.stack: record for record in submission.read(entry).records()}
        assert {measurement.stack for measurement in measurements} == set(records)
        for measurement in measurements:
            assert (measurement.status, measurement.entry) == (expected, "entry")
            assert measurement.last == pytest.approx(records[measurement.stack].rows[-1].test_score)
        assert measurements[0].setting == measurements[1].setting


def test_submissions_have_names_of_their_own(
    entry: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = Path("shipped/measured").absolute()
    shutil.copytree(entry, "others/entry")
    for folders, reason in (((entry, entry), "give it once"), ((entry, "others/entry"), "rename the folder")):
        assert command(monkeypatch, "summarize", *map(str, folders), "-o", str(output)) == 2
        assert f"by which tables tell submissions apart; {reason}" in capsys.readouterr().err
        assert not list(output.iterdir())
    monkeypatch.chdir(entry)
    assert not command(monkeypatch, "summarize", ".", "-o", str(output))
    assert [path.name for path in output.iterdir()] == ["entry.csv"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"junk", "entries.csv: expected a table of entries with the columns name, claim"),
        (b"\xff\xfe", "entries.csv: not encoded in UTF-8"),
        (
            f"{','.join(COLUMNS)}\nquickstart\n".encode(),
            "entries.csv: expected 9 cells in each row .*, but row 1 has others",
        ),
    ],
)
def test_a_damaged_table_of_entries_is_refused(
    content: bytes, message: str, entry: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("entries.csv").write_bytes(content)
    assert command(monkeypatch, "summarize", str(entry)) == 2
    assert re.search(message, capsys.readouterr().err)
    assert Path("entries.csv").read_bytes() == content


def test_tables_of_other_submissions_stay(entry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(entry, "another")
    assert not command(monkeypatch, "summarize", str(entry), "-o", "shipped/measured")
    first = Path("shipped/measured/entry.csv").read_bytes()
    assert not command(monkeypatch, "summarize", "another", "-o", "shipped/measured")
    assert Path("shipped/measured/entry.csv").read_bytes() == first
    names = [info.name for info in entries_from_csv(Path("shipped/entries.csv").read_text())]
    assert names == ["another", "entry"]
