"""How bodies are sealed: HPKE (RFC 9180) with X25519 out of its parts, and under a group's epoch key.

HPKE here is base mode, single shot, with DHKEM(X25519, HKDF-SHA256), HKDF-SHA256 and AES-128-GCM: suite 1 of
docs/FORMATS.md ("Envelope").
"""

import hmac

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from encoding import Refused, signed_bytes, u64
from keys import X25519, public_bytes

_KEM = b"KEM" + bytes([0, 0x20])
_HPKE = b"HPKE" + bytes([0, 0x20, 0, 1, 0, 1])


def _extract(suite, salt, label, secret):
    return hmac.digest(salt, b"HPKE-v1" + suite + label + secret, "sha256")


def _expand(suite, key, label, info, length):
    labelled = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    return HKDFExpand(hashes.SHA256(), length, labelled).derive(key)


def _key_and_nonce(shared_point, enc, recipient, info):
    shared = _extract(_KEM, b"", b"eae_prk", shared_point)
    secret = _expand(_KEM, shared, b"shared_secret", enc + recipient, 32)
    context = b"\0" + _extract(_HPKE, b"", b"psk_id_hash", b"") + _extract(_HPKE, b"", b"info_hash", info)
    schedule = _extract(_HPKE, secret, b"secret", b"")
    return _expand(_HPKE, schedule, b"key", context, 16), _expand(_HPKE, schedule, b"base_nonce", context, 12)


def hpke_seal(recipient, info, aad, content, ephemeral=None):
    """Seals to an X25519 key of 32 bytes. Returns enc (32 bytes) and the ciphertext. `ephemeral` only in tests of known answers."""
    ephemeral = ephemeral or x25519.X25519PrivateKey.generate()
    enc = public_bytes(ephemeral.public_key())
    try:
        point = ephemeral.exchange(x25519.X25519PublicKey.from_public_bytes(recipient))
    except ValueError:
        raise Refused("key-not-usable", "a key that nobody can seal to") from None
    key, nonce = _key_and_nonce(point, enc, recipient, info)
    return enc, AESGCM(key).encrypt(nonce, content, aad)


def hpke_open(secret, info, aad, enc, ciphertext):
    """Opens with an X25519 private key. Raises `Refused` (cannot-open)."""
    try:
        point = secret.exchange(x25519.X25519PublicKey.from_public_bytes(enc))
        key, nonce = _key_and_nonce(point, enc, public_bytes(secret.public_key()), info)
        return AESGCM(key).decrypt(nonce, ciphertext, aad)
    except (InvalidTag, ValueError):
        raise Refused("cannot-open", "it does not open with this key") from None


def hpke_key_pair(secret):
    """DeriveKeyPair of RFC 9180, section 7.1.3: an X25519 private key."""
    start = _extract(_KEM, b"", b"dkp_prk", secret)
    return x25519.X25519PrivateKey.from_private_bytes(_expand(_KEM, start, b"sk", b"", 32))


def _group_cipher(chain_id, group, epoch, epoch_key, aad):
    info = signed_bytes("mote/envelope-group-key/1", aad)
    salt = chain_id + group + u64(epoch)
    derived = HKDF(hashes.SHA256(), 44, salt, info).derive(epoch_key)
    return AESGCM(derived[:32]), derived[32:]


def group_seal(chain_id, group, epoch, epoch_key, aad, content):
    cipher, nonce = _group_cipher(chain_id, group, epoch, epoch_key, aad)
    return cipher.encrypt(nonce, content, aad)


def group_open(chain_id, group, epoch, epoch_key, aad, ciphertext):
    cipher, nonce = _group_cipher(chain_id, group, epoch, epoch_key, aad)
    try:
        return cipher.decrypt(nonce, ciphertext, aad)
    except InvalidTag:
        raise Refused("cannot-open", "it does not open with the epoch key") from None


def topic_key_pair(chain_id, group, epoch, epoch_key):
    """The key pair of an open topic in one epoch: private key and `[suite, bytes]` of the public one."""
    info = signed_bytes("mote/topic-key/1")
    secret = HKDF(hashes.SHA256(), 32, chain_id + group + u64(epoch), info).derive(epoch_key)
    private = hpke_key_pair(secret)
    return private, [X25519, public_bytes(private.public_key())]
