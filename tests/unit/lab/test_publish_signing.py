"""Signatures, checked the way a client does."""

import hashlib
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from cvtrace.lab.errors import LabError
from cvtrace.lab.publish.manifest import Manifest, manifest_text, read_manifest, whitelist_text
from cvtrace.lab.publish.signing import Keys, load_or_create_keys, sign_manifest, sign_whitelist

MANIFEST = Manifest("lab.example.org", 7, "ab" * 20, 4096, "cd" * 20, 1_700_000_000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def keys(folder: Path) -> Keys:
    return load_or_create_keys(folder, "lab.example.org")


def split(letter: bytes) -> tuple[bytes, bytes, bytes]:
    text, _, tail = letter.partition(b"--\n")
    printed, _, signature = tail.partition(b"\n")
    return text, printed, signature


def test_manifest_is_signed_by_the_certificate_in_the_repository(keys: Keys) -> None:
    # WHEN
    text, printed, signature = split(sign_manifest(manifest_text(MANIFEST), keys))

    # THEN
    certificate = x509.load_pem_x509_certificate(keys.certificate_pem)
    public = certificate.public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    assert printed.decode() == hashlib.sha1(text).hexdigest()
    public.verify(signature, printed, padding.PKCS1v15(), hashes.SHA1())


def test_whitelist_is_signed_by_the_master_key_and_names_the_certificate(keys: Keys) -> None:
    # WHEN
    whitelist = whitelist_text("lab.example.org", keys.fingerprint, 1_700_000_000)
    text, printed, signature = split(sign_whitelist(whitelist, keys))

    # THEN a client gets the printed hash back with the public key it was configured with
    public = serialization.load_pem_public_key(keys.public_path.read_bytes())
    assert isinstance(public, rsa.RSAPublicKey)
    assert public.recover_data_from_signature(signature, padding.PKCS1v15(), None) == printed
    assert printed.decode() == hashlib.sha1(text).hexdigest()
    lines = text.decode().splitlines()
    assert lines[0] == "20231114221320"
    assert (lines[1][0], len(lines[1])) == ("E", 15)
    assert lines[2] == "Nlab.example.org"
    der = x509.load_pem_x509_certificate(keys.certificate_pem).public_bytes(serialization.Encoding.DER)
    assert lines[3].replace(":", "").lower() == hashlib.sha1(der).hexdigest()


def test_keys_are_kept_and_private(folder: Path, keys: Keys) -> None:
    # WHEN
    again = load_or_create_keys(folder, "lab.example.org")

    # THEN
    assert again.certificate_pem == keys.certificate_pem
    assert again.master.private_numbers() == keys.master.private_numbers()
    for name in ("lab.example.org.key", "lab.example.org.masterkey"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600


def test_damaged_key_is_named(tmp_path: Path) -> None:
    # GIVEN
    (tmp_path / "lab.example.org.masterkey").write_text("nonsense")

    # WHEN / THEN
    with pytest.raises(LabError, match=r"lab\.example\.org\.masterkey is damaged"):
        load_or_create_keys(tmp_path, "lab.example.org")


def test_manifest_is_read_back(tmp_path: Path, keys: Keys) -> None:
    # GIVEN
    file = tmp_path / ".cvmfspublished"
    assert read_manifest(file) is None

    # WHEN
    file.write_bytes(sign_manifest(manifest_text(MANIFEST), keys))

    # THEN
    assert read_manifest(file) == MANIFEST
    file.write_bytes(file.read_bytes()[:60])
    with pytest.raises(LabError, match="is damaged"):
        read_manifest(file)
