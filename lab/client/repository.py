"""Trusting a repository: manifest, whitelist, certificate and their signatures.

The manifest names the root catalog and is signed with the key of a certificate; the whitelist names the certificates that may sign
and is signed with the master key, whose public half the user gives. Anything that does not fit is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from cvtrace.lab.client.content import Hash
from cvtrace.lab.errors import LabError

_ROOT_PATH_MD5 = hashlib.md5(b"", usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class Letter:
    """A signed text: what was signed is the hash of `text`, in hex."""

    text: bytes
    hash_line: str
    signature: bytes

    @classmethod
    def parse(cls, data: bytes, description: str) -> Letter:
        """Cut a letter into text, hash and signature and check the hash; raises LabError."""
        text, mark, tail = data.partition(b"\n--\n")
        hash_line, newline, signature = tail.partition(b"\n")
        if not (mark and newline and signature):
            raise LabError(f"the {description} is damaged (it carries no signature): publish the repository again")
        text += b"\n"
        expected = Hash.parse(hash_line.decode("ascii", "replace"))
        hasher = expected.hasher()
        hasher.update(text)
        if hasher.hexdigest() != expected.digits:
            raise LabError(f"the {description} does not match its own hash: it was altered or damaged on the way")
        return cls(text, hash_line.decode(), signature)


@dataclass(frozen=True)
class Manifest:
    """What `.cvmfspublished` says."""

    fqrn: str
    root_hash: Hash
    certificate: Hash
    revision: int
    ttl_s: int


def parse_manifest(letter: Letter, fqrn: str) -> Manifest:
    """Read the manifest's fields; raises LabError when one is missing or it is another repository's."""
    fields = {line[:1]: line[1:] for line in letter.text.decode("utf-8", "replace").splitlines() if line}
    missing = [key for key in "CRDSNX" if not fields.get(key)]
    if missing:
        raise LabError(f"the manifest of {fqrn} lacks the fields {', '.join(missing)}: publish the repository again")
    if fields["N"] != fqrn:
        raise LabError(f"the manifest belongs to {fields['N']}, not to {fqrn}: check the URL")
    if fields["R"] != _ROOT_PATH_MD5 or not (fields["S"].isdecimal() and fields["D"].isdecimal()):
        raise LabError(f"the manifest of {fqrn} is damaged: publish the repository again")
    return Manifest(fqrn, Hash.parse(fields["C"]), Hash.parse(fields["X"]), int(fields["S"]), int(fields["D"]))


def load_public_keys(paths: str) -> list[rsa.RSAPublicKey]:
    """Load master keys from PEM files, several separated by colons; raises LabError."""
    keys = []
    for path in paths.split(":"):
        try:
            key = serialization.load_pem_public_key(Path(path).read_bytes())
        except OSError as error:
            raise LabError(f"cannot read the repository's public key {path}: {error.strerror}") from error
        except ValueError as error:
            raise LabError(f"{path} is not a public key in PEM form") from error
        if not isinstance(key, rsa.RSAPublicKey):
            raise LabError(f"{path} is not an RSA key, and CVMFS knows no other")
        keys.append(key)
    return keys


def verify_whitelist(letter: Letter, fqrn: str, keys: Sequence[rsa.RSAPublicKey], now: datetime) -> frozenset[str]:
    """Check a whitelist and return the certificate fingerprints it lists (lower-case hex); raises LabError.

    The signature is the hash line itself in a PKCS #1 v1.5 block, without the usual DigestInfo around it.
    """
    if not any(_recovers(key, letter) for key in keys):
        raise LabError(f"the whitelist of {fqrn} is not signed with the given key: use the key of this repository")
    lines = letter.text.decode("utf-8", "replace").splitlines()
    if len(lines) < 3 or lines[1][:1] != "E":
        raise LabError(f"the whitelist of {fqrn} is damaged: publish the repository again")
    try:
        expiry = datetime.strptime(lines[1][1:], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError as error:
        raise LabError(f"the whitelist of {fqrn} has no readable expiry date: publish the repository again") from error
    if now >= expiry:
        raise LabError(f"the whitelist of {fqrn} expired on {expiry:%Y-%m-%d %H:%M} UTC: publish the repository again")
    if lines[2] != f"N{fqrn}":
        raise LabError(f"the whitelist belongs to {lines[2][1:]}, not to {fqrn}: check the URL")
    return frozenset(_fingerprint_line(line) for line in lines[3:])


def verify_manifest(letter: Letter, certificate_pem: bytes, fingerprints: frozenset[str], fqrn: str) -> None:
    """Check that a listed certificate signed the manifest; raises LabError."""
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        key = certificate.public_key()
    except ValueError as error:
        raise LabError(f"the certificate of {fqrn} is damaged: publish the repository again") from error
    if certificate.fingerprint(hashes.SHA1()).hex() not in fingerprints:
        raise LabError(f"the certificate of {fqrn} is not on its whitelist: the repository was signed by somebody else")
    if not isinstance(key, rsa.RSAPublicKey):
        raise LabError(f"the certificate of {fqrn} holds no RSA key, and CVMFS knows no other")
    try:
        key.verify(letter.signature, letter.hash_line.encode(), padding.PKCS1v15(), hashes.SHA1())
    except InvalidSignature as error:
        raise LabError(f"the manifest of {fqrn} is not signed by its certificate: it was altered or damaged") from error


def load_manifest(
    fqrn: str,
    keys: Sequence[rsa.RSAPublicKey],
    get: Callable[[str], bytes],
    get_certificate: Callable[[Hash], bytes],
    now: datetime | None = None,
) -> Manifest:
    """Fetch and verify, in the client's order: manifest, certificate, whitelist; raises LabError."""
    letter = Letter.parse(get(".cvmfspublished"), f"manifest of {fqrn}")
    manifest = parse_manifest(letter, fqrn)
    certificate = get_certificate(manifest.certificate)
    whitelist = Letter.parse(get(".cvmfswhitelist"), f"whitelist of {fqrn}")
    fingerprints = verify_whitelist(whitelist, fqrn, keys, now or datetime.now(UTC))
    verify_manifest(letter, certificate, fingerprints, fqrn)
    return manifest


def _recovers(key: rsa.RSAPublicKey, letter: Letter) -> bool:
    try:
        recovered = key.recover_data_from_signature(letter.signature, padding.PKCS1v15(), None)
    except (InvalidSignature, ValueError):
        return False
    return recovered == letter.hash_line.encode()


def _fingerprint_line(line: str) -> str:
    words = line.split("#")[0].split()
    return words[0].replace(":", "").lower() if words else ""
