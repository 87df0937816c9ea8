# SPDX-License-Identifier: Apache-2.0
"""kubelite-image by itself: pulls from a real registry, imports, and everything hostile that an image can hold."""

import gzip
import io
import json
import os
import signal
import subprocess
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from support import build, images, scratch
from support.faulty import FaultyRegistry
from support.images import DOCKER, OCI, Image, Index, Layer, RawLayer, Blob, digest_of

NOT_FOUND = 'failed to pull and unpack image "{0}": failed to resolve image: {0}: not found'
BIG = os.urandom(3 << 20)


@dataclass
class Outcome:
    code: int
    lines: list
    stderr: str

    @property
    def last(self):
        return json.loads(self.lines[-1][2:])

    @property
    def message(self):
        assert self.code == 1 and self.lines[-1].startswith("E "), self
        return self.last["message"]

    def phases(self, layer):
        return [line.split()[2] for line in self.lines if line.startswith(f"P {layer} ")]


class Store:
    """A store and the program, run by hand in the registry's namespace."""

    def __init__(self, directory, netns):
        self.dir, self.netns = directory, netns
        self.program = build.program("kubelite/image/worker/kubelite-image")

    def start(self, command, *args, **kwargs):
        argv = [self.program, command, "--store", self.dir, *args]
        return subprocess.Popen(self.netns.prefix() + [str(a) for a in argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                text=True, **kwargs)

    def run(self, command, *args, input=None, timeout=60):
        with self.start(command, *args, stdin=subprocess.PIPE) as process:
            out, err = process.communicate(input, timeout=timeout)
        return Outcome(process.returncode, out.splitlines(), err)

    def pull(self, reference, *args, **kwargs):
        return self.run("pull", *args, reference, **kwargs)

    def pulled(self, reference, *args, **kwargs):
        outcome = self.pull(reference, *args, **kwargs)
        assert outcome.code == 0, outcome
        assert not list((self.dir / "tmp").iterdir())
        return next(i for i in self.list() if i["id"] == outcome.last["id"])

    def list(self):
        return [json.loads(line) for line in self.run("list").lines]

    def layer(self, image, index=-1):
        return self.dir / "layers" / image["layers"][index]

    def is_clean(self):
        """Nothing of a failed pull is visible."""
        return not self.list() and not any(list((self.dir / d).iterdir()) for d in ("layers", "diffs", "tmp", "trash"))


@pytest.fixture
def store(netns):
    directory = scratch.make("images")
    yield Store(directory, netns)
    scratch.remove(directory)


@pytest.fixture
def push(registry):
    """push(layers, name=...) gives the reference of a new image."""
    def push(*layers, name="test", tag="1", family=OCI, **config):
        return registry.push(Image(layers, family=family, **config), name, tag)
    return push


# -- what a good image becomes --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("family", [OCI, DOCKER], ids=["oci", "docker"])
@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_pull(store, registry, family, compression):
    reference = registry.push(images.busybox(family, compression), f"bb-{compression}", "1")
    image = store.pulled(reference)
    root = store.layer(image)
    assert image["tags"] == [reference]
    assert (root / "bin/busybox").stat().st_nlink > 100
    assert (root / "tmp").stat().st_mode & 0o7777 == 0o1777
    assert root.stat().st_mode & 0o7777 == 0o755
    assert store.dir.stat().st_mode & 0o077 == 0
    assert (root / "home/app").stat().st_uid == 1000
    assert (root / "etc/passwd").stat().st_mtime == images.EPOCH


def test_configuration_is_kept(store, registry):
    base = images.busybox().with_(cmd=["httpd", "-f"], env=["A=b"], user="app:app", workdir="/w", entrypoint=["/e"],
                                  stop_signal="SIGQUIT", volumes=["/data"])
    config = store.pulled(registry.push(base, "config", "1"))["config"]
    assert config == {"user": "app:app", "workingDir": "/w", "stopSignal": "SIGQUIT", "env": ["A=b"], "entrypoint": ["/e"],
                      "cmd": ["httpd", "-f"], "volumes": ["/data"]}


def test_index_by_platform(store, registry):
    foreign = Image([Layer().file("foreign")], architecture="riscv64")
    index = Index([foreign, images.busybox()])
    image = store.pulled(registry.push(index, "multi", "1"))
    assert image["architecture"] == "amd64"
    assert image["digests"] == [f"{registry.host}/multi@{index.digest}"]


def test_no_platform(store, registry):
    index = Index([Image([Layer().file("foreign")], architecture="riscv64")])
    assert "no match for platform in manifest: not found" in store.pull(registry.push(index, "foreign", "1")).message


def test_layers_are_shared_and_pulled_once(store, registry):
    base = images.busybox()
    one = store.pulled(registry.push(base, "share-a", "1"))
    outcome = store.pull(registry.push(base.with_(layers=[Layer().file("b", "b")]), "share-b", "1"))
    assert "exists" in outcome.phases(base.layer_blobs()[0].digest)
    two = next(i for i in store.list() if i["id"] == outcome.last["id"])
    assert two["layers"][0] == one["layers"][0] and len(two["layers"]) == 2


def test_equal_layers_count_once(store, push):
    twice = Layer().file("a", "1")
    image = store.pulled(push(twice, Layer().file("a", "2"), twice, name="twice"))
    assert len(image["layers"]) == 2
    assert (store.layer(image, 1) / "a").read_text() == "1"


def test_many_layers(store, push):
    image = store.pulled(push(*[Layer().file(f"f{i}", str(i)) for i in range(127)], name="many"))
    assert len(image["layers"]) == 127
    assert all(len(name) <= 2 for name in image["layers"])


def test_too_many_layers(store, push):
    outcome = store.pull(push(*[Layer().file(f"f{i}") for i in range(128)], name="toomany"))
    assert "layers: 128 elements, at most 127 are allowed" in outcome.message
    assert store.is_clean()


def test_moved_tag(store, push):
    reference = push(Layer().file("a", "1"), name="moved")
    first = store.pulled(reference)
    unchanged = store.pull(reference)
    assert unchanged.code == 0 and unchanged.last["id"] == first["id"] and len(unchanged.lines) == 2
    push(Layer().file("a", "2"), name="moved")
    second = store.pulled(reference)
    assert first["id"] != second["id"]
    old = next(i for i in store.list() if i["id"] == first["id"])
    assert old["tags"] == [] and second["tags"] == [reference]


def test_by_digest(store, registry):
    image = images.busybox()
    registry.push(image, "bydigest", "1")
    reference = f"{registry.host}/bydigest@{image.digest}"
    assert store.pulled(reference)["digests"] == [reference]


# -- entries --------------------------------------------------------------------------------------------------------------

def test_entries(store, push):
    layer = (Layer().dir("d", mode=0o2775, gid=7).file("d/f", "x").file("suid", b"x", mode=0o4755, uid=5, gid=6)
             .symlink("out", "/etc/passwd").symlink("up", "../../etc").hardlink("same", "d/f").fifo("fifo")
             .device("null", 1, 3).file("with xattr", xattrs={"user.a": b"1"}).file("naïve ☃", "u")
             .file("x" * 200 + "/" + "y" * 200, "long"))
    root = store.layer(store.pulled(push(layer, name="entries")))
    assert (root / "d").stat().st_mode & 0o7777 == 0o2775 and (root / "d").stat().st_gid == 7
    assert (root / "d/f").stat().st_gid == 0
    assert (root / "suid").stat().st_mode & 0o7777 == 0o4755 and (root / "suid").stat().st_uid == 5
    assert os.readlink(root / "out") == "/etc/passwd" and os.readlink(root / "up") == "../../etc"
    assert (root / "same").stat().st_ino == (root / "d/f").stat().st_ino
    assert (root / "null").stat().st_rdev == os.makedev(1, 3)
    assert (root / "fifo").is_fifo()
    assert os.getxattr(root / "with xattr", "user.a") == b"1"
    assert (root / "naïve ☃").read_text() == "u"
    assert (root / ("x" * 200) / ("y" * 200)).read_text() == "long"


def test_file_capability(store, push):
    value = bytes.fromhex("0100000200040000000000000000000000000000")
    layer = Layer().file("ping", b"x", mode=0o755, xattrs={"security.capability": value})
    root = store.layer(store.pulled(push(layer, name="caps")))
    assert os.getxattr(root / "ping", "security.capability") == value


def test_whiteouts(store, push):
    layer = (Layer().whiteout("gone").whiteout("deep/er/gone").dir("opq").opaque("opq").file("opq/new", "n")
             .whiteout("again").dir("again").file("again/f", "f").whiteout("implied").file("implied/f", "f")
             .file("late/f", "f").whiteout("late").file(".wh..wh.plnk/1.2", "aufs"))
    root = store.layer(store.pulled(push(layer, name="whiteouts")))
    for name in ("gone", "deep/er/gone"):
        status = (root / name).lstat()
        assert (status.st_mode & 0o170000, status.st_rdev) == (0o020000, 0)
    for name in ("opq", "again", "implied", "late"):
        assert os.getxattr(root / name, "trusted.overlay.opaque") == b"y"
        assert any((root / name).iterdir())
    assert not [p for p in root.rglob("*") if p.name.startswith(".wh.")]


def test_overlay_of_the_layers(store, push):
    lower = Layer().file("a/gone", "x").file("a/stay", "x").file("b/old", "x").file("c", "file")
    upper = Layer().whiteout("a/gone").opaque("b").file("b/new", "x").dir("c").file("c/d", "x")
    image = store.pulled(push(lower, upper, name="overlay"))
    mounted = scratch.make("overlay")
    options = "lowerdir=" + ":".join(reversed(image["layers"]))
    subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", mounted], cwd=store.dir / "layers", check=True)
    try:
        seen = sorted(str(p.relative_to(mounted)) for p in mounted.rglob("*") if p.is_file())
        assert seen == ["a/stay", "b/new", "c/d"]
    finally:
        subprocess.run(["umount", mounted], check=True)
        scratch.remove(mounted)


def test_later_entries_replace(store, push):
    layer = (Layer().file("a", "1").file("a", "22").file("b/c/d", "x").file("b", "now a file")
             .symlink("s", "/a").file("s", "no longer a link"))
    root = store.layer(store.pulled(push(layer, name="replace")))
    assert (root / "a").read_text() == "22"
    assert (root / "b").read_text() == "now a file"
    assert not (root / "s").is_symlink()


def test_absolute_names_are_the_images(store, push):
    root = store.layer(store.pulled(push(Layer().file("/etc/klt-absolute", "x").file("//double", "y"), name="absolute")))
    assert (root / "etc/klt-absolute").read_text() == "x" and (root / "double").read_text() == "y"
    assert not Path("/etc/klt-absolute").exists()


def test_links_out_of_the_root_lead_into_it(store, push):
    layer = (Layer().dir("etc").dir("tmp").symlink("abs", "/etc").file("abs/klt-hostile", "x")
             .symlink("up", "../../../../../../tmp").file("up/klt-hostile", "y").symlink("proc", "/proc/self/root"))
    root = store.layer(store.pulled(push(layer, name="links")))
    assert (root / "etc/klt-hostile").read_text() == "x" and (root / "tmp/klt-hostile").read_text() == "y"
    assert not Path("/etc/klt-hostile").exists() and not Path("/tmp/klt-hostile").exists()


# -- hostile images -------------------------------------------------------------------------------------------------------

HOSTILE = {
    "climb": (lambda: Layer().file("ok/../../../etc/klt-hostile", "x"), "leaves the layer"),
    "climb-first": (lambda: Layer().file("../klt-hostile", "x"), "leaves the layer"),
    "climb-dir": (lambda: Layer().dir("a/.."), "leaves the layer"),
    "climb-whiteout": (lambda: Layer().file(".wh..."), "is no whiteout"),
    "empty-whiteout": (lambda: Layer().file("a/.wh."), "is no whiteout"),
    "hardlink-out": (lambda: Layer().hardlink("passwd", "../../../../etc/passwd"), "out of the layer"),
    "hardlink-host": (lambda: Layer().hardlink("passwd", "/etc/passwd"), "hard link"),
    "hardlink-by-link": (lambda: Layer().symlink("l", "/etc").hardlink("p", "l/passwd"), "hard link"),
    "trusted": (lambda: Layer().dir("d", xattrs={"trusted.overlay.opaque": b"y"}), "trusted.overlay.opaque"),
    "dangling-parent": (lambda: Layer().symlink("a", "/nowhere").file("a/b", "x"), "Not a directory"),
    "below-a-file": (lambda: Layer().file("f", "x").file("f/g", "x"), "Not a directory"),
    "long-name": (lambda: Layer().file("/".join(["n" * 100] * 60), "x"), "too long"),
    "root-file": (lambda: Layer().file(".", "x"), "no directory"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_layer(store, push, name):
    make, text = HOSTILE[name]
    message = store.pull(push(make(), name=f"hostile-{name}")).message
    assert text in message and message.startswith("failed to pull and unpack image")
    assert store.is_clean()


def test_lying_digest(store, registry):
    image = Image([Layer("none").file("lie", "x")])
    reference = registry.push(image, "lie", "1")
    registry.blob_path(image.layer_blobs()[0].digest).write_bytes(Layer("none").file("lie", "y").tar())
    assert "unexpected commit digest" in store.pull(reference).message
    assert store.is_clean()


def test_lying_diff_id(store, registry):
    blob = Layer().file("difflie", "x").blob(OCI)
    reference = registry.push(Image([RawLayer(blob, digest_of(b"other"))]), "difflie", "1")
    assert "unexpected diff id" in store.pull(reference).message
    assert store.is_clean()


def test_lying_manifest(store, registry):
    image = images.busybox()
    registry.push(image, "manifestlie", "1")
    other = Image([Layer().file("a")]).manifest_blob().data
    with FaultyRegistry(registry) as faulty:
        faulty.fail("replace", "/manifests/", body=other)
        message = store.pull(f"{faulty.host}/manifestlie@{image.digest}").message
    assert "unexpected digest" in message


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"schemaVersion":1}', b"\xff", b'{"config":{},"layers":[]}',
                                  b'{"manifests":[{"digest":"sha256:x","size":1}]}', b"[" * 100000])
