"""Envelopes, and the boxes that epoch keys come in (docs/FORMATS.md, "Envelope" to "Open topics")."""

import re

from encoding import (
    Refused,
    decode,
    digest,
    encode,
    fields,
    hash_of,
    malformed,
    natural,
    octets,
    signed_bytes,
    text,
    u64,
    variant,
    version_1,
)
from keys import key_id, verifies
from sealing import group_open, group_seal, hpke_open, hpke_seal, topic_key_pair

HPKE_X25519, GROUP = 1, 16
TO_DEVICE, TO_GROUP, TO_TOPIC = 1, 2, 3
MOST_WIRE = 1024 * 1024 + 1024
MOST_CONTENT = 1024 * 1024

_target = variant(
    _1=fields(digest, digest), _2=fields(digest, natural(2**32 - 1), digest), _3=fields(digest, natural(2**32 - 1), digest)
)
_header = fields(
    natural(127), digest, digest, _target, natural(), natural(), natural(), natural()
)
_payload = fields(_header, text(64), octets(0, 384), octets(16, MOST_CONTENT + 80))
_wire = fields(version_1, octets(1, MOST_WIRE), octets(64))
_channel = re.compile(r"(?:[\w.-]+(?:/[\w.-]+)*)?", re.ASCII)
_content = variant(
    _1=fields(octets(0, MOST_CONTENT)),
    _2=fields(octets(16), natural(15), natural(16, 2), digest, octets(0, MOST_CONTENT)),
)


class Envelope:
    """An envelope that has been read; `verify` and `open_*` say whether it is to be believed."""

    def __init__(self, chain_id, wire):
        if len(wire) > MOST_WIRE:
            raise Refused("too-large", "envelope: expected at most 1 MiB + 1 KiB")
        if wire[:1] == b"\x93" and 1 < wire[1:2][0] < 128:
            raise Refused("unknown-version", f"envelope: version {wire[1]}")
        _, payload, self.signature = _wire(decode(wire, MOST_WIRE))
        self.header, self.channel, self.enc, self.ciphertext = _payload(decode(payload, MOST_WIRE))
        if not _channel.fullmatch(self.channel):
            raise malformed("channel: expected levels of letters, digits, '.', '_' and '-'")
        self.suite, self.sender, self.sender_key, (self.target_type, self.target) = self.header[:4]
        self.counter, self.seen_height, self.expiry, self.keep_until = self.header[4:]
        wanted = {TO_DEVICE: HPKE_X25519, TO_TOPIC: HPKE_X25519, TO_GROUP: GROUP}[self.target_type]
        if self.suite != wanted or len(self.enc) != (0 if wanted == GROUP else 32):
            raise Refused("suite-mismatch", f"this device reads suite {wanted} here, not {self.suite}")
        self.chain_id = chain_id
        self.message_id = hash_of("mote/envelope-id/1", chain_id, payload)
        self._aad = encode([self.header, self.channel])

    @property
    def good_until(self):
        return max(self.expiry, self.keep_until)

    def verify(self, key):
        message = signed_bytes("mote/envelope-signature/1", self.message_id)
        if not verifies(key, self.signature, message):
            raise Refused("bad-signature", "the signature does not verify under the sender's key")

    def open_with_key(self, secret):
        """With a device's X25519 key, or an open topic's."""
        info = signed_bytes("mote/envelope-info/1", self.chain_id)
        return _whole(hpke_open(secret, info, self._aad, self.enc, self.ciphertext))

    def open_with_epoch_key(self, epoch_key):
        group, epoch, _ = self.target
        return _whole(group_open(self.chain_id, group, epoch, epoch_key, self._aad, self.ciphertext))


def _whole(body):
    number, content = _content(decode(body, MOST_CONTENT + 64))
    if number != 1:
        raise malformed("this device takes whole messages only, not chunks of larger ones")
    return content[0]


class Sender:
    """Makes this device's envelopes."""

    def __init__(self, chain_id, own_keys, next_counter):
        self._chain_id, self._keys, self._next_counter = chain_id, own_keys, next_counter

    def to_key(self, target, public, content, seen_height, expiry):
        """To a device or an open topic, by its X25519 key `[suite, bytes]`."""
        header = self._header(HPKE_X25519, target, seen_height, expiry)
        info = signed_bytes("mote/envelope-info/1", self._chain_id)
        enc, ciphertext = hpke_seal(public[1], info, encode([header, ""]), _body(content))
        return self._sign([header, "", enc, ciphertext])

    def to_group(self, group, epoch_key, content, seen_height, expiry):
        target = [TO_GROUP, [group.id, group.epoch, group.epoch_key_hash]]
        header = self._header(GROUP, target, seen_height, expiry)
        aad = encode([header, ""])
        ciphertext = group_seal(self._chain_id, group.id, group.epoch, epoch_key, aad, _body(content))
        return self._sign([header, "", b"", ciphertext])

    def _header(self, suite, target, seen_height, expiry):
        key = key_id(self._keys.signing_key)
        return [suite, self._keys.id, key, target, self._next_counter(), seen_height, expiry, 0]

    def _sign(self, payload):
        encoded = encode(payload)
        message_id = hash_of("mote/envelope-id/1", self._chain_id, encoded)
        signature = self._keys.sign(signed_bytes("mote/envelope-signature/1", message_id))
        return message_id, encode([1, encoded, signature])


def _body(content):
    return encode([1, [content]])


# Boxes

_box = fields(digest, digest, octets(1, 384), octets(48))
_member_box = fields(version_1, digest, natural(2**32 - 1), _box)


def open_box(chain_id, wire, own_keys):
    """Group, epoch and epoch key of a member's box. Raises `Refused`; the caller compares with the chain."""
    _, group, epoch, (member, key, enc, ciphertext) = _member_box(decode(wire, 1024))
    if member != own_keys.id or key != key_id(own_keys.encryption_key) or len(enc) != 32:
        raise Refused("cannot-open", "box: for another device or key")
    info = signed_bytes("mote/box-info/1", chain_id)
    aad = signed_bytes("mote/box-aad/1", group, u64(epoch), member)
    return group, epoch, hpke_open(own_keys.secret, info, aad, enc, ciphertext)


def epoch_key_hash(chain_id, group, epoch, epoch_key):
    return hash_of("mote/epoch-key/1", chain_id, group, u64(epoch), epoch_key)


def topic_secret(chain_id, group, epoch_key):
    """The private key of an open topic's current epoch. Raises `Refused` if it is not the chain's."""
    private, public = topic_key_pair(chain_id, group.id, group.epoch, epoch_key)
    if public != group.topic_key:
        raise Refused("recipient-key-mismatch", "box: its key is not the one of the topic on the chain")
    return private
