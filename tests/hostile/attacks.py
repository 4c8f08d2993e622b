# SPDX-License-Identifier: Apache-2.0
"""What strangers and broken or hostile peers send. Made with docs/WIRE.md's encoder in tests/wire."""
import pathlib
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "wire"))
# pylint: disable=wrong-import-position
from golden import (ACK, BYE, CANCEL, CREDIT, DATA, FETCH, HELLO, MESSAGE, OFFERED, PING, U8, WANTS_ACK,
                    WANTS_REPLY, WELCOME, array, frame, hello, message, pad, record)

GREETING = hello(HELLO, 7, 8, 1 << 30, 16, 1 << 20, 0)
PROTOCOL, VERSION, TOO_LARGE = -43, -42, -21


def entry(key=b"k", nbytes=8, shape=(8,), itemsize=1, dtype=U8, ndim=None, flags=0, description=0,
          records=0, key_bytes=None, zero=0):
    """An array's entry with any lie in it."""
    fixed = struct.pack("<BBBBIQHHI", dtype, len(shape) if ndim is None else ndim, flags,
                        len(key) if key_bytes is None else key_bytes, itemsize, nbytes, description,
                        zero, records)
    return fixed + struct.pack(f"<{len(shape)}Q", *shape) + pad(key)


def manifest(*entries, payload=0, count=None, entry_bytes=None, seq=1, reply_to=0, flags=WANTS_ACK,
             records=b""):
    """A MESSAGE with any lie in it."""
    together = b"".join(entries)
    body = struct.pack("<QQII", seq, reply_to, len(entries) if count is None else count,
                       len(together) if entry_bytes is None else entry_bytes)
    return frame(MESSAGE, body + together + records, payload, flags)


def control(kind, *numbers, form="<Q"):
    return frame(kind, struct.pack(form, *numbers))


X = array("x", U8, 1, (8,))
LARGE = 1 << 63

# Before the greeting: what it is -> the bytes. All are cut.
STRANGERS = {
    "an HTTP request": b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: none\r\n\r\n",
    "TLS": bytes.fromhex("16030100c8010000c40303") + bytes(range(64)),
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "a ZeroMQ peer": b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(50),
    "zeros": bytes(64),
    "ones": b"\xff" * 64,
    "a message before the greeting": message(1, [X], flags=WANTS_ACK) + bytes(8),
    "a greeting of 4 GiB": struct.pack("<BBHIQ", HELLO, 0, 0, 0xFFFFFFF8, 0) + bytes(64),
    "a greeting with payload": struct.pack("<BBHIQ", HELLO, 0, 0, 56, LARGE) + GREETING[16:],
    "a greeting without its magic": GREETING[:16] + b"HOWL" + GREETING[20:],
    "a welcome from a client": hello(WELCOME, 7, 8, 1 << 30, 16, 1 << 20, 0),
    "a greeting cut short": frame(HELLO, GREETING[16:40]),
}