def test_broken_manifest(store, registry, body):
    with FaultyRegistry(registry) as faulty:
        faulty.fail("replace", "/manifests/", body=body)
        message = store.pull(f"{faulty.host}/busybox:1").message
    assert "manifest sha256:" in message


def test_endless_manifest(store, registry):
    with FaultyRegistry(registry) as faulty:
        faulty.fail("replace", "/manifests/", body=b" " * (5 << 20))
        assert "larger than allowed" in store.pull(f"{faulty.host}/busybox:1").message


def test_wrong_size(store, registry):
    """A blob that is longer than its manifest says ends at that size."""
    layer = Layer().file("a", os.urandom(100000))
    blob = layer.blob(OCI)
    short = Blob(blob.data, blob.media_type, claimed_digest=blob.digest, claimed_size=1000)
    image = Image([RawLayer(short, layer.diff_id)])
    with FaultyRegistry(registry) as faulty:
        registry.push_blob("wrongsize", blob.data)
        registry.push_blob("wrongsize", image.config_blob().data)
        faulty.fail("replace", "/manifests/", body=image.manifest_blob().data)
        assert store.pull(f"{faulty.host}/wrongsize:1").code == 1
    assert store.is_clean()


def test_gzip_bomb(store, registry):
    """1.2 GiB of zeros in about 1 MiB."""
    info = tarfile.TarInfo("zeros")
    info.size = 1200 << 20
    data = io.BytesIO()
    with gzip.GzipFile(fileobj=data, mode="wb", compresslevel=1) as out:
        out.write(info.tobuf())
        for _ in range(1200):
            out.write(bytes(1 << 20))
        out.write(bytes(1024))
    blob = Blob(data.getvalue(), OCI["layer"] + "+gzip")
    reference = registry.push(Image([RawLayer(blob, digest_of(b""))]), "bomb", "1")
    assert "grows beyond 64 times its size" in store.pull(reference).message
    assert store.is_clean()


