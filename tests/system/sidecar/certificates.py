"""A certificate for one name, and the authority that signed it."""

import datetime
import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

GOOD_FOR = datetime.timedelta(days=1)


def write_certificates(folder: Path, *, name: str, uid: int) -> None:
    """Write ``ca.pem``, and ``cert.pem`` and ``key.pem`` for *name*, readable by *uid*."""
    authority = ec.generate_private_key(ec.SECP256R1())
    own = ec.generate_private_key(ec.SECP256R1())
    issuer = named("A test's authority")
    root = (
        certificate(issuer, issuer, authority.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(authority, hashes.SHA256())
    )
    leaf = (
        certificate(named(name), issuer, own.public_key())
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(authority, hashes.SHA256())
    )
    key = own.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    pem = serialization.Encoding.PEM
    for file, content in (
        ("ca.pem", root.public_bytes(pem)),
        ("cert.pem", leaf.public_bytes(pem)),
        ("key.pem", key),
    ):
        (folder / file).write_bytes(content)
        os.chown(folder / file, uid, uid)


def named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - GOOD_FOR)
        .not_valid_after(now + GOOD_FOR)
    )
