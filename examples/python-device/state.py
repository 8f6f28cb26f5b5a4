"""What a device must not forget, in one JSON file: counters that it has used and accepted, and its copies of keys."""

import json
import os

from encoding import Refused

WINDOW = 1024


class State:
    def __init__(self, path):
        self._path = path
        self._content = {"counter": 0, "contacts": {}, "accepted": {}}
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                self._content = json.load(file)

    def next_counter(self, now):
        """Used once per signing key, ever; gaps are legal, so a device that lost this file goes on by its clock."""
        self._content["counter"] = max(self._content["counter"] + 1, now)
        self._save()
        return self._content["counter"]

    def accept(self, key, counter):
        """Remembers a counter of a sender's key before the message is given out. Raises `Refused` (replayed)."""
        accepted = self._content["accepted"].setdefault(key.hex(), [])
        highest = max(accepted, default=0)
        if counter in accepted or counter <= highest - WINDOW:
            raise Refused("replayed", f"counter {counter} was accepted already, or is too old to tell")
        accepted.append(counter)
        self._content["accepted"][key.hex()] = [each for each in accepted if each > max(accepted) - WINDOW]
        self._save()

    def copy_of(self, target, key_on_chain):
        """This device's copy of a key, kept at first contact. Raises `Refused` if it is not the chain's: nothing is mended unasked."""
        copy = self._content["contacts"].setdefault(target.hex(), key_on_chain.hex())
        self._save()
        if copy != key_on_chain.hex():
            raise Refused("recipient-key-mismatch", f"the copy is {copy}, on the chain is {key_on_chain.hex()}")

    def _save(self):
        partial = self._path + ".new"
        with open(partial, "w", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            json.dump(self._content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, self._path)
