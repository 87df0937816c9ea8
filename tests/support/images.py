# SPDX-License-Identifier: Apache-2.0
"""Container images made in pure Python: layers entry by entry (also hostile ones), both media type families, indexes.

    base = images.busybox()                                   # an Image
    web = base.with_(layers=[images.Layer().file("www/index.html", "hello")], cmd=["httpd", "-f"])
    registry.push(web, "web", "1")
    web.write_docker_archive("/tmp/web.tar", ["web:1"])
"""

import copy
import functools
import gzip
import hashlib
import io
import json
import subprocess
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

BUSYBOX = "/bin/busybox"
EPOCH = 1700000000
CREATED = "2023-11-14T22:13:20Z"

DOCKER = {
    "manifest": "application/vnd.docker.distribution.manifest.v2+json",
    "index": "application/vnd.docker.distribution.manifest.list.v2+json",
    "config": "application/vnd.docker.container.image.v1+json",
    "layer": "application/vnd.docker.image.rootfs.diff.tar",
}
OCI = {
    "manifest": "application/vnd.oci.image.manifest.v1+json",
    "index": "application/vnd.oci.image.index.v1+json",
    "config": "application/vnd.oci.image.config.v1+json",
    "layer": "application/vnd.oci.image.layer.v1.tar",
}


def digest_of(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class Blob:
    """Bytes with their media type; `digest` and `size` may be overridden to lie."""

    data: bytes = field(repr=False)
    media_type: str
    claimed_digest: str = None
    claimed_size: int = None

    @property
    def digest(self):
        return self.claimed_digest or digest_of(self.data)

    @property
    def size(self):
        return len(self.data) if self.claimed_size is None else self.claimed_size

    def descriptor(self, **more):
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size, **more}


class Layer:
    """A tar file under construction. Nothing is checked: names with ../ and links out of the root are welcome.

    Methods return the layer. `compression`: gzip, zstd or none.
    """

    def __init__(self, compression="gzip"):
        self.compression = compression
        self._buffer = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._buffer, mode="w", format=tarfile.PAX_FORMAT)
        self._data = None

    def entry(self, name, kind, data=b"", *, mode=0o644, uid=0, gid=0, link="", xattrs=None, device=None, mtime=EPOCH):
        """Any entry. xattrs: {"user.a": b"1"}."""
        info = tarfile.TarInfo(name)
        info.type, info.mode, info.uid, info.gid, info.linkname, info.mtime = kind, mode, uid, gid, link, mtime
        info.size = len(data)
        if device:
            info.devmajor, info.devminor = device
        for key, value in (xattrs or {}).items():
            info.pax_headers[f"SCHILY.xattr.{key}"] = value.decode("utf-8", "surrogateescape")
        self._tar.addfile(info, io.BytesIO(data) if data else None)
        return self

    def file(self, name, data=b"", *, mode=0o644, **kwargs):
        data = data.encode() if isinstance(data, str) else data
        return self.entry(name, tarfile.REGTYPE, data, mode=mode, **kwargs)

    def script(self, name, text, **kwargs):
        return self.file(name, "#!/bin/sh\n" + text, mode=0o755, **kwargs)

    def dir(self, name, *, mode=0o755, **kwargs):
        return self.entry(name, tarfile.DIRTYPE, mode=mode, **kwargs)

    def symlink(self, name, target, **kwargs):
        return self.entry(name, tarfile.SYMTYPE, link=target, mode=0o777, **kwargs)

    def hardlink(self, name, target, **kwargs):
        return self.entry(name, tarfile.LNKTYPE, link=target, **kwargs)

    def device(self, name, major, minor, kind=tarfile.CHRTYPE, **kwargs):
        return self.entry(name, kind, device=(major, minor), **kwargs)

    def fifo(self, name, **kwargs):
        return self.entry(name, tarfile.FIFOTYPE, **kwargs)

    def whiteout(self, name):
        parent, _, leaf = name.rpartition("/")
        return self.file(f"{parent}/.wh.{leaf}" if parent else f".wh.{leaf}")

    def opaque(self, directory):
        return self.file(f"{directory}/.wh..wh..opq")

    def host_file(self, name, path, **kwargs):
        """A copy of a file of this machine."""
        kwargs.setdefault("mode", Path(path).stat().st_mode & 0o7777)
        return self.file(name, Path(path).read_bytes(), **kwargs)

    def tar(self):
        """The uncompressed bytes; the layer takes no more entries."""
        if self._data is None:
            self._tar.close()
            self._data = self._buffer.getvalue()
        return self._data

    @property
    def diff_id(self):
        return digest_of(self.tar())

    def blob(self, family):
        """The compressed layer in one family of media types."""
        return _layer_blob(self.tar(), self.compression, family["layer"], family is OCI)


