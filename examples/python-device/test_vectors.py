"""This device against the vectors that another implementation made (test/vectors), and against bent bytes.

`python3 -m unittest discover examples/python-device` from the root of the repository.
"""

import json
import os
import unittest

from cryptography.hazmat.primitives.asymmetric import x25519

from chain import Genesis, state_key, verify_state_answer
from encoding import Refused, decode, encode, hash_of
from envelope import GROUP, Envelope, epoch_key_hash, open_box
from keys import SUITES, OwnKeys, device_id, key_id, verifies
from login import password
from sealing import hpke_open, hpke_seal, topic_key_pair

VECTORS = os.path.join(os.path.dirname(__file__), "..", "..", "test", "vectors")


def vectors(name):
    with open(os.path.join(VECTORS, f"{name}.json"), encoding="utf-8") as file:
        return json.load(file)


def unhex(text):
    return bytes.fromhex(text)


class Encoding(unittest.TestCase):
    def test_each_value_has_one_encoding(self):
        for value in (None, True, 0, 127, 128, 65_535, 2**32, 2**53 - 1, "ü" * 40, b"x" * 300, [1, [2]], ["a"] * 20):
            self.assertEqual(decode(encode(value)), value)
        for wrong in ("cc7f", "d30000000000000001", "cf0000000100000000", "ff", "c401", "80", "01ff", "a1ff", "d90161"):
            with self.assertRaises(Refused, msg=wrong):
                decode(unhex(wrong))


class Keys(unittest.TestCase):
    def test_signatures_are_the_strict_set(self):
        checked = 0
        for each in vectors("signatures")["vectors"]:
            key = [SUITES[each["suite"]], unhex(each["key"])]
            found = verifies(key, unhex(each["signature"]), unhex(each["message"]))
            self.assertEqual(found, each["valid"], each["name"])
            checked += 1
        self.assertGreater(checked, 50)

    def test_ids(self):
        sender = vectors("device")["sender"]
        key = [SUITES["ed25519"], unhex(sender["key"])]
        self.assertEqual(key_id(key).hex(), sender["keyId"])
        self.assertEqual(device_id(key).hex(), sender["id"])


class StateAnswers(unittest.TestCase):
    def setUp(self):
        header = vectors("header")
        self.genesis = genesis_of(header)
        self.assertEqual(self.genesis.signers_hash.hex(), header["signersHash"])
        self.key = unhex(header["stateAnswer"]["key"])
        self.encoded = unhex(header["stateAnswer"]["encoded"])

    def test_a_proven_answer_is_taken(self):
        answer = verify_state_answer(self.genesis, self.key, decode(self.encoded))
        self.assertIsNotNone(answer.value)

    def test_one_bit_changed_anywhere_is_refused(self):
        for at in range(len(self.encoded)):
            bent = bytearray(self.encoded)
            bent[at] ^= 1
            with self.assertRaises(Refused, msg=f"byte {at}"):
                verify_state_answer(self.genesis, self.key, decode(bytes(bent)))

    def test_another_key_is_refused(self):
        with self.assertRaises(Refused):
            verify_state_answer(self.genesis, state_key(1, bytes(32)), decode(self.encoded))

    def test_a_certificate_of_others_or_of_too_few_is_refused(self):
        height, time, rest, signatures, value, proof = decode(self.encoded)
        fewer = signatures[: self.genesis.quorum - 1]
        twice = [signatures[0], signatures[0]]
        swapped = [[place, other] for (place, _), (_, other) in zip(signatures, reversed(signatures))]
        for wrong in ([], fewer, twice, swapped):
            with self.assertRaises(Refused) as raised:
                verify_state_answer(self.genesis, self.key, [height, time, rest, wrong, value, proof])
            self.assertEqual(raised.exception.code, "bad-certificate")

    def test_the_genesis_file_has_its_id(self):
        genesis = vectors("governance")["genesis"]
        self.assertEqual(Genesis(genesis["file"]).chain_id.hex(), genesis["chainId"])
        with self.assertRaises(Refused):
            Genesis({**genesis["file"], "chainId": "00" * 32})


def genesis_of(header):
    """A trust in the consenters of the vector."""
    genesis = Genesis.__new__(Genesis)
    genesis.trust(*decode(unhex(header["consenterSet"])))
    genesis.chain_id = unhex(header["header"]["chainId"])
    genesis.incarnation = header["header"]["incarnation"]
    return genesis