# After the greeting: what it is -> the frames. All are answered with BYE, HAUL_PROTOCOL, and cut.
BROKEN = {
    "a second greeting": GREETING,
    "a frame of no type": frame(99, bytes(8)),
    "a body of 4 GiB": struct.pack("<BBHIQ", MESSAGE, WANTS_ACK, 0, 0xFFFFFFF8, 0) + bytes(64),
    "a body not of whole words": struct.pack("<BBHIQ", MESSAGE, WANTS_ACK, 0, 25, 0) + bytes(25),
    "a payload on a PING": struct.pack("<BBHIQ", PING, 0, 0, 8, 8) + bytes(16),
    "no body": frame(MESSAGE, b"", flags=WANTS_ACK),
    "unknown flags": message(1, [X], flags=0x80) + bytes(8),
    "both flags": message(1, [X], flags=WANTS_ACK | WANTS_REPLY) + bytes(8),
    "a shape that overflows": manifest(entry(shape=(1 << 40, 1 << 40), nbytes=0)),
    "a shape that overflows to the size it says": manifest(
        entry(shape=(1 << 32, 1 << 32, 8), nbytes=8), payload=8) + bytes(8),
    "a shape of 2^63": manifest(entry(shape=(LARGE,), nbytes=LARGE, flags=OFFERED)),
    "extents of 2^63 beside a zero": manifest(entry(shape=(0, LARGE, 2), nbytes=0)),
    "wrong nbytes": manifest(entry(shape=(8,), nbytes=9), payload=9) + bytes(9),
    "nbytes of 2^64 - 1": manifest(entry(shape=(8,), nbytes=(1 << 64) - 1), payload=8) + bytes(8),
    "duplicate keys": message(1, [X, X], flags=WANTS_ACK) + bytes(16),
    "2^32 - 1 arrays": manifest(count=0xFFFFFFFF),
    "more arrays than there are": manifest(entry(), count=2, payload=8) + bytes(8),
    "fewer arrays than there are": manifest(entry(), entry(b"l"), count=1, payload=8) + bytes(8),
    "entries beyond the body": manifest(entry(), entry_bytes=1 << 20, payload=8) + bytes(8),
    "an empty key": manifest(entry(b"", key_bytes=0), payload=8) + bytes(8),
    "a key beyond the body": manifest(entry(b"k", key_bytes=255), payload=8) + bytes(8),
    "a key that is no UTF-8": manifest(entry(b"\xc3\x28"), payload=8) + bytes(8),
    "a key with a zero byte": manifest(entry(b"a\0b"), payload=8) + bytes(8),
    "255 axes": manifest(entry(ndim=255), payload=8) + bytes(8),
    "no dtype": manifest(entry(dtype=0), payload=8) + bytes(8),
    "dtype 17": manifest(entry(dtype=17), payload=8) + bytes(8),
    "a wrong itemsize": manifest(entry(itemsize=3, shape=(1,), nbytes=3), payload=3) + bytes(3),
    "an itemsize of 0": manifest(entry(itemsize=0, nbytes=0)),
    "a description that is not there": manifest(
        entry(dtype=16, description=4096), payload=8) + bytes(8),
    "records beyond the body": manifest(entry(records=0xFFFFFFF8), payload=8) + bytes(8),
    "an unknown critical record": manifest(
        entry(), payload=8, records=record(0x7001, b"?", flags=1)) + bytes(8),
    "a record beyond the body": manifest(
        entry(), payload=8, records=struct.pack("<HHI", 0x7001, 0, 0xFFFFFFFF)) + bytes(8),
    "less payload than arrays": manifest(entry(), payload=7) + bytes(7),
    "more payload than arrays": manifest(entry(), payload=LARGE) + bytes(64),
    "a payload beyond the credit": manifest(
        entry(shape=(1 << 40,), nbytes=1 << 40), payload=1 << 40) + bytes(64),
    "more messages than the credit": b"".join(
        message(seq, [], flags=WANTS_REPLY) for seq in range(1, 3000)),
    "a message of number 0": message(0, [X], flags=WANTS_ACK) + bytes(8),
    "a number twice": (message(1, [X], flags=WANTS_ACK) + bytes(8)) * 2,
    "a fetch of nothing": control(FETCH, 1, 0, 1, 0, 0, form="<QQIIQ"),
    "a cut control frame": frame(ACK, bytes(8)),
    "an ACK with a sentence beyond it": frame(
        ACK, struct.pack("<QiI", 1, -5, 0) + struct.pack("<HHI", 3, 0, 500)),
}

# After the greeting, and allowed: nothing of it may do harm.
HARMLESS = {
    "answers to nothing": b"".join([
        control(ACK, 5, 0, 0, form="<QiI"), control(CANCEL, 5), control(CREDIT, LARGE, LARGE, form="<QQ"),
        control(FETCH, 5, 0, 1, 0, 1, form="<QQIIQ"), control(PING, 5)]),
    "credits taken back": control(CREDIT, 0, 0, form="<QQ"),
    "data of nothing": frame(DATA, struct.pack("<QQII", 5, 0, 1, 0), 8) + bytes(8),
    "a reply to nothing": message(1, [X], reply_to=77, flags=WANTS_ACK) + bytes(8),
    "an error of 2^31 - 1": control(ACK, 5, (1 << 31) - 1, 0, form="<QiI"),
    "goodbye": control(BYE, 0, 0, form="<iI"),
}
