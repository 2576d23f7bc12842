"""Trusting a repository: each way in which a signed file can be wrong has its refusal."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from cvtrace.lab.client.content import Hash
from cvtrace.lab.client.repository import Letter, load_manifest, parse_manifest
from cvtrace.lab.errors import LabError

FQRN = "test.example.org"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=1024)


MASTER, SIGNER, STRANGER = new_key(), new_key(), new_key()


def certificate(key: rsa.RSAPrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, FQRN)])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, NOW, NOW + DAY)
    return builder.sign(key, hashes.SHA256())


def raw_signature(key: rsa.RSAPrivateKey, message: bytes) -> bytes:
    """PKCS #1 v1.5 without DigestInfo, by arithmetic: the library does not offer it."""
    numbers = key.private_numbers()
    size = key.key_size // 8
    block = b"\0\1" + b"\xff" * (size - 3 - len(message)) + b"\0" + message
    return pow(int.from_bytes(block), numbers.d, numbers.public_numbers.n).to_bytes(size)


def manifest_text(**changes: str) -> bytes:
    root_path = hashlib.md5(b"").hexdigest()
    fields = {"C": "1" * 40, "R": root_path, "D": "240", "S": "7", "N": FQRN, "X": "2" * 40, **changes}
    return "".join(f"{key}{value}\n" for key, value in fields.items() if value).encode()


def signed_manifest(text: bytes, key: rsa.RSAPrivateKey = SIGNER) -> bytes:
    line = hashlib.sha1(text).hexdigest().encode()
    return text + b"--\n" + line + b"\n" + key.sign(line, padding.PKCS1v15(), hashes.SHA1())


def signed_whitelist(
    *,
    fqrn: str = FQRN,
    expiry: datetime = NOW + DAY,
    key: rsa.RSAPrivateKey = MASTER,
    signer: rsa.RSAPrivateKey = SIGNER,
) -> bytes:
    fingerprint = certificate(signer).fingerprint(hashes.SHA1()).hex(":").upper()
    text = f"20250101000000\nE{expiry:%Y%m%d%H%M%S}\nN{fqrn}\n{fingerprint} # signer\n".encode()
    line = hashlib.sha1(text).hexdigest().encode()
    return text + b"--\n" + line + b"\n" + raw_signature(key, line)


def load(manifest: bytes, whitelist: bytes, signer: rsa.RSAPrivateKey = SIGNER) -> Hash:
    files = {".cvmfspublished": manifest, ".cvmfswhitelist": whitelist}
    pem = certificate(signer).public_bytes(serialization.Encoding.PEM)
    return load_manifest(FQRN, [MASTER.public_key()], files.__getitem__, lambda _: pem, NOW).root_hash


def test_a_well_signed_repository_is_trusted() -> None:
    # GIVEN manifest and whitelist as a publisher signs them / WHEN they are loaded / THEN the root catalog is known
    assert load(signed_manifest(manifest_text()), signed_whitelist()) == Hash("1" * 40)


@pytest.mark.parametrize(
    ("manifest", "whitelist", "signer", "reason"),
    [
        (signed_manifest(manifest_text(), STRANGER), signed_whitelist(), SIGNER, "not signed by its certificate"),
        (signed_manifest(manifest_text(), STRANGER), signed_whitelist(), STRANGER, "not on its whitelist"),
        (signed_manifest(manifest_text()), signed_whitelist(key=STRANGER), SIGNER, "not signed with the given key"),
        (signed_manifest(manifest_text()), signed_whitelist(expiry=NOW - DAY), SIGNER, "expired on 2025-12-31"),
        (signed_manifest(manifest_text()), signed_whitelist(fqrn="a.b"), SIGNER, "belongs to a.b"),
        (signed_manifest(manifest_text(N="a.b")), signed_whitelist(), SIGNER, "belongs to a.b"),
        (signed_manifest(manifest_text(X="")), signed_whitelist(), SIGNER, "lacks the fields X"),
        (signed_manifest(manifest_text(S="x")), signed_whitelist(), SIGNER, "is damaged"),
        (signed_manifest(manifest_text()) + b"x", signed_whitelist(), SIGNER, "not signed by its certificate"),
        (b"C" + signed_manifest(manifest_text()), signed_whitelist(), SIGNER, "does not match its own hash"),
        (b"", signed_whitelist(), SIGNER, "carries no signature"),
        (b"\xff\n--\nx\ny", signed_whitelist(), SIGNER, "not a content hash"),
    ],
)
def test_an_inconsistent_repository_is_refused_in_one_sentence(
    manifest: bytes, whitelist: bytes, signer: rsa.RSAPrivateKey, reason: str
) -> None:
    # GIVEN a repository with something wrong / WHEN it is loaded / THEN it is refused in one sentence
    with pytest.raises(LabError, match=reason) as caught:
        load(manifest, whitelist, signer)
    assert "\n" not in str(caught.value)


def test_signed_files_are_fetched_in_the_order_of_the_real_client() -> None:
    # GIVEN a repository
    urls: list[str] = []
    files = {".cvmfspublished": signed_manifest(manifest_text()), ".cvmfswhitelist": signed_whitelist()}

    def get(name: str) -> bytes:
        urls.append(name)
        return files[name]

    def get_certificate(hash_: Hash) -> bytes:
        urls.append(f"{hash_}X")
        return certificate(SIGNER).public_bytes(serialization.Encoding.PEM)

    # WHEN it is loaded / THEN the order is manifest, certificate, whitelist
    load_manifest(FQRN, [STRANGER.public_key(), MASTER.public_key()], get, get_certificate, NOW)
    assert urls == [".cvmfspublished", "2" * 40 + "X", ".cvmfswhitelist"]


def test_signatures_may_contain_any_byte() -> None:
    # GIVEN a letter whose signature holds the separator itself
    text = b"Nx\n"
    data = text + b"--\n" + hashlib.sha1(text).hexdigest().encode() + b"\n" + b"\n--\n\0"

    # WHEN it is cut / THEN the first separator counts
    assert Letter.parse(data, "letter").signature == b"\n--\n\0"
    with pytest.raises(LabError, match="lacks the fields"):
        parse_manifest(Letter.parse(data, "letter"), "x")