def test_too_many_entries(store, registry):
    """10 million entries, made by repeating one megabyte of headers."""
    info = tarfile.TarInfo("f")
    chunk = info.tobuf(tarfile.USTAR_FORMAT) * 2000
    data = gzip.compress(chunk, 1) * 5000  # members in a row
    blob = Blob(data, OCI["layer"] + "+gzip")
    reference = registry.push(Image([RawLayer(blob, digest_of(b""))]), "entries10m", "1")
    message = store.pull(reference, timeout=300).message
    assert "more than 1000000 entries" in message or "grows beyond" in message
    assert store.is_clean()


@pytest.mark.parametrize("cut", [1, 10, 300, -1, -9])
def test_cut_off_gzip(store, registry, cut):
    blob = Layer().file("a", os.urandom(1000)).blob(OCI)
    broken = Blob(blob.data[:cut], blob.media_type)
    reference = registry.push(Image([RawLayer(broken, digest_of(b""))]), "cutgzip", "1")
    assert "failed to extract layer" in store.pull(reference).message
    assert store.is_clean()


def test_garbage_after_gzip(store, registry):
    layer = Layer().file("a", "x")
    padded = Blob(layer.blob(OCI).data + bytes(512), OCI["layer"] + "+gzip")
    assert store.pulled(registry.push(Image([RawLayer(padded, layer.diff_id)]), "padded", "1"))
    garbage = Blob(layer.blob(OCI).data + b"garbage", OCI["layer"] + "+gzip")
    other = Layer().file("a", "y")
    garbage = Blob(other.blob(OCI).data + b"garbage", OCI["layer"] + "+gzip")
    assert "garbage" in store.pull(registry.push(Image([RawLayer(garbage, other.diff_id)]), "garbage", "1")).message