@functools.lru_cache(maxsize=64)
def _layer_blob(tar, compression, media_type, oci):
    if compression == "none":
        return Blob(tar, media_type)
    suffix = f"+{compression}" if oci else f".{compression}"
    return Blob(compress(tar, compression), media_type + suffix)


def compress(data, compression, level=1):
    if compression == "gzip":
        return gzip.compress(data, level, mtime=0)
    if compression == "zstd":
        return subprocess.run(["zstd", "-q", "-c", f"-{level}"], input=data, stdout=subprocess.PIPE, check=True).stdout
    raise ValueError(compression)


class RawLayer(Layer):
    """A layer whose bytes are given: cut tars, bombs, blobs that lie about their digest."""

    def __init__(self, blob, diff_id):
        super().__init__()
        self._blob, self._diff_id = blob, diff_id

    @property
    def diff_id(self):
        return self._diff_id

    def tar(self):
        return gzip.decompress(self._blob.data)

    def blob(self, family):
        return self._blob


class Image:
    """Layers and a configuration; immutable by habit: with_() returns a changed copy."""

    def __init__(self, layers=(), *, family=OCI, architecture="amd64", os="linux", **config):
        self.layers = list(layers)
        self.family = family
        self.architecture, self.os = architecture, os
        self.config = {}
        self._set(config)

    def _set(self, config):
        names = {"cmd": "Cmd", "entrypoint": "Entrypoint", "env": "Env", "user": "User", "workdir": "WorkingDir",
                 "ports": "ExposedPorts", "volumes": "Volumes", "labels": "Labels", "stop_signal": "StopSignal"}
        for key, value in config.items():
            if key in ("ports", "volumes"):
                value = {v: {} for v in value}
            self.config[names[key]] = value

    def with_(self, *, layers=(), family=None, architecture=None, **config):
        """A copy with further layers and changed configuration (cmd, entrypoint, env, user, workdir, stop_signal...)."""
        image = copy.copy(self)
        image.layers = self.layers + list(layers)
        image.config = dict(self.config)
        image.family = family or self.family
        image.architecture = architecture or self.architecture
        image._set(config)
        return image

    def config_blob(self):
        history = [{"created": CREATED, "created_by": f"layer {i}"} for i in range(len(self.layers))]
        document = {"architecture": self.architecture, "os": self.os, "created": CREATED, "config": self.config,
                    "rootfs": {"type": "layers", "diff_ids": [la.diff_id for la in self.layers]}, "history": history}
        return Blob(_json(document), self.family["config"])

    def layer_blobs(self):
        return [la.blob(self.family) for la in self.layers]

    def manifest_blob(self):
        document = {"schemaVersion": 2, "mediaType": self.family["manifest"],
                    "config": self.config_blob().descriptor(),
                    "layers": [b.descriptor() for b in self.layer_blobs()]}
        return Blob(_json(document), self.family["manifest"])

    def blobs(self):
        """Everything that the manifest names."""
        return [self.config_blob(), *self.layer_blobs()]

    def manifests(self):
        """What a registry needs, dependencies first; the last one is the image."""
        return [self.manifest_blob()]

    @property
    def digest(self):
        return self.manifests()[-1].digest

    @property
    def platform(self):
        return {"architecture": self.architecture, "os": self.os}

    def write_docker_archive(self, path, names):
        """What `docker save` writes (uncompressed layers, manifest.json, no index)."""
        files = {}
        config = self.config_blob()
        files[config.digest[7:] + ".json"] = config.data
        layers = []
        for layer in self.layers:
            name = layer.diff_id[7:] + "/layer.tar"
            files[name] = layer.tar()
            layers.append(name)
        entry = {"Config": config.digest[7:] + ".json", "RepoTags": list(names), "Layers": layers}
        files["manifest.json"] = _json([entry])
        return _write_tar(path, files)

    def _oci_files(self, names):
        files = {"oci-layout": _json({"imageLayoutVersion": "1.0.0"})}
        manifests = self.manifests()
        for blob in self.blobs() + manifests:
            files["blobs/" + blob.digest.replace(":", "/")] = blob.data
        top = manifests[-1]
        keys = {"io.containerd.image.name": lambda n: n, "org.opencontainers.image.ref.name": lambda n: n}
        entries = [top.descriptor(annotations={k: f(n) for k, f in keys.items()}) for n in names]
        files["index.json"] = _json({"schemaVersion": 2, "mediaType": OCI["index"],
                                     "manifests": entries or [top.descriptor()]})
        return files

    def write_oci_archive(self, path, names):
        return _write_tar(path, self._oci_files(names))

    def write_oci_layout(self, directory, names):
        directory = Path(directory)
        for name, data in self._oci_files(names).items():
            target = directory / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        return directory


