"""Stamps: the outcome of a verification, signed with Ed25519 by a maintainer of a leaderboard.

Anyone can write a stamp. It counts only for readers who have the public key of its signature; for all others, and without a
valid signature, a submission is claimed.
"""

from __future__ import annotations

import datetime
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import platformdirs
import pydantic

from noisybench.errors import UserError
from noisybench.leaderboard.strict_files import read_plain_file
from noisybench.utils.places import expand_user
from noisybench.utils.text import count_runs

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

Status = Literal["claimed", "re-scored", "re-run"]
"""Verification of a submission: none, scores computed again from the predictions, or runs trained again as well."""

Digest = Annotated[str, pydantic.StringConstraints(pattern=r"^[0-9a-f]{64}$")]

KEYS_VARIABLE = "NOISYBENCH_TRUSTED_KEYS"
KEYS_FILE = "trusted_keys.pem"
PREFIX = b"noisybench verification stamp 1\n"
"""Starts every signed text, so that a signature for another purpose is none for a stamp."""

MAX_KEY_BYTES = 2**16

KEY_HELP = "openssl genpkey -algorithm ed25519 -out private.pem && openssl pkey -in private.pem -pubout -out public.pem"
"""Command that creates a pair of keys."""


class VerificationStamp(pydantic.BaseModel):
    """Content of `verified.json`. Any change of the submission makes it void.

    Attributes:
        submission: SHA-256 of `submission.json`, which has the digests of all other files.
        status: outcome.
        noisybench: version that verified.
        date: time in UTC.
        retrained: number of runs that were trained again.
        signature: Ed25519 signature of all other fields, in hexadecimal digits; empty without one.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, strict=True)

    submission: Digest
    status: Literal["re-scored", "re-run"]
    noisybench: Annotated[str, pydantic.StringConstraints(max_length=50)]
    date: Annotated[str, pydantic.StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]
    retrained: Annotated[int, pydantic.Field(ge=0)]
    signature: Annotated[str, pydantic.StringConstraints(pattern=r"^([0-9a-f]{128})?$")] = ""

    def signed_bytes(self) -> bytes:
        """Return what the signature signs."""
        fields = self.model_dump(exclude={"signature"})
        return PREFIX + json.dumps(fields, sort_keys=True).encode("ascii")


@dataclass(frozen=True)
class StampStatus:
    """Status that a stamp gives a submission for one reader.

    Attributes:
        status: status of the submission for this reader.
        reason: reason for the status, in a few words.
    """

    status: Status
    reason: str


def check_stamp(stamp: VerificationStamp | None, digest: str, keys: Sequence[Ed25519PublicKey]) -> StampStatus:
    """Return the status that a stamp gives a submission.

    Args:
        stamp: stamp of the submission, if it has one.
        digest: SHA-256 of `submission.json`.
        keys: public keys that the reader trusts.

    Example:
        >>> check_stamp(None, "0" * 64, []).status
        'claimed'
    """
    if stamp is None:
        return StampStatus("claimed", "no stamp")
    if stamp.submission != digest:
        return StampStatus("claimed", "the stamp is for another submission")
    if not stamp.signature:
        return StampStatus("claimed", "the stamp is not signed")
    if not any(_is_signed_by(stamp, key) for key in keys):
        return StampStatus("claimed", "the stamp is not signed by a trusted key" if keys else "no key is trusted")
    return StampStatus(stamp.status, f"signed {stamp.date[:10]}, {count_runs(stamp.retrained)} retrained")


def _is_signed_by(stamp: VerificationStamp, key: Ed25519PublicKey) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(bytes.fromhex(stamp.signature), stamp.signed_bytes())
    except InvalidSignature:
        return False
    return True


def sign_stamp(digest: str, status: Status, version: str, retrained: int, key: Ed25519PrivateKey) -> VerificationStamp:
    """Return a signed stamp.

    Args:
        digest: SHA-256 of `submission.json`.
        status: outcome of the verification, not ``claimed``.
        version: version of noisybench.
        retrained: number of runs that were trained again.
        key: private key of the maintainer.
    """
    date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    unsigned = VerificationStamp(
        submission=digest,
        status="re-run" if status == "re-run" else "re-scored",
        noisybench=version,
        date=date,
        retrained=retrained,
    )
    return unsigned.model_copy(update={"signature": key.sign(unsigned.signed_bytes()).hex()})


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """Read a private key in PEM form.

    Raises:
        UserError: the file cannot be read, or holds no unencrypted Ed25519 key.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(_read(path, "--key"), password=None)
    # TypeError: the key is protected by a password.
    except (ValueError, TypeError) as error:
        raise UserError(f"--key: {path} is no private key in PEM form without a password ({error})") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise UserError(f"--key: {path} is no Ed25519 key; create one with `{KEY_HELP}`")
    return key


def read_trusted_keys(path: Path | None = None) -> list[Ed25519PublicKey]:
    """Return the public keys whose stamps count.

    Args:
        path: file of one or more public keys in PEM form; by default the file that the environment variable
            `NOISYBENCH_TRUSTED_KEYS` names, or `trusted_keys.pem` in the user's configuration folder, if there is one.

    Raises:
        UserError: the file cannot be read, or holds anything but public Ed25519 keys.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    named = os.environ.get(KEYS_VARIABLE)
    origin = "--trusted-keys" if path else KEYS_VARIABLE
    if path is None:
        path = Path(named) if named else platformdirs.user_config_path("noisybench") / KEYS_FILE
        if not named and not path.is_file():
            return []
    text = _read(path, origin).decode("utf-8", errors="replace")
    blocks = re.findall(r"-----BEGIN [A-Z ]+-----.*?-----END [A-Z ]+-----", text, re.DOTALL)
    keys = []
    for block in blocks:
        try:
            key = load_pem_public_key(block.encode())
        except ValueError:
            raise UserError(f"{origin}: {path} must hold public keys in PEM form only") from None
        if not isinstance(key, Ed25519PublicKey):
            raise UserError(f"{origin}: {path} holds a key that is not of the kind Ed25519")
        keys.append(key)
    if not keys:
        raise UserError(f"{origin}: {path} holds no public key in PEM form")
    return keys


def _read(path: Path, origin: str) -> bytes:
    try:
        # A key may be a link, but never a pipe or a device without an end.
        return read_plain_file(Path(os.path.realpath(expand_user(path))), MAX_KEY_BYTES)
    except UserError as error:
        raise UserError(*(f"{origin}: {problem}" for problem in error.problems)) from None