def test_many_gzip_members(store, registry):
    """As pigz and eStargz write them."""
    layer = Layer().file("a", os.urandom(50000)).file("b", "x" * 100000)
    tar = layer.tar()
    data = b"".join(gzip.compress(tar[i:i + 777]) for i in range(0, len(tar), 777))
    image = store.pulled(registry.push(Image([RawLayer(Blob(data, OCI["layer"] + "+gzip"), layer.diff_id)]), "members", "1"))
    assert (store.layer(image) / "b").read_text() == "x" * 100000


def test_full_disk(registry, netns):
    directory = scratch.make("fulldisk")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", directory], check=True)
    try:
        store = Store(directory, netns)
        reference = registry.push(Image([Layer().file("a", os.urandom(8 << 20))]), "fulldisk", "1")
        assert "No space left on device" in store.pull(reference).message
        assert store.is_clean()
        assert store.pulled(f"{registry.host}/pause:1")
    finally:
        subprocess.run(["umount", "-l", directory], check=True)
        scratch.remove(directory)


# -- registries and networks ----------------------------------------------------------------------------------------------

def test_missing_image(store, registry):
    reference = f"{registry.host}/none:1"
    outcome = store.pull(reference)
    assert outcome.message == NOT_FOUND.format(reference)
    assert outcome.last["reason"] == "ErrImagePull"


