#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the golden files: frames made with nothing but docs/WIRE.md and struct.

    golden.py [FOLDER]   (default: golden/ beside this file)

They are checked in. Change them only with the wire version, or to add some.
"""
import pathlib
import struct
import sys

HELLO, WELCOME, BYE, MESSAGE, FETCH, DATA, ACK, CREDIT, CANCEL, PING, PONG, RELEASE = range(1, 13)
WANTS_ACK, WANTS_REPLY = 1, 2
WAY, RMA, SENTENCE = 1, 2, 3
CRITICAL = 1
FORTRAN, OFFERED, GIVEN = 1, 2, 4
U8, F16, F32, I64, OTHER = 6, 10, 12, 5, 16
GIB = 1 << 30


def pad(data):
    return data + bytes(-len(data) % 8)


def record(kind, data, flags=0):
    return struct.pack("<HHI", kind, flags, len(data)) + pad(data)


def frame(kind, body, payload_bytes=0, flags=0):
    return struct.pack("<BBHIQ", kind, flags, 0, len(body), payload_bytes) + body


def array(key, dtype, itemsize, shape=(), flags=0, description="", records=b""):
    nbytes = itemsize
    for extent in shape:
        nbytes *= extent
    key, description = key.encode(), description.encode()
    entry = struct.pack("<BBBBIQHHI", dtype, len(shape), flags, len(key), itemsize, nbytes,
                        len(description), 0, len(records))
    entry += struct.pack(f"<{len(shape)}Q", *shape) + pad(key + description) + records
    return entry, 0 if flags & OFFERED else nbytes


def message(seq, arrays, reply_to=0, flags=0, records=b""):
    entries = b"".join(entry for entry, _ in arrays)
    body = struct.pack("<QQII", seq, reply_to, len(arrays), len(entries)) + entries + records
    return frame(MESSAGE, body, sum(inline for _, inline in arrays), flags)


def hello(kind, nonce, pid, message_max, messages, prepaid, heartbeat_ns, records=b"", version=1):
    return frame(kind, b"HAUL" + struct.pack("<HHQQQQQQ", version, 0, nonce, pid, message_max,
                                             messages, prepaid, heartbeat_ns) + records)


def rma(name, address, probe):
    return record(RMA, struct.pack("<BBH", len(name), len(probe), len(address)) + name + probe
                  + address)


FOO = array("foo", U8, 1, (1024, 64, 64, 3))
BAR = array("bar", F32, 4, (1024, 1024))
BAZ = array("baz", F32, 4, (1024,))

FRAMES = {
    "hello": hello(HELLO, 0x0123456789ABCDEF, 4711, 6 * GIB, 64, 32 << 20, 20 * 10**9),
    "hello_rma": hello(HELLO, 0xFFFFFFFFFFFFFFFF, 1, 0, 0, 0, 0,
                       rma(b"ofi:verbs", bytes(range(32)), b"\xaa" * 17)
                       + rma(b"shm", b"", b"probe")),
    "hello_unknown_record": hello(HELLO, 7, 8, 9, 10, 11, 12, record(0x7001, b"from the future")),
    "hello_version_2": frame(HELLO, b"HAUL" + struct.pack("<HH", 2, 0xFFFF) + b"whatever"),
    "welcome": hello(WELCOME, 42, 4712, GIB, 16, 1 << 20, 10**9,
                     record(SENTENCE, "shm: another host; ofi: no such plugin – see docs".encode())),
    "welcome_rma": hello(WELCOME, 43, 4713, GIB, 16, 1 << 20, 10**9,
                         rma(b"loop", b"address", b"way")),
    "bye": frame(BYE, struct.pack("<iI", -63, 0) + record(SENTENCE, b"the server was closed")),
    "message_empty": message(1, [], flags=WANTS_ACK),
    "message_frames": message(2, [FOO, BAR, BAZ], flags=WANTS_REPLY),
    "message_plain": message(0, [array("x", F32, 4, (16,))]),
    "message_reply": message(3, [array("done", U8, 1)], reply_to=2),
    "message_offered": message(0x0102030405060708, [
        array("foo", U8, 1, (1024, 64, 64, 3), OFFERED | GIVEN, records=record(WAY, bytes(range(128)))),
        array("bar", F32, 4, (1024, 1024), OFFERED),
        array("baz", F32, 4, (1024,)),
    ], flags=WANTS_ACK),
    "message_kinds": message(9, [
        array("scalar", I64, 8),
        array("empty", F16, 2, (0, 3)),
        array("Fortran", F32, 4, (2, 3), FORTRAN),
        array("Größe/größte [µm]", OTHER, 8, (5,), description="<M8[ns]"),
        array("k" * 255, OTHER, 12, (2,),
              description="[('a', '<f4'), ('b', '<i8')]"),
        array("axes", U8, 1, (1,) * 32),
        array("huge", U8, 1, (2**62, 0, 1)),
    ], flags=WANTS_ACK),
    "message_unknown_records": message(10, [
        array("a", U8, 1, (2,), records=record(0x7001, b"ignored") + record(0x7002, b"")),
    ], records=record(0x7003, bytes(9))),
    "fetch": frame(FETCH, struct.pack("<QQIIQ", 5, 1 << 33, 3, 0, 1 << 20)),
    "data": frame(DATA, struct.pack("<QQII", 5, 1 << 33, 3, 0), payload_bytes=1 << 20),
    "ack": frame(ACK, struct.pack("<QiI", 5, 0, 0)),
    "ack_refused": frame(ACK, struct.pack("<QiI", 6, -20, 0)
                         + record(SENTENCE, b"bar: expected f32[1024,1024], got f64[1024,1024]")),
    "credit": frame(CREDIT, struct.pack("<QQ", 1000, 1 << 40)),
    "cancel": frame(CANCEL, struct.pack("<Q", 7)),
    "ping": frame(PING, struct.pack("<Q", 8)),
    "pong": frame(PONG, struct.pack("<Q", 2**64 - 1)),
    "release": frame(RELEASE, struct.pack("<Q", 9)),
}


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "golden")
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in FRAMES.items():
        (folder / f"{name}.bin").write_bytes(data)


if __name__ == "__main__":
    main()
