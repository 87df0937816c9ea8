# SPDX-License-Identifier: Apache-2.0
"""Certificates of a cluster under test: authorities and what they sign. EC keys, since RSA ones take seconds to make."""

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ONE_DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as PEM bytes and as files."""

    cert: Path
    key: Path

    @property
    def cert_pem(self):
        return self.cert.read_bytes()

    @property
    def key_pem(self):
        return self.key.read_bytes()


def write_key(path):
    """A new private key at path; returns the key object."""
    key = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                       serialization.NoEncryption()))
    path.chmod(0o600)
    return key


def write_public_key(key, path):
    path.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM,
                                                   serialization.PublicFormat.SubjectPublicKeyInfo))


def _subject(name, groups):
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, g) for g in groups]
    return x509.Name(attributes + [x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _alternative(name):
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


class Authority:
    """A certificate authority with its files in a directory."""

    def __init__(self, directory, name="kubernetes"):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.cert_path = self.directory / f"{name}-ca.crt"
        self.key_path = self.directory / f"{name}-ca.key"
        self._key = write_key(self.key_path)
        self._name = _subject(f"{name}-ca", [])
        usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
        builder = self._builder(self._name, self._key.public_key(), -ONE_DAY, 365 * ONE_DAY)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        builder = builder.add_extension(usage, critical=True)
        self._cert = builder.sign(self._key, hashes.SHA256())
        self.cert_path.write_bytes(self._cert.public_bytes(serialization.Encoding.PEM))

    @property
    def pair(self):
        return Pair(self.cert_path, self.key_path)

    def _builder(self, subject, public_key, begin, end):
        now = datetime.datetime.utcnow()
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(public_key)
        builder = builder.serial_number(x509.random_serial_number())
        return builder.not_valid_before(now + begin).not_valid_after(now + end)

    def issue(self, name, *, groups=(), names=(), begin=-ONE_DAY, end=30 * ONE_DAY, file=None):
        """A certificate for both client and server use; `names` are DNS names and addresses, `end` may lie in the past."""
        file = file or name.replace(":", "-").replace("/", "-")
        pair = Pair(self.directory / f"{file}.crt", self.directory / f"{file}.key")
        key = write_key(pair.key)
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH])
        builder = self._builder(_subject(name, groups), key.public_key(), begin, end).add_extension(usage, critical=False)
        if names:
            san = x509.SubjectAlternativeName([_alternative(n) for n in names])
            builder = builder.add_extension(san, critical=False)
        cert = builder.sign(self._key, hashes.SHA256())
        pair.cert.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
        return pair