def test_invalid_name(store):
    outcome = store.pull("UPPER//x:1")
    assert outcome.message == ('Failed to apply default image tag "UPPER//x:1": couldn\'t parse image name "UPPER//x:1": '
                               'invalid reference format')
    assert outcome.last["reason"] == "InvalidImageName"


def test_no_registry(store):
    assert "failed to do request" in store.pull("127.0.0.1:1/x:1").message


def _big(registry, name):
    image = Image([Layer().file("big", BIG)])
    registry.push(image, name, "1")
    return image.layer_blobs()[0]


@pytest.mark.parametrize("action", ["cut", "reset"])
def test_cut_off_is_resumed(store, registry, action):
    blob = _big(registry, "cut")
    with FaultyRegistry(registry) as faulty:
        faulty.fail(action, "/blobs/" + blob.digest, after=1 << 20, times=2)
        image = store.pulled(f"{faulty.host}/cut:1")
        ranges = [r.headers.get("Range") for r in faulty.recorded("/blobs/" + blob.digest)]
    assert ranges[0] is None and all(r.startswith("bytes=") for r in ranges[1:]) and len(ranges) == 3
    assert (store.layer(image) / "big").read_bytes() == BIG


def test_server_without_ranges(store, registry):
    blob = _big(registry, "norange")
    with FaultyRegistry(registry) as faulty:
        faulty.fail("cut", "/blobs/" + blob.digest, after=1 << 20, times=1)
        faulty.fail("ignore-range", "/blobs/" + blob.digest)
        assert (store.layer(store.pulled(f"{faulty.host}/norange:1")) / "big").read_bytes() == BIG


def test_resume_by_a_later_pull(store, registry):
    """What a killed pull had brought is not fetched again."""
    blob = _big(registry, "later")
    with FaultyRegistry(registry) as faulty:
        faulty.fail("stall", "/blobs/" + blob.digest, after=2 << 20)
        with store.start("pull", f"{faulty.host}/later:1") as process:
            partial = store.dir / "ingest" / blob.digest.replace(":", "-")
            deadline = time.monotonic() + 20
            while not (partial.exists() and partial.stat().st_size >= 2 << 20):
                assert time.monotonic() < deadline and process.poll() is None
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
        faulty.clear()
        assert store.run("clean").code == 0
        image = store.pulled(f"{faulty.host}/later:1")
        assert faulty.recorded("/blobs/" + blob.digest)[-1].headers["Range"] == f"bytes={2 << 20}-"
    assert (store.layer(image) / "big").read_bytes() == BIG
    assert not partial.exists()


def test_rotten_partial_file(store, registry):
    blob = _big(registry, "rotten")
    store.run("list")
    (store.dir / "ingest" / blob.digest.replace(":", "-")).write_bytes(bytes(1 << 20))
    assert (store.layer(store.pulled(f"{registry.host}/rotten:1")) / "big").read_bytes() == BIG


def test_stall(store, registry):
    blob = _big(registry, "stall")
    with FaultyRegistry(registry) as faulty:
        faulty.fail("stall", "/blobs/" + blob.digest, after=1 << 20, times=1)
        assert store.pulled(f"{faulty.host}/stall:1", "--stall-timeout", "1")


