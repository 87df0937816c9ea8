# SPDX-License-Identifier: Apache-2.0
"""The images that the upstream suite names, made of what Debian has and of the suite's own agnhost."""

import subprocess
from pathlib import Path

from support import images

HERE = Path(__file__).resolve().parent
NGINX_CONF = """daemon off;
error_log stderr;
pid /run/nginx.pid;
events { }
http { access_log off; server { listen 80; root /usr/share/nginx/html; } }
"""


def _libraries(program):
    """The shared libraries of a program and its loader, as paths of this machine."""
    done = subprocess.run(["ldd", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    words = [w for line in done.stdout.splitlines() for w in line.split()]
    return sorted({w for w in words if w.startswith("/")})


def _host_programs(paths):
    """A layer with programs of this machine and all that they are linked with."""
    layer = images.Layer()
    files = {path: path for path in paths}
    for path in paths:
        files.update({library: library for library in _libraries(path)})
    made = set()
    for path in sorted(files):
        for parent in list(Path(path).parents)[-2::-1]:
            if str(parent) not in made and str(parent) not in ("/bin", "/sbin", "/usr", "/usr/bin", "/usr/sbin"):
                layer.dir(str(parent).lstrip("/"))
            made.add(str(parent))
        layer.host_file(path.lstrip("/"), path)
    return layer


def _shell():
    """One that keeps variables whose names are no identifiers."""
    program = subprocess.check_output(["sh", HERE / "build-shell.sh"], text=True).strip()
    return images.Layer().host_file("bin/sh", program, mode=0o755)


def _base():
    return images.busybox().with_(layers=[_shell()])


def agnhost(kubernetes, source):
    """kubernetes: the directory of its programs; source: of its source tree."""
    porter = source / "test" / "images" / "agnhost" / "porter"
    own = images.Layer().dir("uploads").host_file("agnhost", kubernetes / "agnhost", mode=0o755)
    own.symlink("agnhost-2", "agnhost")
    for name in ("localhost.crt", "localhost.key"):
        own.host_file(name, porter / name)
    tools = _host_programs(["/usr/bin/curl", "/bin/nc.openbsd", "/usr/bin/ss", "/sbin/ip", str(kubernetes / "agnhost")])
    tools.symlink("usr/bin/nc", "/bin/nc.openbsd").whiteout("bin/nc").whiteout("bin/ip")
    return _base().with_(layers=[tools, own], entrypoint=["/agnhost"], cmd=["pause"],
                         ports=["80/tcp", "8080/tcp", "8081/tcp", "9376/tcp"])


def nginx():
    layer = _host_programs(["/usr/sbin/nginx"])
    for name in ("run", "etc/nginx", "var/log", "var/log/nginx", "var/lib", "var/lib/nginx", "usr/share", "usr/share/nginx",
                 "usr/share/nginx/html"):
        layer.dir(name)
    layer.file("etc/nginx/nginx.conf", NGINX_CONF).file("usr/share/nginx/html/index.html", "Welcome to nginx!\n")
    return _base().with_(layers=[layer], cmd=["nginx", "-c", "/etc/nginx/nginx.conf"], stop_signal="SIGQUIT")


def httpd():
    layer = images.Layer().dir("srv").file("srv/index.html", "It works!\n")
    return _base().with_(layers=[layer], cmd=["busybox", "httpd", "-f", "-p", "80", "-h", "/srv"])


def nonewprivs(directory):
    """A setuid program that tells as whom it runs."""
    program = directory / "nnp"
    subprocess.run(["gcc", "-static", "-Os", "-o", program, HERE / "nnp.c"], check=True)
    layer = images.Layer()
    for name in ("usr/local", "usr/local/bin"):
        layer.dir(name)
    layer.host_file("usr/local/bin/nnp", program, mode=0o6755)
    return _base().with_(layers=[layer], cmd=["nnp"])


def all_images(kubernetes, source, directory):
    """{repository: [(tag, image)]} below the registry's one prefix."""
    base = _base()
    host = agnhost(kubernetes, source)
    return {
        "agnhost": [("2.21", host), ("2.6", host)],
        "busybox": [("1.29", base)],
        "alpine": [("3.7", base)],
        "nginx": [("1.14-alpine", nginx()), ("1.15-alpine", nginx())],
        "httpd": [("2.4.38-alpine", httpd()), ("2.4.39-alpine", httpd())],
        "nonewprivs": [("1.0", nonewprivs(directory))],
        "nonroot": [("1.0", base.with_(user="1234"))],
        "pause": [("3.2", images.pause())],
        "ipc-utils": [("1.0", base)],
    }
