"""The connection to the gateway: log-in, questions with this device's own check of the answers, verdicts, deliveries.

docs/FORMATS.md, "MQTT topics". paho runs its own thread; what arrives waits in queues, and everything else happens in the
caller's thread.
"""

import json
import os
import queue
import time

import paho.mqtt.client as mqtt

from chain import GROUP, IDENTITY, PARAMETERS, Device, Group, allowed_suites, state_key, verify_state_answer
from encoding import Refused, array, decode, digest, encode, fields, octets, version_1
from login import password

TIMEOUT_S = 10
_answer = fields(version_1, octets(16), octets(1, 131_072))
_group_answer = fields(lambda answer: answer, array(digest, 1024))
_ASK_DEVICE, _ASK_GROUP, _ASK_CHAIN = 1, 2, 3


def now_ms():
    return int(time.time() * 1000)


class Gateway:
    def __init__(self, address, genesis, own_keys, most_age_ms):
        self.genesis, self._keys, self._most_age_ms = genesis, own_keys, most_age_ms
        self.height = 0
        self._me = own_keys.id.hex()
        self._events = queue.Queue()
        self._waiting = []
        self._client = mqtt.Client(client_id=self._me, clean_session=True, protocol=mqtt.MQTTv311)
        self._client.username_pw_set(self._me, password(genesis.chain_id, own_keys, now_ms()))
        self._client.on_connect = lambda _client, _data, _flags, code: self._put("connected", code)
        self._client.on_subscribe = lambda _client, _data, _id, codes: self._put("subscribed", codes)
        self._client.on_message = lambda _client, _data, message: self._put(message.topic, message.payload)
        self._client.on_disconnect = lambda _client, _data, code: self._put("closed", code)
        host, port = address
        self._client.connect(host, port, keepalive=60)
        self._client.loop_start()
        code = self._wait_for("connected", lambda _content: True)
        if code != 0:
            raise Refused("not-authorised" if code in (4, 5) else "not-ready", f"CONNACK {code}")
        self._subscribe("answer", "error", "verdict")

    def close(self):
        self._client.disconnect()
        self._client.loop_stop()

    def subscribe_deliveries(self):
        """Boxes first, which are retained: the key is there before the message."""
        self.subscribe_boxes()
        self._subscribe_filters(f"mote/1/to/{self._me}/#")

    def subscribe_boxes(self):
        self._subscribe_filters(f"mote/1/box/+/{self._me}")

    # Questions

    def device(self, identity):
        """A device as certified state has it now, or None. Raises `Refused`."""
        answer = self._proven(_ASK_DEVICE, [identity], state_key(IDENTITY, identity))
        return None if answer.value is None else Device(answer.value)

    def group(self, identity):
        """A group or open topic, with all its members, or None."""
        body = self._ask(_ASK_GROUP, [identity])
        state_answer, members = _group_answer(decode(body))
        answer = self._believed(state_key(GROUP, identity), state_answer)
        return None if answer.value is None else Group(answer.value, members)

    def suites(self):
        """Numbers of the envelope suites that the chain allows."""
        return allowed_suites(self._proven(_ASK_CHAIN, [], state_key(PARAMETERS)).value)

    def _proven(self, kind, subject, key):
        return self._believed(key, decode(self._ask(kind, subject)))

    def _believed(self, key, answer):
        proven = verify_state_answer(self.genesis, key, answer)
        if now_ms() - proven.time > self._most_age_ms:
            raise Refused("stale", f"the answer is {now_ms() - proven.time} ms old")
        self.height = max(self.height, proven.height)
        return proven

    def _ask(self, kind, subject):
        nonce = os.urandom(16)
        self._publish(f"mote/1/ask/{self._me}", encode([1, nonce, [kind, subject]]))
        topic = f"mote/1/answer/{self._me}"

        def is_mine(content):
            return _answer(decode(content))[1] == nonce

        return _answer(decode(self._wait_for(topic, is_mine, nonce.hex())))[2]

    # Messages

    def send(self, message_id, wire):
        """The gateway's verdict on an envelope: a dictionary (`verdict`, `code`, `reason`, ...)."""
        self._publish(f"mote/1/send/{self._me}", wire)

        def is_mine(content):
            return json.loads(content)["messageId"] == message_id.hex()

        return json.loads(self._wait_for(f"mote/1/verdict/{self._me}", is_mine))

    def acknowledge(self, message_id):
        self._publish(f"mote/1/got/{self._me}", encode([1, message_id]))

    def deliveries(self, timeout_s=None):
        """The next box or message: topic and bytes. Raises queue.Empty."""
        for at, (name, content) in enumerate(self._waiting):
            if _is_delivery(name):
                del self._waiting[at]
                return name, content
        while True:
            name, content = self._next(timeout_s)
            if _is_delivery(name):
                return name, content

    # Below

    def _subscribe(self, *names):
        for name in names:
            self._subscribe_filters(f"mote/1/{name}/{self._me}")

    def _subscribe_filters(self, topic_filter):
        self._client.subscribe(topic_filter, qos=1)
        codes = self._wait_for("subscribed", lambda _content: True)
        if 0x80 in codes:
            raise Refused("topic-not-allowed", topic_filter)

    def _publish(self, topic, payload):
        self._client.publish(topic, payload, qos=1)

    def _put(self, name, content):
        self._events.put((name, content))

    def _next(self, timeout_s):
        name, content = self._events.get(timeout=timeout_s)
        if name == "closed":
            raise Refused("unreachable", "the gateway has closed the connection")
        return name, content

    def _wait_for(self, wanted, is_mine, nonce=None):
        """The content of the next event of that name that is mine; boxes and messages wait for `deliveries` meanwhile."""
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            try:
                name, content = self._next(max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise Refused("timeout", f"nothing on {wanted} in {TIMEOUT_S} s") from None
            if name == wanted and is_mine(content):
                return content
            if name == f"mote/1/error/{self._me}" and nonce is not None:
                error = json.loads(content)
                if error["messageId"] == nonce:
                    raise Refused(error["code"], error["reason"])
            if _is_delivery(name):
                self._waiting.append((name, content))


def _is_delivery(name):
    return name.startswith(("mote/1/to/", "mote/1/box/"))
