# SPDX-License-Identifier: Apache-2.0
"""A second reader of sealed files, written after docs/seal-format.md alone, over libsodium by ctypes.

    sealed.py SEED-IN-HEX FILE      prints the fields and the value as JSON; exit 1 when it does not open
"""
import base64
import ctypes
import ctypes.util
import hashlib
import json
import sys

SODIUM = ctypes.CDLL(ctypes.util.find_library("sodium") or "libsodium.so.23")
LISTS = {4: "templates", 5: "sandboxes", 6: "hosts", 10: "recipients", 13: "methods", 14: "paths"}
ONES = {1: "created", 2: "name", 3: "delivery", 7: "expires", 8: "owner", 9: "signer", 11: "commitment", 12: "stream",
        15: "per_minute", 16: "body_max", 17: "answer_max", 18: "header", 19: "prefix"}


def blake(personal, key, data):
    return hashlib.blake2b(data, digest_size=32, key=key, person=personal.ljust(16, b"\0")).digest()


def number(b):
    return int.from_bytes(b, "little")


def undress(raw):
    if raw.startswith(b"BERTHSF"):
        return raw
    if raw.startswith(b"berth-sealed:"):
        text = raw[len(b"berth-sealed:"):]
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    lines = raw.split(b"\n")
    assert lines[0] == b"-----BEGIN BERTH SEALED FILE-----" and lines[-2:] == [b"-----END BERTH SEALED FILE-----", b""]
    return base64.b64decode(b"".join(lines[1:-2]), validate=True)


def pairs(seed):
    box_pub, box_key, sign_pub, sign_key = (ctypes.create_string_buffer(n) for n in (32, 32, 32, 64))
    SODIUM.crypto_box_seed_keypair(box_pub, box_key, blake(b"berth-key-box", seed, b""))
    SODIUM.crypto_sign_seed_keypair(sign_pub, sign_key, blake(b"berth-key-sign", seed, b""))
    return box_pub.raw, box_key.raw, sign_pub.raw


def read(raw, seed):
    """(fields, value); raises when anything is wrong."""
    raw = undress(raw)
    assert raw[7] in (1, 2), "version"
    end = 12 + number(raw[8:12])
    fields, at = {name: [] for name in LISTS.values()}, 12
    while at < end:
        tag, n = raw[at], number(raw[at + 1:at + 3])
        data = raw[at + 3:at + 3 + n]
        if tag in LISTS:
            fields[LISTS[tag]].append(data)
        else:
            assert ONES[tag] not in fields
            fields[ONES[tag]] = data
        at += 3 + n
    assert at == end
    needs = any(fields.get(ONES.get(tag) or LISTS[tag]) for tag in range(13, 20)) or b"*" in fields["hosts"]
    assert raw[7] == (2 if needs else 1), "version"
    box_pub, box_key, sign_pub = pairs(seed)
    mine = blake(b"berth-key-id", b"", box_pub + sign_pub)[:8]
    wrapped = next(r[8:] for r in fields["recipients"] if r[:8] == mine)
    file_key = ctypes.create_string_buffer(32)
    assert SODIUM.crypto_box_seal_open(file_key, wrapped, ctypes.c_ulonglong(80), box_pub, box_key) == 0
    assert blake(b"berth-seal-key", file_key.raw, b"") == fields["commitment"]
    body = raw[end:]
    if "signer" in fields:
        body, signature = body[:-64], body[-64:]
        state = ctypes.create_string_buffer(SODIUM.crypto_sign_statebytes())
        SODIUM.crypto_sign_init(state)
        for part in (b"berth sealed file 1\n", raw[:-64]):
            SODIUM.crypto_sign_update(state, part, ctypes.c_ulonglong(len(part)))
        assert SODIUM.crypto_sign_final_verify(state, signature, fields["signer"]) == 0
    ad, value = blake(b"berth-seal-head", b"", raw[:end]), b""
    state = ctypes.create_string_buffer(SODIUM.crypto_secretstream_xchacha20poly1305_statebytes())
    SODIUM.crypto_secretstream_xchacha20poly1305_init_pull(state, fields["stream"], blake(b"berth-seal-body", file_key.raw, b""))
    while body:
        part, body = body[:65553], body[65553:]
        plain, n, tag = ctypes.create_string_buffer(65536), ctypes.c_ulonglong(), ctypes.c_ubyte()
        assert SODIUM.crypto_secretstream_xchacha20poly1305_pull(
            state, plain, ctypes.byref(n), ctypes.byref(tag), part, ctypes.c_ulonglong(len(part)), ad,
            ctypes.c_ulonglong(len(ad))) == 0
        assert tag.value == (0 if body else 3)
        value += plain.raw[:n.value]
    return fields, value


if __name__ == "__main__":
    with open(sys.argv[2], "rb") as f:
        got, inside = read(f.read(), bytes.fromhex(sys.argv[1]))
    print(json.dumps({"name": got["name"].decode(), "created": number(got["created"]),
                      "expires": number(got.get("expires", b"")), "delivery": got["delivery"][0],
                      **{name: [h.decode() for h in got[name]] for name in ("hosts", "methods", "paths")},
                      **{name: number(got.get(name, b"")) for name in ("per_minute", "body_max", "answer_max")},
                      **{name: got.get(name, b"").decode() for name in ("header", "prefix")},
                      "recipients": [r[:8].hex() for r in got["recipients"]],
                      "value": base64.b64encode(inside).decode()}))