class Envelopes(unittest.TestCase):
    def setUp(self):
        self.device = vectors("device")
        self.chain_id = unhex(self.device["chainId"])
        self.sender_key = [SUITES["ed25519"], unhex(self.device["sender"]["key"])]

    def test_hpke_is_that_of_the_rfc(self):
        known = next(each for each in self.device["hpke"] if each["suite"] == "x25519")
        info, aad, plaintext = (unhex(known[name]) for name in ("info", "aad", "plaintext"))
        ephemeral = x25519.X25519PrivateKey.from_private_bytes(unhex(known["ephemeralSecret"]))
        enc, ciphertext = hpke_seal(unhex(known["recipientKey"]), info, aad, plaintext, ephemeral)
        self.assertEqual((enc.hex(), ciphertext.hex()), (known["enc"], known["ciphertext"]))
        secret = x25519.X25519PrivateKey.from_private_bytes(unhex(known["recipientSecret"]))
        self.assertEqual(hpke_open(secret, info, aad, enc, ciphertext), plaintext)

    def test_what_this_device_can_read_it_reads(self):
        opened = 0
        for each in self.device["envelopes"]:
            try:
                envelope = Envelope(self.chain_id, unhex(each["encoded"]))
            except Refused as refused:
                self.assertEqual(refused.code, "suite-mismatch")
                continue
            self.assertEqual(envelope.message_id.hex(), each["messageId"])
            envelope.verify(self.sender_key)
            if "place" in each:
                with self.assertRaises(Refused):  # a chunk of a larger message
                    envelope.open_with_epoch_key(unhex(each["epochKey"]))
                continue
            if envelope.suite == GROUP:
                content = envelope.open_with_epoch_key(unhex(each["epochKey"]))
            else:
                secret = unhex(each["topicSecret" if each["to"]["type"] == "topic" else "recipientSecret"])
                content = envelope.open_with_key(x25519.X25519PrivateKey.from_private_bytes(secret))
            self.assertEqual(content.hex(), each["content"])
            opened += 1
        self.assertEqual(opened, 3)  # to a device, to a group, to an open topic

    def test_a_topic_has_the_key_pair_that_follows_from_its_epoch_key(self):
        each = next(each for each in self.device["envelopes"] if each["to"]["type"] == "topic")
        group, epoch, epoch_key = unhex(each["to"]["id"]), each["to"]["epoch"], unhex(each["epochKey"])
        private, public = topic_key_pair(self.chain_id, group, epoch, epoch_key)
        self.assertEqual(public[1].hex(), each["to"]["key"])
        self.assertEqual(key_id(public).hex(), each["to"]["keyId"])

    def test_a_member_opens_its_box_and_nobody_elses(self):
        boxes = self.device["boxes"]
        _, group, epoch, sealed = decode(unhex(boxes["encoded"]))
        member = next(each for each in boxes["members"] if each["suite"] == "x25519")
        keys = OwnKeys(unhex(member["id"]), bytes(32), unhex(member["secret"]))
        for box in sealed:
            wire = encode([1, group, epoch, box])
            if box[0] == keys.id:
                self.assertEqual(open_box(self.chain_id, wire, keys), (group, epoch, unhex(boxes["epochKey"])))
                continue
            with self.assertRaises(Refused):
                open_box(self.chain_id, wire, keys)

    def test_one_bit_changed_anywhere_is_refused(self):
        encoded = unhex(self.device["envelopes"][0]["encoded"])
        for at in range(len(encoded)):
            bent = bytearray(encoded)
            bent[at] ^= 1
            with self.assertRaises(Refused, msg=f"byte {at}"):
                Envelope(self.chain_id, bytes(bent)).verify(self.sender_key)

    def test_a_login_is_the_one_of_the_vector(self):
        sender, expected = self.device["sender"], self.device["assertion"]
        keys = OwnKeys(unhex(sender["id"]), unhex(sender["seed"]), bytes([7]) * 32)
        times = (expected["issuedAt"], expected["expiresAt"])
        self.assertEqual(password(self.chain_id, keys, *times, unhex(expected["nonce"])), expected["password"])

    def test_the_hash_of_an_epoch_key(self):
        boxes = self.device["boxes"]
        found = epoch_key_hash(self.chain_id, unhex(boxes["group"]), boxes["epoch"], unhex(boxes["epochKey"]))
        self.assertEqual(found.hex(), boxes["epochKeyHash"])
        self.assertEqual(hash_of("mote/boxes/1", unhex(boxes["encoded"])).hex(), boxes["boxesHash"])


if __name__ == "__main__":
    unittest.main()