def test_stalled_for_good(store, registry):
    blob = _big(registry, "dead")
    with FaultyRegistry(registry) as faulty:
        faulty.fail("stall", "/blobs/" + blob.digest, after=0)
        message = store.pull(f"{faulty.host}/dead:1", "--stall-timeout", "1").message
    assert "failed to do request" in message


def test_server_errors_are_retried(store, registry):
    with FaultyRegistry(registry) as faulty:
        faulty.fail("status", "/manifests/", code=503, times=2)
        assert store.pulled(f"{faulty.host}/busybox:1")


def test_kill_leaves_nothing_visible(store, registry):
    blob = _big(registry, "killed")
    with FaultyRegistry(registry) as faulty:
        faulty.fail("stall", "/blobs/" + blob.digest, after=2 << 20)
        with store.start("pull", f"{faulty.host}/killed:1") as process:
            deadline = time.monotonic() + 20
            while not list(store.dir.glob("tmp/*/0/big")):
                assert time.monotonic() < deadline and process.poll() is None
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
    assert store.list() == []
    assert store.run("clean").code == 0
    assert store.is_clean()


# -- credentials, mirrors, TLS --------------------------------------------------------------------------------------------

def _registries(store, document):
    path = store.dir.parent / (store.dir.name + "-registries.yaml")
    path.write_text(json.dumps(document))
    return path


@pytest.fixture
def registries(store):
    paths = []

    def write(document):
        paths.append(_registries(store, document))
        return ["--registries", paths[-1]]
    yield write
    for path in paths:
        path.unlink(missing_ok=True)


def test_mirrors_in_order(store, registry, registries):
    with FaultyRegistry(registry) as faulty:
        options = registries({"mirrors": {"docker.io": {
            "endpoint": ["http://127.0.0.1:1", f"http://{faulty.host}"], "rewrite": {"^library/(.*)": "$1"}}}})
        image = store.pulled("busybox:1", *options)
        assert faulty.recorded("/v2/busybox/manifests/1\\?ns=docker.io")
    assert image["tags"] == ["docker.io/library/busybox:1"]


def test_https(store, registry, registries):
    reference = f"{registry.https_host}/busybox:1"
    assert "certificate" in store.pull(reference, *registries({"configs": {registry.https_host: {"tls": {}}}})).message
    options = registries({"configs": {registry.https_host: {"tls": {"ca_file": str(registry.ca.cert_path)}}}})
    assert store.pulled(reference, *options)
    options = registries({"configs": {registry.https_host: {"tls": {"insecure_skip_verify": True}}}})
    assert store.pulled(f"{registry.https_host}/pause:1", *options)


def test_https_on_loopback_without_configuration(store, registry):
    """http is tried first there; the server's answer to it leads to https, whose certificate nobody vouches for."""
    assert "certificate" in store.pull(f"{registry.https_host}/busybox:1").message


def _challenge(faulty, pattern, header, **options):
    faulty.fail("status", pattern, code=401, headers={"WWW-Authenticate": header}, **options)


def test_token(store, registry):
    """Anonymous first, then with the token that the challenge's server gives; the proxy plays that server."""
    with FaultyRegistry(registry) as faulty:
        realm = f"http://{faulty.host}/v2/busybox/tags/list"
        faulty.fail("replace", "/tags/list", body=b'{"token":"sesame"}')
        _challenge(faulty, "/v2/busybox/manifests/", f'Bearer realm="{realm}",service="klt",scope="repository:busybox:pull"',
                   times=1)
        assert store.pulled(f"{faulty.host}/busybox:1")
        asked = faulty.recorded("/tags/list")
        assert len(asked) == 1 and "service=klt&scope=repository%3Abusybox%3Apull" in asked[0].path
        later = [r.headers.get("Authorization") for r in faulty.recorded("/v2/busybox/(manifests|blobs)")[1:]]
        assert set(later) == {"Bearer sesame"}


def test_token_server_that_refuses(store, registry):
    with FaultyRegistry(registry) as faulty:
        _challenge(faulty, "/v2/busybox/", f'Bearer realm="http://{faulty.host}/none"')
        message = store.pull(f"{faulty.host}/busybox:1").message
    assert "failed to fetch anonymous token: unexpected status from GET request" in message


