"""What the chain says, checked by this device itself: from the genesis file to a record.

Whoever hands an answer over (the gateway, say) may refuse or be silent, but cannot lie: header, certificate and proof lead
from the bytes of the answer to the consenters that the genesis names (docs/FORMATS.md, "State tree" to "State answer").
"""

import hashlib
import json

from encoding import (
    Refused,
    array,
    ascending,
    decode,
    digest,
    encode,
    fields,
    hash_of,
    natural,
    octets,
    optional,
    signed_bytes,
    text,
    u64,
    version_1,
)
from keys import SUITES, X25519, key_fields, key_id, verifies

IDENTITY, GROUP, PARAMETERS = 1, 2, 6
LABELS = {"lightweight": 1, "coordination": 2, "full": 3}
STATUS = {1: "pending", 2: "active", 3: "suspended", 4: "revoked"}
ENVELOPE_SUITES = {
    "hpke-x25519-aes128gcm": 1,
    "rsa-oaep-sha256-aes256gcm": 3,
    "hpke-p256-aes128gcm": 4,
    "light-x25519-aes256gcm": 9,
    "light-rsa-oaep-aes256gcm": 11,
    "light-p256-aes256gcm": 12,
    "group-hkdf-sha256-aes256gcm": 16,
}
SIGN, ENCRYPT = 1, 2
NO_SIBLING = bytes(32)


def state_key(record_type, identity=b""):
    return hash_of("mote/state-key/1", bytes([record_type]), identity)


class Genesis:
    """Where trust begins: the chain's id, and who certifies its headers."""

    def __init__(self, document):
        policy = {"majority": 1, "two-thirds": 2}[document["quorumPolicy"]]
        consenters = [_member(each) for each in document["consenters"]]
        self.chain_id = hash_of("mote/genesis/1", encode(_document(document, consenters, policy)))
        stated = document.get("chainId")
        if stated is not None and stated != self.chain_id.hex():
            raise Refused("config-invalid", f"genesis: its id is {self.chain_id.hex()}, not {stated}")
        self.incarnation = 0
        self.trust(consenters, policy)

    def trust(self, consenters, policy):
        self.consenter_keys = [key for _, key in consenters]
        count = len(consenters)
        self.quorum = count // 2 + 1 if policy == 1 else 2 * count // 3 + 1
        self.signers_hash = hash_of("mote/signers/1", encode([consenters, policy]))

    @staticmethod
    def read(path):
        with open(path, encoding="utf-8") as file:
            return Genesis(json.load(file))


def _member(member):
    return [bytes.fromhex(member["id"]), _key(member["key"])]


def _key(key):
    return [SUITES[key["suite"]], bytes.fromhex(key["bytes"])]


def _document(document, consenters, policy):
    parameters, limits = document["parameters"], document["parameters"]["limits"]
    names = ("blockTransactions", "blockBytes", "blockChanges", "unexpiredTransactions", "groupMembers")
    return [
        document["version"],
        document["name"],
        document["createdAt"],
        consenters,
        policy,
        [_member(each) for each in document["authorities"]],
        document["threshold"],
        [
            [limits[name] for name in (*names, "groupsPerIdentity", "grantQuota")],
            parameters["heartbeatMs"],
            parameters["epochGraceMs"],
            parameters["challengeAgeMs"],
            [ENVELOPE_SUITES[name] for name in parameters["envelopeSuites"]],
            parameters["executionVersion"],
        ],
        [_identity(each) for each in document["identities"]],
    ]


def _identity(identity):
    def of(name, read):
        return read(identity[name]) if name in identity else None

    return [
        _key(identity["inceptionKey"]),
        LABELS[identity["label"]],
        of("encryptionKey", _key),
        of("transportKey", bytes.fromhex),
        of("metadataHash", bytes.fromhex),
    ]


# State answers

_proof = fields(natural(256), octets(0, 32), octets(0, 256 * 32), optional(fields(digest, digest)))
_answer = fields(
    natural(),
    natural(),
    digest,
    array(fields(natural(6), octets(64)), 7),
    optional(octets(0, 65_536)),
    _proof,
)


class StateAnswer:
    """What stands at a state key, proven. `value` is None where nothing does."""

    def __init__(self, height, time, value):
        self.height, self.time, self.value = height, time, value


def verify_state_answer(genesis, key, answer):
    """The answer (decoded, not yet believed), proven for this key. Raises `Refused` (malformed, bad-proof, bad-certificate)."""
    height, time, rest_hash, signatures, value, proof = _answer(answer)
    root = _root(key, value, proof)
    header_hash = hash_of("mote/header/1", u64(height), u64(time), root, genesis.signers_hash, rest_hash)
    _check_certificate(genesis, height, header_hash, signatures)
    return StateAnswer(height, time, value)


def _check_certificate(genesis, height, header_hash, signatures):
    message = signed_bytes(
        "mote/certificate/1", genesis.chain_id, u64(genesis.incarnation), u64(height), header_hash
    )
    places = [place for place, _ in signatures]
    if len(signatures) < genesis.quorum or any(one >= other for one, other in zip(places, places[1:])):
        raise Refused("bad-certificate", f"expected {genesis.quorum} signatures, by place")
    for place, signature in signatures:
        if place >= len(genesis.consenter_keys) or not verifies(
            genesis.consenter_keys[place], signature, message
        ):
            raise Refused("bad-certificate", f"signature of consenter {place} does not verify")


