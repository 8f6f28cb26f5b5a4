"""Keys and signatures of docs/FORMATS.md ("Keys and signatures"), and a device's own key file."""

import json

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, x25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from encoding import Refused, fields, hash_of, natural, octets

SUITES = {"ed25519": 1, "p256": 2, "x25519": 16, "p256-ecdh": 17, "rsa-oaep": 18}
ED25519, P256, X25519 = 1, 2, 16

key_fields = fields(natural(127), octets(32, 512))

_P = 2**255 - 19
# The points of small order, encoded: RFC 8032 says how, and decoding these is all that is needed to know them again.
_SMALL_ORDER = {
    bytes.fromhex(text)
    for text in (
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    )
}
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def key_id(key):
    suite, content = key
    return hash_of("mote/key/1", bytes([suite]), content)


def device_id(inception_key):
    suite, content = inception_key
    return hash_of("mote/device/1", bytes([suite]), content)


def verifies(key, signature, message):
    """True for exactly the signatures that FORMATS accepts: `cryptography` alone accepts some more."""
    suite, content = key
    if len(signature) != 64:
        return False
    try:
        if suite == ED25519:
            return _verifies_ed25519(content, signature, message)
        return suite == P256 and _verifies_p256(content, signature, message)
    except (InvalidSignature, ValueError):
        return False


def _verifies_ed25519(content, signature, message):
    y = int.from_bytes(content, "little") & (2**255 - 1)
    is_negative_zero = y in (1, _P - 1) and content[31] & 0x80
    if len(content) != 32 or y >= _P or is_negative_zero:
        return False
    if content in _SMALL_ORDER or signature[:32] in _SMALL_ORDER:
        return False
    ed25519.Ed25519PublicKey.from_public_bytes(content).verify(signature, message)
    return True


def _verifies_p256(content, signature, message):
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    if len(content) != 33 or not 0 < r < _P256_ORDER or not 0 < s <= _P256_ORDER // 2:
        return False
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), content)
    key.verify(encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA256()))
    return True


def public_bytes(key):
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


class OwnKeys:
    """What this device holds: an Ed25519 key to sign, an X25519 key to be sealed to."""

    def __init__(self, identity, signing_seed, encryption_secret):
        self._signing = ed25519.Ed25519PrivateKey.from_private_bytes(signing_seed)
        self.secret = x25519.X25519PrivateKey.from_private_bytes(encryption_secret)
        self.signing_key = [ED25519, public_bytes(self._signing.public_key())]
        self.encryption_key = [X25519, public_bytes(self.secret.public_key())]
        self.id = identity

    @staticmethod
    def read(path):
        """From a key file as `mote device join` writes it (FORMATS, "Key files")."""
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
        signing, encryption = content["signing"], content["encryption"]
        if content["version"] != 1 or signing["suite"] != "ed25519" or encryption["suite"] != "x25519":
            raise Refused("key-invalid", f"{path}: expected version 1, ed25519 and x25519")
        return OwnKeys(
            bytes.fromhex(content["id"]), bytes.fromhex(signing["seed"]), bytes.fromhex(encryption["secret"])
        )

    def sign(self, message):
        return self._signing.sign(message)