class Index(Image):
    """A manifest list of images (one per platform)."""

    def __init__(self, images, family=OCI):
        super().__init__(family=family)
        self.images = list(images)

    def blobs(self):
        return [b for i in self.images for b in i.blobs()]

    def manifests(self):
        parts = [i.manifest_blob() for i in self.images]
        entries = [p.descriptor(platform=i.platform) for p, i in zip(parts, self.images)]
        document = {"schemaVersion": 2, "mediaType": self.family["index"], "manifests": entries}
        return [*parts, Blob(_json(document), self.family["index"])]


def _json(document):
    return json.dumps(document, separators=(",", ":")).encode()


def _write_tar(path, files):
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o644
            tar.addfile(info, io.BytesIO(data))
    return Path(path)


PASSWD = """root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
app:x:1000:1000:app:/home/app:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/bin/false
"""
GROUP = """root:x:0:
daemon:x:1:
extra:x:2000:app
app:x:1000:
nogroup:x:65534:
"""


@functools.lru_cache(maxsize=None)
def busybox_layer(compression="gzip"):
    """A root filesystem of Debian's static busybox; the applets are hard links, as in the official image."""
    layer = Layer(compression)
    for name in ("bin", "etc", "home", "root", "usr", "usr/bin", "usr/sbin", "sbin", "var", "var/run", "proc", "sys", "dev"):
        layer.dir(name)
    layer.dir("tmp", mode=0o1777).dir("home/app", uid=1000, gid=1000)
    layer.file("etc/passwd", PASSWD).file("etc/group", GROUP).file("etc/hostname", "image\n")
    layer.host_file("bin/busybox", BUSYBOX, mode=0o755)
    listed = subprocess.check_output([BUSYBOX, "--list-full"], text=True).split()
    for path in sorted({f"bin/{Path(p).name}" for p in listed} - {"bin/busybox"}):
        layer.hardlink(path, "bin/busybox", mode=0o755)
    layer.tar()
    return layer


def busybox(family=OCI, compression="gzip"):
    """An image with a shell and all of busybox; users app (1000, extra group 2000) and nobody."""
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return Image([busybox_layer(compression)], family=family, cmd=["sh"], env=[path])


def pause(family=OCI):
    """An image of one file which sleeps: the smallest thing that runs (busybox under another name)."""
    layer = Layer().dir("bin").host_file("bin/busybox", BUSYBOX, mode=0o755)
    return Image([layer], family=family, entrypoint=["/bin/busybox", "sleep", "2147483647"])