def _root(key, value, proof):
    """The state root that follows from key, value and proof, which has one valid form."""
    depth, present, joined, other = proof
    siblings = [joined[at : at + 32] for at in range(0, len(joined), 32)]
    present_bits = int.from_bytes(present, "big")
    unused = 8 * len(present) - depth
    if len(present) != (depth + 7) // 8 or present_bits & ((1 << unused) - 1):
        raise Refused("bad-proof", "present: expected a bit for each level")
    if 32 * bin(present_bits).count("1") != len(joined) or NO_SIBLING in siblings:
        raise Refused("bad-proof", "siblings: expected one for each bit, none of them zero")
    if depth > 0 and not present_bits >> unused & 1:
        raise Refused("bad-proof", "the last sibling of a path is never empty")
    if value is not None:
        if other is not None:
            raise Refused("bad-proof", "other: expected none beside a value")
        node = hash_of("mote/state-leaf/1", key, hash_of("mote/state-value/1", value))
    elif other is not None:
        other_key, value_hash = other
        shared = 256 - depth
        if other_key == key or int.from_bytes(other_key, "big") >> shared != int.from_bytes(key, "big") >> shared:
            raise Refused("bad-proof", "other: expected another key with the same first bits")
        node = hash_of("mote/state-leaf/1", other_key, value_hash)
    else:
        node = NO_SIBLING
    for level in range(depth - 1, -1, -1):
        has_sibling = present_bits >> (8 * len(present) - 1 - level) & 1
        sibling = siblings.pop() if has_sibling else NO_SIBLING
        is_right = key[level // 8] >> (7 - level % 8) & 1
        pair = (sibling, node) if is_right else (node, sibling)
        node = hash_of("mote/state-branch/1", *pair)
    return node


# Records

_key_entry = fields(natural(2, 1), fields(key_fields, natural(), optional(natural()), optional(natural())))
_identity_record = fields(
    digest, natural(), natural(3, 1), natural(4, 1), natural(3), array(_key_entry, 8, 1),
    optional(fields(digest, digest)), optional(digest), optional(digest), optional(digest),
    natural(), optional(digest), natural(), natural(),
)  # fmt: skip
_group_record = fields(
    digest, text(32), digest, natural(), natural(), digest, natural(), natural(), optional(digest),
    optional(digest), natural(), optional(natural()), natural(),
    optional(fields(optional(digest), optional(digest))), natural(), natural(),
)  # fmt: skip
_consenter_set = fields(array(fields(digest, key_fields), 7, 1), natural(2, 1))
_parameters_record = fields(
    natural(), _consenter_set, optional(_consenter_set), array(fields(digest, key_fields), 16, 1), natural(),
    fields(*[natural()] * 7), natural(), natural(), natural(), array(natural(127), 127, 1), natural(),
    optional(fields(natural(), natural())),
)  # fmt: skip


def _record(record_type, check, value):
    _, _, record = fields(natural(record_type, record_type), version_1, check)(decode(value, 65_536))
    return record


class Device:
    """A device as the chain has it."""

    def __init__(self, value):
        record = _record(IDENTITY, _identity_record, value)
        self.id, self.status, self._entries = record[0], STATUS[record[3]], record[5]

    @property
    def is_active(self):
        return self.status == "active"

    def keys(self, purpose, time):
        """Its keys for a purpose that are valid at a time, oldest first."""
        return [
            key
            for of, (key, not_before, not_after, revoked_at) in self._entries
            if of == purpose
            and not_before <= time
            and (not_after is None or time < not_after)
            and (revoked_at is None or time < revoked_at)
        ]

    def signing_key(self, wanted_id, time):
        return next((key for key in self.keys(SIGN, time) if key_id(key) == wanted_id), None)

    def encryption_key(self, time):
        """The one to seal to: the newest that is valid. None if it has none."""
        valid = self.keys(ENCRYPT, time)
        return valid[-1] if valid else None


class Group:
    """A group or open topic as the chain has it, with all its members."""

    def __init__(self, value, members):
        record = _record(GROUP, _group_record, value)
        self.id, self.name, count, root = record[0], record[1], record[4], record[5]
        self.epoch, self.epoch_key_hash = record[7], record[8]
        self._grace_until, self._previous_grace_until, topic = record[11], record[12], record[13]
        self.members = ascending(members, "members")
        if len(members) != count or _merkle_root(members) != root:
            raise Refused("bad-proof", "members: expected the list that the record counts and hashes")
        self.is_topic = topic is not None
        self.publishers, public = topic or (None, None)
        self.topic_key = [X25519, public] if public else None

    def accepts(self, epoch, time):
        if epoch == 0:
            return False
        if epoch == self.epoch:
            return self._grace_until is None or time < self._grace_until
        return epoch == self.epoch - 1 and time < self._previous_grace_until


def allowed_suites(value):
    """Numbers of the envelope suites that the chain's parameters allow."""
    return _record(PARAMETERS, _parameters_record, value)[9]


def _merkle_root(leaves):
    """RFC 6962, section 2.1."""

    def root(hashes):
        if len(hashes) == 1:
            return hashes[0]
        split = 1 << (len(hashes) - 1).bit_length() - 1
        return hashlib.sha256(b"\x01" + root(hashes[:split]) + root(hashes[split:])).digest()

    if not leaves:
        return hashlib.sha256().digest()
    return root([hashlib.sha256(b"\x00" + leaf).digest() for leaf in leaves])