def test_secrets_stay_with_their_registry(store, registry):
    """Neither a redirect to another host nor a token server without TLS behind an https registry gets credentials."""
    auth = json.dumps({"username": "klt-user", "password": "klt-secret"})
    with FaultyRegistry(registry) as other, FaultyRegistry(registry, port=5002) as faulty:
        faulty.fail("status", "/v2/busybox/", code=401, times=1, headers={"WWW-Authenticate": 'Basic realm="klt"'})
        faulty.fail("status", "/v2/busybox/blobs/", code=307, headers={"Location": f"http://{other.host}/v2/busybox/manifests/1"})
        outcome = store.pull(f"{faulty.host}/busybox:1", "--auth", input=auth)
        assert outcome.code == 1
        assert any("Authorization" in r.headers for r in faulty.recorded("/v2/busybox/"))
        assert other.recorded() and not any("Authorization" in r.headers for r in other.recorded())
    text = "".join(outcome.lines) + outcome.stderr
    assert "klt-secret" not in text and "a2x0LXVzZXI" not in text


def test_redirects_end(store, registry):
    with FaultyRegistry(registry) as faulty:
        faulty.fail("status", "/manifests/", code=302, headers={"Location": f"http://{faulty.host}/v2/busybox/manifests/1"})
        assert "redirects too often" in store.pull(f"{faulty.host}/busybox:1").message
        faulty.clear()
        faulty.fail("status", "/manifests/", code=302, headers={"Location": "file:///etc/passwd"})
        assert "is refused" in store.pull(f"{faulty.host}/busybox:1").message


# -- imports --------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
@pytest.mark.parametrize("kind", ["docker", "oci", "layout"])
def test_import(store, tmp_path, kind, compression):
    image = images.busybox()
    if kind == "layout":
        path = image.write_oci_layout(tmp_path / "layout", ["docker.io/library/bb:1"])
    else:
        write = image.write_docker_archive if kind == "docker" else image.write_oci_archive
        path = write(tmp_path / "archive.tar", ["docker.io/library/bb:1", "docker.io/library/bb:2"])
        if compression != "none":
            path.write_bytes(images.compress(path.read_bytes(), compression))
    outcome = store.run("import", path)
    assert outcome.code == 0, outcome
    assert "docker.io/library/bb:1" in outcome.last["names"]
    (record,) = store.list()
    assert record["id"] == image.config_blob().digest
    assert (store.layer(record) / "bin/busybox").exists()
    assert not list((store.dir / "tmp").iterdir())


def test_import_from_a_pipe(store, tmp_path):
    path = images.pause().write_docker_archive(tmp_path / "a.tar", ["p:1"])
    with open(path, "rb") as file, subprocess.Popen(["cat"], stdin=file, stdout=subprocess.PIPE) as cat:
        with store.start("import", "-", stdin=cat.stdout) as process:
            out, _ = process.communicate(timeout=30)
    assert process.returncode == 0 and "docker.io/library/p:1" in out


def _archive(path, files):
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            if isinstance(data, str):
                info.type, info.linkname = tarfile.SYMTYPE, data
                tar.addfile(info)
            else:
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return path


def test_import_of_linked_layers(store, tmp_path):
    """Old versions of docker save link equal layers to each other."""
    layer = Layer().file("a", "x")
    image = Image([layer, layer])
    config = image.config_blob().data
    manifest = json.dumps([{"Config": "c.json", "RepoTags": ["l:1"], "Layers": ["one/layer.tar", "two/layer.tar"]}]).encode()
    path = _archive(tmp_path / "a.tar", {"c.json": config, "one/layer.tar": layer.tar(), "two/layer.tar": "../one/layer.tar",
                                         "manifest.json": manifest})
    assert store.run("import", path).code == 0


@pytest.mark.parametrize("files,text", [
    ({"x": b"y"}, "neither an OCI layout nor"),
    ({"manifest.json": b"{"}, "manifest.json"),
    ({"manifest.json": json.dumps([{"Config": "../../etc/passwd", "Layers": []}]).encode()}, "names a file"),
    ({"manifest.json": json.dumps([{"Config": "/etc/passwd", "Layers": []}]).encode()}, "has no"),
    ({"manifest.json": json.dumps([{"Config": "c", "Layers": []}]).encode(), "c": "/etc/passwd"}, "has no"),
    ({"index.json": json.dumps({"manifests": [{"digest": "sha256:" + "0" * 64, "size": 1}]}).encode()}, "has no"),
    ({"index.json": json.dumps({"manifests": [{"digest": "sha256:../../x", "size": 1}]}).encode()}, "no digest"),
])
def test_hostile_archive(store, tmp_path, files, text):
    assert text in store.run("import", _archive(tmp_path / "a.tar", files)).message
    assert store.is_clean()


