"""The pool's keys on disk: root, issuing, session secret, TLS. Made at the first start; never logged, never sent.

The CA certificate is the pool root itself as X.509, so pinning one pins the other.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import ipaddress
import secrets
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from buckler.controller.files import make_folder, write_secret
from buckler.controller.settings import Settings

_RENEW_BEFORE = dt.timedelta(days=30)


class KeysFailed(Exception):
    """A key file is unreadable or is not what it should be. The controller does not start with half a set of keys."""


class Keyring:
    """What a running controller holds. ``issuing`` signs everything but certificates and ISSUERS statements."""

    def __init__(
        self, root: Ed25519PrivateKey, issuing: Ed25519PrivateKey, session: bytes, ca: x509.Certificate
    ) -> None:
        self.root = root
        self.issuing = issuing
        self.session = session
        self.ca = ca

    @property
    def ca_pem(self) -> str:
        return self.ca.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def ca_digest(self) -> str:
        """The lower-case hexadecimal SHA-256 of the certificate's DER: what join tokens pin."""
        return hashlib.sha256(self.ca.public_bytes(serialization.Encoding.DER)).hexdigest()


def open_keys(folder: Path, settings: Settings, now: dt.datetime) -> Keyring:
    """Read the keys, making those that were never made. Raises KeysFailed."""
    make_folder(folder)
    is_new = not (folder / "ca.crt").exists()
    root = _key(folder / "root.pem", make=is_new)
    if is_new:
        write_secret(folder / "ca.crt", _pem(_ca(root, settings.pool, now)))
    ca = _certificate(folder / "ca.crt")
    if ca.public_key() != root.public_key():
        raise KeysFailed(f"{folder}: ca.crt is not the certificate of root.pem")
    issuing = _key(folder / "issuing.pem", make=not (folder / "issuing.pem").exists())
    session = _session_secret(folder / "session.secret")
    _renew_server(folder, root, ca, settings, now)
    return Keyring(root, issuing, session, ca)


def rotate_issuing(folder: Path) -> Ed25519PrivateKey:
    """Replace the issuing key; the next start has the root name the new one."""
    key = Ed25519PrivateKey.generate()
    write_secret(folder / "issuing.pem", _private(key))
    return key


def _key(path: Path, *, make: bool) -> Ed25519PrivateKey:
    if make and not path.exists():
        write_secret(path, _private(Ed25519PrivateKey.generate()))
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise KeysFailed(f"{path}: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeysFailed(f"{path}: not an Ed25519 key")
    return key


def _public_key(path: Path) -> object:
    try:
        return serialization.load_pem_private_key(path.read_bytes(), password=None).public_key()
    except (OSError, ValueError, TypeError):
        return None


def _session_secret(path: Path) -> bytes:
    if not path.exists():
        write_secret(path, secrets.token_bytes(32))
    secret = path.read_bytes()
    if len(secret) != 32:
        raise KeysFailed(f"{path}: not 32 bytes")
    return secret


def _certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise KeysFailed(f"{path}: {error}") from error


def _ca(root: Ed25519PrivateKey, pool: str, now: dt.datetime) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Buckler pool root of {pool}"[:64])])
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    return (
        _builder(name, name, now, days=3650)
        .public_key(root.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(root.public_key()), critical=False)
        .sign(root, None)
    )


def _renew_server(
    folder: Path, root: Ed25519PrivateKey, ca: x509.Certificate, settings: Settings, now: dt.datetime
) -> None:
    """Make the server's certificate when there is none, when it ends soon, or when its names are not the set ones."""
    path = folder / "server.crt"
    names = x509.SubjectAlternativeName([_general_name(name) for name in settings.names])
    if path.exists() and (folder / "server.pem").exists():
        held = _certificate(path)
        found = held.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        is_pair = _public_key(folder / "server.pem") == held.public_key()  # not after a crash between the two writes
        if is_pair and found == names and held.not_valid_after_utc - now > _RENEW_BEFORE:
            return
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Buckler controller")])
    certificate = (
        _builder(subject, ca.subject, now, days=settings.certificate_days)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(True, False, False, False, False, False, False, False, False), critical=True)
        .add_extension(names, critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root.public_key()), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(root, None)
    )
    write_secret(folder / "server.pem", _private(key))
    write_secret(path, _pem(certificate) + _pem(ca))


def _builder(subject: x509.Name, issuer: x509.Name, now: dt.datetime, *, days: int) -> x509.CertificateBuilder:
    # A little into the past: agents' clocks may be behind.
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=days))
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _private(key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption())


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
