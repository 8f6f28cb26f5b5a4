"""The log-in at the gateway: an MQTT password that is a signed assertion (docs/FORMATS.md, "Assertion")."""

import base64
import os

from encoding import encode, signed_bytes
from keys import key_id

LIFETIME_MS = 30_000


def password(chain_id, own_keys, issued_at, expires_at=None, nonce=None):
    """Good for one connection. Times are milliseconds since 1970."""
    expires_at = expires_at or issued_at + LIFETIME_MS
    nonce = nonce or os.urandom(16)
    payload = encode([1, own_keys.id, chain_id, issued_at, expires_at, nonce, key_id(own_keys.signing_key)])
    signature = own_keys.sign(signed_bytes("mote/mqtt-assertion/1", payload))
    return base64.urlsafe_b64encode(encode([payload, signature])).rstrip(b"=").decode("ascii")