@pytest.mark.parametrize("data", [b"", b"x" * 100, b"x" * 2000, b"\x1f\x8b", b"\x28\xb5\x2f\xfd\x00", bytes(10240)])
def test_garbage_archive(store, tmp_path, data):
    (tmp_path / "a").write_bytes(data)
    assert store.run("import", tmp_path / "a").code == 1
    assert store.is_clean()


def test_import_checks_layers(store, tmp_path):
    layout = Image([Layer().file("a", "x")]).write_oci_layout(tmp_path / "l", ["x:1"])
    blob = max((layout / "blobs/sha256").iterdir(), key=lambda p: p.stat().st_size if p.read_bytes()[:2] == b"\x1f\x8b" else 0)
    data = bytearray(blob.read_bytes())
    data[-10] ^= 1
    blob.write_bytes(data)
    assert "failed to extract layer" in store.run("import", layout).message
    assert store.is_clean()


# -- removal --------------------------------------------------------------------------------------------------------------

def test_remove(store, registry):
    base = images.busybox()
    one = registry.push(base, "rm-a", "1")
    two = registry.push(base.with_(layers=[Layer().file("b", "b")]), "rm-b", "1")
    store.pulled(one)
    shared = store.pulled(two)["layers"][0]
    assert store.run("remove", two).code == 0
    assert [p.name for p in (store.dir / "layers").iterdir()] == [shared]
    assert store.run("remove", one).code == 0
    assert store.is_clean()
    assert "is not here" in store.run("remove", one).message


def test_remove_one_of_two_tags(store, registry):
    one = registry.push(images.pause(), "tags", "1")
    two = registry.push(images.pause(), "tags", "2")
    store.pulled(one)
    store.pulled(two)
    assert store.run("remove", one).code == 0
    (image,) = store.list()
    assert image["tags"] == [two]


def test_one_owner(store, registry):
    """A second daemon or tool on the same store is told so."""
    blob = _big(registry, "owner")
    with FaultyRegistry(registry) as faulty:
        faulty.fail("stall", "/blobs/" + blob.digest, after=0)
        with store.start("pull", f"{faulty.host}/owner:1") as process:
            deadline = time.monotonic() + 20
            while not faulty.recorded("/blobs/" + blob.digest):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            assert "in use by another process" in store.run("list").message
            process.send_signal(signal.SIGKILL)


# -- walls ----------------------------------------------------------------------------------------------------------------

def _status(pid):
    text = Path(f"/proc/{pid}/status").read_text()
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def test_roles_are_confined(store, registry):
    blob = _big(registry, "walls")
    with FaultyRegistry(registry) as faulty:
        faulty.fail("stall", "/blobs/" + blob.digest, after=2 << 20)
        with store.start("pull", f"{faulty.host}/walls:1") as process:
            deadline = time.monotonic() + 20
            while not list(store.dir.glob("tmp/*/0/big")):
                assert time.monotonic() < deadline and process.poll() is None
                time.sleep(0.02)
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            roles = {Path(f"/proc/{c}/cmdline").read_text().split("\0")[1]: int(c) for c in children}
            fetch, unpack = _status(roles["fetch"]), _status(roles["unpack"])
            host_net = os.stat(f"/proc/{process.pid}/ns/net").st_ino
            assert fetch["Uid"].split() == ["65534"] * 4 and fetch["CapEff"] == fetch["CapPrm"] == "0" * 16
            assert fetch["NoNewPrivs"] == unpack["NoNewPrivs"] == "1" and fetch["Seccomp"] == unpack["Seccomp"] == "2"
            # CHOWN, DAC_OVERRIDE, FOWNER, FSETID, MKNOD, SETFCAP
            assert int(unpack["CapEff"], 16) == 1 << 0 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 27 | 1 << 31
            assert os.stat(f"/proc/{roles['unpack']}/ns/net").st_ino != host_net
            assert len(Path(f"/proc/{roles['unpack']}/mountinfo").read_text().splitlines()) == 1
            assert sorted(p.name for p in Path(f"/proc/{roles['unpack']}/root").iterdir()) == ["big"]
            # their environment and command lines hold no credentials, and they hold no descriptors of others
            assert len(list(Path(f"/proc/{roles['fetch']}/fd").iterdir())) <= 8
            process.send_signal(signal.SIGKILL)
        deadline = time.monotonic() + 10
        while any(Path(f"/proc/{pid}").exists() for pid in roles.values()):
            assert time.monotonic() < deadline, "roles outlive their parent"
            time.sleep(0.02)
