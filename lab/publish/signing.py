"""Keys, certificate and signatures of a repository (format: cvmfs crypto/signature.cc).

Two RSA keys. The master key signs the whitelist; its public half is what a client is configured with. The
repository key signs the manifest; its certificate lies in the repository, and the whitelist names its
fingerprint.
"""

from __future__ import annotations

import datetime
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from cvtrace.lab.errors import LabError

KEY_BITS: Final = 2048
CERTIFICATE_DAYS: Final = 3650  # clients do not look at it; only the whitelist's expiry counts


@dataclass(frozen=True)
class Keys:
    """What signs a repository, and the files it is kept in."""

    master: rsa.RSAPrivateKey
    repository: rsa.RSAPrivateKey
    certificate: x509.Certificate
    public_path: Path

    @property
    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def fingerprint(self) -> str:
        """SHA-1 of the certificate, as the whitelist spells it: AB:CD:…"""
        return self.certificate.fingerprint(hashes.SHA1()).hex(":").upper()


def load_or_create_keys(folder: Path, fqrn: str) -> Keys:
    """Return the keys of a repository, made on first use: NAME.pub, .crt, and private: .masterkey, .key.

    Raises LabError when they are there but cannot be used.
    """
    folder.mkdir(parents=True, exist_ok=True)
    public_path = folder / f"{fqrn}.pub"
    master = _private_key(folder / f"{fqrn}.masterkey")
    repository = _private_key(folder / f"{fqrn}.key")
    public_path.write_bytes(
        master.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return Keys(master, repository, _certificate(folder / f"{fqrn}.crt", repository, fqrn), public_path)


def sign_manifest(text: bytes, keys: Keys) -> bytes:
    """Return the letter of a manifest: its text, a mark, the SHA-1 of the text, its signature."""
    printed = hashlib.sha1(text).hexdigest().encode()
    signature = keys.repository.sign(printed, padding.PKCS1v15(), hashes.SHA1())
    return text + b"--\n" + printed + b"\n" + signature


def sign_whitelist(text: bytes, keys: Keys) -> bytes:
    """Return the letter of a whitelist; here the printed hash is encrypted as it is, naming no algorithm."""
    printed = hashlib.sha1(text).hexdigest().encode()
    return text + b"--\n" + printed + b"\n" + _encrypt_with_private_key(printed, keys.master)


def _encrypt_with_private_key(message: bytes, key: rsa.RSAPrivateKey) -> bytes:
    """RSA, PKCS #1 v1.5 block type 1 without DigestInfo (RFC 2313, 8.1); older `cryptography` cannot."""
    size_bytes = key.key_size // 8
    block = b"\x00\x01" + b"\xff" * (size_bytes - len(message) - 3) + b"\x00" + message
    numbers = key.private_numbers()
    return pow(int.from_bytes(block), numbers.d, numbers.public_numbers.n).to_bytes(size_bytes)


def _private_key(path: Path) -> rsa.RSAPrivateKey:
    if not path.exists():
        key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
        return key
    try:
        loaded = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except ValueError as error:
        raise LabError(f"the key {path} is damaged; remove it to have a new one made ({error})") from error
    if not isinstance(loaded, rsa.RSAPrivateKey):
        raise LabError(f"the key {path} is not an RSA key; remove it to have a new one made")
    return loaded


def _certificate(path: Path, key: rsa.RSAPrivateKey, fqrn: str) -> x509.Certificate:
    """Return the certificate of `key`; one that belongs to another key is replaced."""
    if path.exists():
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        if certificate.public_key() == key.public_key():
            return certificate
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, fqrn[:64])])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=CERTIFICATE_DAYS))
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return certificate
