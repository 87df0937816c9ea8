# SPDX-License-Identifier: Apache-2.0
"""The image that is pulled, made from bytes of this machine's own files, and the pipeline that it is compared with."""

import hashlib
import json
import os
import random
import shutil
import subprocess
import tarfile
import threading
import time
from pathlib import Path

from support import images, scratch

FILES, UNPACKED, LAYERS = 11000, 800 << 20, 2
POOL, SOURCES = 96 << 20, ("/usr/lib/x86_64-linux-gnu", "/usr/bin", "/usr/lib/python3", "/usr/include", "/usr/share")
PACKED = (".gz", ".xz", ".zst", ".png", ".jpg", ".woff2", ".mo")
VERSION = 2
PAUSE = """#include <signal.h>
#include <unistd.h>
static void end(int s) { _exit(0); }
int main(void) { signal(SIGTERM, end); signal(SIGINT, end); for (;;) pause(); }
"""


def pause_image():
    """One static program which sleeps and ends at once on SIGTERM."""
    directory = scratch.make("pause")
    try:
        (directory / "pause.c").write_text(PAUSE)
        compiler = shutil.which("musl-gcc") or "cc"
        subprocess.run([compiler, "-static", "-Os", "-s", "-o", directory / "pause", directory / "pause.c"], check=True)
        return images.Image([images.Layer().host_file("pause", directory / "pause", mode=0o755)], entrypoint=["/pause"])
    finally:
        scratch.remove(directory)


def big_image(cache):
    """About 200 MB in 2 gzip layers, 800 MB and 11,000 files unpacked; kept in `cache`, as making it takes a minute."""
    directory = Path(cache) / f"bench-image-{VERSION}"
    if not (directory / "layers.json").exists():
        directory.mkdir(parents=True, exist_ok=True)
        _make_layers(directory)
    known = json.loads((directory / "layers.json").read_text())
    layers = [images.RawLayer(images.Blob((directory / name).read_bytes(), images.OCI["layer"] + "+gzip"), diff)
              for name, diff in known.items()]
    return images.Image(layers, cmd=["/none"])


def _pool():
    """What files are cut from: programs, libraries and texts of this machine, in a fixed order."""
    pool = bytearray()
    for root in SOURCES:
        share = len(pool) + POOL // len(SOURCES)
        for path, dirs, names in os.walk(root):
            dirs.sort()
            for name in sorted(names):
                full = os.path.join(path, name)
                if len(pool) >= share:
                    break
                if os.path.isfile(full) and not os.path.islink(full) and not name.endswith(PACKED):
                    with open(full, "rb") as f:
                        pool += f.read(256 << 10)
    return bytes(pool)


def _sizes(dice):
    """Many small files and few big ones, UNPACKED bytes together."""
    weights = [dice.lognormvariate(0, 2) for _ in range(FILES)]
    scale = UNPACKED / sum(weights)
    return [int(w * scale) for w in weights]


def _make_layers(directory):
    dice, pool = random.Random(1), _pool()
    sizes = _sizes(dice)
    known = {}
    for layer in range(LAYERS):
        name = f"layer{layer}.tar.gz"
        known[name] = _write_layer(directory / name, layer, sizes[layer::LAYERS], pool, dice)
    (directory / "layers.json").write_text(json.dumps(known))


class _Hashing:
    """A file for tarfile which passes on to a pipe and computes the digest."""

    def __init__(self, pipe):
        self.pipe, self.digest = pipe, hashlib.sha256()

    def write(self, data):
        self.digest.update(data)
        self.pipe.write(data)
        return len(data)


def _write_layer(path, layer, sizes, pool, dice):
    with open(path, "wb") as out:
        packer = subprocess.Popen(["gzip", "-5", "-n"], stdin=subprocess.PIPE, stdout=out)
    sink = _Hashing(packer.stdin)
    with tarfile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT, bufsize=1 << 20) as tar:
        for number, size in enumerate(sizes):
            data = _cut(pool, size, dice)
            info = tarfile.TarInfo(f"data{layer}/d{number % 97}/f{number}")
            info.size, info.mtime, info.mode = len(data), images.EPOCH, 0o644
            tar.addfile(info, _Reader(data))
    packer.stdin.close()
    if packer.wait() != 0:
        raise RuntimeError("gzip failed")
    return "sha256:" + sink.digest.hexdigest()


def _cut(pool, size, dice):
    at = dice.randrange(len(pool))
    data = pool[at:at + size]
    while len(data) < size:
        data += pool[:size - len(data)]
    return data


class _Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def read(self, size):
        piece = self.data[self.at:self.at + size]
        self.at += len(piece)
        return piece


def pipeline(netns, host, repository, image):
    """Seconds of curl | tee >(sha256sum) | bsdtar, one per layer side by side; and of syncfs after it."""
    target = scratch.make("pipeline")
    try:
        started = time.monotonic()
        workers = [threading.Thread(target=_layer, args=(netns, host, repository, blob.digest, target / f"l{i}"))
                   for i, blob in enumerate(image.layer_blobs())]
        for w in workers:
            w.start()
        for w in workers:
            w.join()
        unpacked = time.monotonic()
        subprocess.run(["sync", "-f", target], check=True)
        for i, blob in enumerate(image.layer_blobs()):
            if (target / f"l{i}.sum").read_text().split()[0] != blob.digest[7:]:
                raise RuntimeError("the pipeline read other bytes")
        return unpacked - started, time.monotonic() - unpacked
    finally:
        scratch.remove(target)


def _layer(netns, host, repository, digest, directory):
    directory.mkdir()
    url = f"http://{host}/v2/{repository}/blobs/{digest}"
    script = ('set -o pipefail; curl -sSf "$0" | tee >(sha256sum >"$1.sum.new"; mv "$1.sum.new" "$1.sum") '
              '| bsdtar -xpf - -C "$1"; r=$?; while [ ! -e "$1.sum" ]; do sleep 0.001; done; exit $r')
    netns.run(["bash", "-c", script, url, directory])
