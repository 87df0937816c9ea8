#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes spdy-vectors.h: what an independent SPDY/3.1 client (tests/support/spdy.py) sends, byte by byte."""

import struct
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from support import spdy  # noqa: E402


def stream_type(name, **more):
    return [("streamtype", name)] + list(more.items())


def sequence(*streams):
    """SYN_STREAM frames of one session."""
    z = spdy.Compressor()
    return [z.syn_stream(1 + 2 * i, headers) for i, headers in enumerate(streams)]


def one(block):
    return [spdy.Compressor().syn_stream(1, None, block=block)]


def main():
    name_of_4g = struct.pack(">II", 1, 0xfffffff0) + b"x" * 16
    vectors = {
        "command": sequence(*[stream_type(t) for t in ("error", "stdin", "stdout", "stderr", "resize")]),
        "forward": sequence(*[stream_type(t, port="8080", requestid=str(n)) for n in (0, 1) for t in ("error", "data")]),
        "forward_unnamed": sequence(*[stream_type(t, port="80") for t in ("error", "data")]),
        "forward_bad": sequence(stream_type("data", port="65536", requestid="0"), stream_type("data", requestid="0"),
                                stream_type("stdin", port="1", requestid="0")),
        "no_headers": one(spdy.plain_block([])),
        "upper_case": one(spdy.plain_block([("streamType", "error")])),
        "duplicate": one(spdy.plain_block([("a", "1"), ("a", "2")])),
        "empty_name": one(spdy.plain_block([("", "1")])),
        "values": one(spdy.plain_block([("streamtype", b"error\0data")])),
        "count_2g": one(struct.pack(">I", 0x80000000) + b"\0" * 64),
        "count_101": one(spdy.plain_block([(f"h{n}", "") for n in range(101)])),
        "count_100": one(spdy.plain_block([(f"h{n}", "") for n in range(100)])),
        "name_of_4g": one(name_of_4g),
        "trailing": one(spdy.plain_block([("a", "1")]) + b"x"),
        "bomb": one(b"\0" * (8 << 20)),
    }
    out = ["/* SPDX-License-Identifier: Apache-2.0 */", "", "/* Made by make-spdy-vectors.py: do not edit. */", "/* clang-format off */", ""]
    for name, frames in vectors.items():
        out += [f"#define N_{name.upper()} {len(frames)}",
                f"static const struct SpdyVector vector_{name}[] __attribute__((unused)) = {{"]
        for frame in frames:
            out.append(f"        {{ {len(frame)},")
            text = [f"\\x{byte:02x}" for byte in frame]
            for at in range(0, len(text), 20):
                out.append(f'          "{"".join(text[at:at + 20])}"')
            out[-1] += " },"
        out += ["};", ""]
    out[4:4] = ["", "struct SpdyVector {", "        size_t len;", "        const char *bytes;", "};"]
    Path(__file__).with_name("spdy-vectors.h").write_text("\n".join(out[:-1]) + "\n")


if __name__ == "__main__":
    main()
