#!/usr/bin/env python3
"""A device that speaks to a motechain gateway, written against docs/FORMATS.md alone. See README.md beside this file."""

import argparse
import json
import queue
import sys
import time

from chain import Genesis
from encoding import Refused
from envelope import (
    TO_DEVICE,
    TO_GROUP,
    TO_TOPIC,
    Envelope,
    Sender,
    epoch_key_hash,
    open_box,
    topic_secret,
)
from gateway import TIMEOUT_S, Gateway, now_ms
from keys import X25519, OwnKeys, key_id
from state import State

ENVELOPE_LIFETIME_MS = 60_000


class PythonDevice:
    def __init__(self, options):
        self.genesis = Genesis.read(options.genesis)
        self.keys = OwnKeys.read(options.keys)
        self.state = State(options.state)
        host, _, port = options.gateway.rpartition(":")
        self.gateway = Gateway((host, int(port)), self.genesis, self.keys, options.max_age * 1000)
        self.sender = Sender(self.genesis.chain_id, self.keys, lambda: self.state.next_counter(now_ms()))
        self.epoch_keys = {}

    # Sending

    def recipient(self, identity):
        device = self.gateway.device(identity)
        if device is None or not device.is_active:
            raise Refused("recipient-not-active", device.status if device else "not on the chain")
        key = device.encryption_key(now_ms())
        if key is None or key[0] != X25519:
            raise Refused("suite-mismatch", "this device seals to X25519 keys only")
        return key

    def send_to_device(self, identity, text):
        key = self.recipient(identity)
        self.state.copy_of(identity, key_id(key))
        target = [TO_DEVICE, [identity, key_id(key)]]
        return self.relay(self.sender.to_key(target, key, text, *self.when()))

    def send_to_group(self, identity, text):
        group = self.known_group(identity)
        if self.keys.id not in group.members:
            raise Refused("not-member", "this device is not in the group")
        self.gateway.subscribe_boxes()
        return self.relay(self.sender.to_group(group, self.epoch_key(group), text, *self.when()))

    def publish(self, identity, text):
        topic = self.known_group(identity)
        if topic.topic_key is None or not topic.accepts(topic.epoch, now_ms()):
            raise Refused("epoch-mismatch", "the topic has no key now: a member has to make one")
        key = topic.topic_key
        target = [TO_TOPIC, [identity, topic.epoch, key_id(key)]]
        return self.relay(self.sender.to_key(target, key, text, *self.when()))

    def when(self):
        return self.gateway.height, now_ms() + ENVELOPE_LIFETIME_MS

    def relay(self, sealed):
        return self.gateway.send(*sealed)

    def known_group(self, identity):
        group = self.gateway.group(identity)
        if group is None:
            raise Refused("unknown-subject", "no such group on the chain")
        return group

    # Keys of groups

    def epoch_key(self, group):
        """The key of the group's current epoch, out of this device's box. It waits for a box that is on its way."""
        deadline = time.monotonic() + TIMEOUT_S
        while (group.id, group.epoch) not in self.epoch_keys:
            try:
                topic, content = self.gateway.deliveries(max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise Refused("cannot-open", f"no box for epoch {group.epoch} of the group") from None
            if topic.startswith("mote/1/box/"):
                self.take_box(content)
        return self.epoch_keys[group.id, group.epoch]

    def take_box(self, content):
        """Believed if it opens to the key whose hash is on the chain. An empty box: this device has left the group."""
        if not content:
            return
        identity, epoch, epoch_key = open_box(self.genesis.chain_id, content, self.keys)
        group = self.known_group(identity)
        if epoch != group.epoch:
            raise Refused("epoch-mismatch", f"box of epoch {epoch}, the group has {group.epoch}")
        if epoch_key_hash(self.genesis.chain_id, identity, epoch, epoch_key) != group.epoch_key_hash:
            raise Refused("bad-proof", "box: its key is not the one whose hash is on the chain")
        self.epoch_keys[identity, epoch] = epoch_key

    # Receiving

    def receive(self, wire):
        """What FORMATS says a recipient checks, in its order. Returns what to print; raises `Refused`."""
        envelope = Envelope(self.genesis.chain_id, wire)
        try:
            return self.believe(envelope)
        finally:
            if envelope.keep_until:
                self.gateway.acknowledge(envelope.message_id)

    def believe(self, envelope):
        sender = self.gateway.device(envelope.sender)
        if sender is None or not sender.is_active:
            raise Refused("signer-not-active", sender.status if sender else "not on the chain")
        key = sender.signing_key(envelope.sender_key, now_ms())
        if key is None:
            raise Refused("key-not-valid", "no valid signing key of the sender")
        envelope.verify(key)
        if envelope.suite not in self.gateway.suites():
            raise Refused("suite-not-allowed", f"suite {envelope.suite}")
        if now_ms() >= envelope.good_until:
            raise Refused("envelope-expired", "past its expiry")
        content = self.open(envelope)
        self.state.accept(envelope.sender_key, envelope.counter)
        to = {TO_DEVICE: "device", TO_GROUP: "group", TO_TOPIC: "topic"}[envelope.target_type]
        return {
            "from": envelope.sender.hex(),
            to: envelope.target[0].hex(),
            "channel": envelope.channel,
            "text": content.decode("utf-8", "replace"),
        }

    def open(self, envelope):
        if envelope.target_type == TO_DEVICE:
            if envelope.target != [self.keys.id, key_id(self.keys.encryption_key)]:
                raise Refused("cannot-open", "sealed to another device or key")
            return envelope.open_with_key(self.keys.secret)
        group = self.known_group(envelope.target[0])
        self.check_writer(envelope, group)
        _, epoch, key_or_hash = envelope.target
        if epoch != group.epoch or not group.accepts(epoch, now_ms()):
            raise Refused("epoch-mismatch", f"epoch {epoch}, the chain has {group.epoch}")
        expected = key_id(group.topic_key) if group.is_topic else group.epoch_key_hash
        if key_or_hash != expected:
            raise Refused("recipient-key-mismatch", "another key than the one of the epoch on the chain")
        epoch_key = self.epoch_key(group)
        if group.is_topic:
            return envelope.open_with_key(topic_secret(self.genesis.chain_id, group, epoch_key))
        return envelope.open_with_epoch_key(epoch_key)

    def check_writer(self, envelope, group):
        if (envelope.target_type == TO_TOPIC) != group.is_topic:
            raise Refused("suite-mismatch", "a topic's message to a group, or the other way round")
        if self.keys.id not in group.members:
            raise Refused("not-member", "this device is not in the group")
        writers = self.known_group(group.publishers) if group.publishers else group
        is_open = group.is_topic and group.publishers is None
        if not is_open and envelope.sender not in writers.members:
            raise Refused("not-member", "the sender may not write to the group")

    def listen(self, count):
        """Prints each message as a line of JSON, and each refusal on standard error."""
        self.gateway.subscribe_deliveries()
        say({"listening": self.keys.id.hex()})
        while count is None or count > 0:
            topic, content = self.gateway.deliveries()
            try:
                if topic.startswith("mote/1/box/"):
                    self.take_box(content)
                    continue
                say(self.receive(content))
                count = None if count is None else count - 1
            except Refused as refused:
                if refused.code in ("unreachable", "timeout"):
                    raise
                print(refused, file=sys.stderr, flush=True)


def say(content):
    print(json.dumps(content), flush=True)


def identity(text):
    if len(text) != 64:
        raise argparse.ArgumentTypeError("expected an id: 64 hexadecimal characters")
    return bytes.fromhex(text)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--genesis", required=True, help="the genesis file: where trust begins")
    parser.add_argument("--keys", required=True, help="this device's key file")
    parser.add_argument("--state", required=True, help="where this device remembers counters and copies of keys")
    parser.add_argument("--gateway", required=True, metavar="HOST:PORT")
    parser.add_argument("--max-age", type=int, default=180, metavar="SECONDS", help="of what the chain says")
    commands = parser.add_subparsers(dest="command", required=True)
    key = commands.add_parser("key", help="a device's key, as this device has proven it")
    key.add_argument("identity", type=identity)
    for name, what in (("send", "to a device"), ("group", "to a group"), ("publish", "to an open topic")):
        command = commands.add_parser(name, help=what)
        command.add_argument("identity", type=identity)
        command.add_argument("text")
    listen = commands.add_parser("listen", help="prints what arrives")
    listen.add_argument("--count", type=int, help="ends after so many messages")
    return parser.parse_args()


def run(options):
    device = PythonDevice(options)
    try:
        if options.command == "key":
            say({"keyId": key_id(device.recipient(options.identity)).hex(), "height": device.gateway.height})
            return 0
        if options.command == "listen":
            device.listen(options.count)
            return 0
        send = {"send": device.send_to_device, "group": device.send_to_group, "publish": device.publish}
        verdict = send[options.command](options.identity, options.text.encode("utf-8"))
        say(verdict)
        return 0 if verdict["verdict"] == "Check" else 5
    finally:
        device.gateway.close()


def main():
    try:
        return run(parse_arguments())
    except Refused as refused:
        print(refused, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
