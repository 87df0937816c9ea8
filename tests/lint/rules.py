# SPDX-License-Identifier: Apache-2.0
"""The house rules that a program can judge. Each rule takes a path (relative to the repository) and a text."""

import re

# -- layers ---------------------------------------------------------------------------------------------------------------
# A room may include what is below it. Rooms of one rank may use each other, but not in a circle.
RANKS = [
    {"base"},
    {"loop", "codec", "metrics"},
    {"net"},
    {"config", "api", "runtime", "image", "probe", "volume", "shim", "cni", "csi", "stats"},
    {"pod", "node", "server"},
    {"cli"},
    {"main"},
]
RANK = {room: rank for rank, rooms in enumerate(RANKS) for room in rooms}
# These know less than their rank would let them.
ONLY = {
    "loop": {"base"},
    "codec": {"base"},
    "metrics": {"base"},
    "shim": {"base"},
    "cni": {"base", "loop", "codec", "net"},
    "csi": {"base", "loop", "codec", "net"},
    "worker": {"base", "loop", "codec", "image"},
    "plugins": {"base", "codec", "cni"},
}
# Header (prefix) -> rooms. "worker" is the kubelite-image program, "plugins" are the CNI programs.
THIRD_PARTY = {
    "jansson.h": {"codec"},
    "yaml.h": {"codec"},
    "uv.h": {"loop", "net"},
    "libwebsockets.h": {"loop", "net"},
    "nghttp2/": {"net"},
    "openssl/": {"net", "runtime", "worker"},
    "protobuf-c/": {"codec", "net"},
    "curl/": {"worker"},
    "archive": {"worker"},
    "isa-l": {"worker"},
    "zstd": {"worker"},
    "zlib.h": {"codec", "worker"},
    "seccomp.h": {"runtime", "worker"},
    "libmnl/": {"plugins", "cni", "runtime"},
    "libnftnl/": {"plugins", "cni"},
}
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.M)


def room_of(path):
    """The room of a source file: kubelite/pod/x.c is in "pod", cni/plugins/x.c in "plugins", kubelite/main.c in "main"."""
    parts = path.split("/")
    if parts[0] in ("cni", "csi"):
        return "plugins" if parts[1] == "plugins" else parts[0]
    if parts[0] != "kubelite":
        return None
    if len(parts) == 2:
        return "main"
    return "worker" if parts[1:3] == ["image", "worker"] else parts[1]


def room_of_include(name, room):
    """The room that an include in quotes is about; None for a name without a folder in the same one."""
    if "/" not in name:
        return room
    first, second = name.split("/")[:2]
    if (first, second) == ("image", "worker"):
        return "worker"
    if first in ("cni", "csi") and second == "plugins":
        return "plugins"
    return first if first in RANK else None


def includes(path, text):
    """[(kind, name)] with kind < or \"."""
    return INCLUDE.findall(text)


def layers(path, text):
    """Includes that point up or sideways out of what a room may know."""
    room = room_of(path)
    if room is None:
        return []
    found = []
    for kind, name in includes(path, text):
        if kind == "<":
            found += _third_party(room, name)
            continue
        other = room_of_include(name, room)
        if other is None:
            found.append(f'{path}: "{name}" is in no room')
        elif other != room and not _may_use(room, other):
            found.append(f'{path}: {room} must not include "{name}"')
    return found


def _may_use(room, other):
    if room in ONLY:
        return other in ONLY[room]
    return other in RANK and RANK[other] <= RANK.get(room, -1)


def _third_party(room, name):
    for prefix, rooms in THIRD_PARTY.items():
        if name.startswith(prefix) and room not in rooms:
            return [f"{room} must not include <{name}> (only {', '.join(sorted(rooms))})"]
    return []


def private_headers(path, text):
    """x-internal.h belongs to its folder and what is below it; tests may look."""
    folder = path.rsplit("/", 1)[0]
    if folder.startswith(("tests/unit/", "tests/fuzz")):
        return []
    found = []
    for kind, name in includes(path, text):
        if kind == '"' and name.endswith("-internal.h") and "/" in name:
            home = name.rsplit("/", 1)[0]
            if not f"{folder}/".startswith((f"{home}/", f"kubelite/{home}/")):
                found.append(f'{path}: "{name}" is private to its folder')
    return found


def room_graph(files):
    """{room: set of rooms that it includes} of {path: text}."""
    graph = {}
    for path, text in files.items():
        room = room_of(path)
        if room is None:
            continue
        uses = {room_of_include(name, room) for kind, name in includes(path, text) if kind == '"'}
        graph.setdefault(room, set()).update(uses - {room, None})
    return graph


def circles(graph):
    """The circles in a graph, each as text."""
    found = set()

    def visit(room, trail):
        if room in trail:
            loop = trail[trail.index(room):]
            turn = loop.index(min(loop))
            found.add(" -> ".join(loop[turn:] + loop[:turn] + [min(loop)]))
            return
        for other in sorted(graph.get(room, ())):
            visit(other, trail + [room])

    for room in sorted(graph):
        visit(room, [])
    return sorted(found)


# -- C text ---------------------------------------------------------------------------------------------------------------
TOKEN = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def strip(text, keep_strings=False):
    """C without comments (and the contents of strings); line numbers stay."""
    def blank(match):
        token = match.group()
        if token[0] in "\"'":
            return token if keep_strings else token[0] * 2
        return re.sub(r"[^\n]", " ", token)
    return TOKEN.sub(blank, text)


def calls(code, names):
    """[(name, line number, text of the arguments)] of calls of functions of these names."""
    found = []
    for match in re.finditer(rf"(?<![\w.>])({names})\s*\(", code):
        end, depth = match.end(), 1
        while end < len(code) and depth:
            depth += {"(": 1, ")": -1}.get(code[end], 0)
            end += 1
        found.append((match.group(1), code.count("\n", 0, match.start()) + 1, code[match.end():end - 1]))
    return found


BANNED = {
    "strcpy|strcat|stpcpy|sprintf|vsprintf|gets": "no bounds",
    "strtol|strtoul|strtoll|strtoull|atoi|atol|atoll": "errors are lost: base/str.h",
    "fgets": "cuts lines silently",
    "system|popen": "goes through a shell",
    "accept": "use accept4",
    "pipe": "use pipe2",
    "dup": "use fcntl(F_DUPFD_CLOEXEC)",
    "epoll_create|inotify_init": "use the modern form",
    "tmpnam|mktemp|tempnam": "races",
}
CLOEXEC = r"open|openat|open64|socket|socketpair|accept4|pipe2|eventfd|memfd_create|timerfd_create|inotify_init1|" \
          r"epoll_create1|signalfd|dup3|mkostemp|open_by_handle_at"


def banned_calls(path, text):
    """Functions that must not be called at all."""
    code = strip(text)
    found = []
    for names, why in BANNED.items():
        found += [f"{path}:{line}: {name}(): {why}" for name, line, _ in calls(code, names)]
    if not re.search(r"^int main\(", code, re.M):
        found += [f"{path}:{line}: exit() outside of main's file" for _, line, _ in calls(code, "exit")]
    return found


def close_on_exec(path, text):
    """Whatever makes a descriptor says CLOEXEC in the same call."""
    found = []
    for name, line, arguments in calls(strip(text, keep_strings=True), CLOEXEC):
        if "CLOEXEC" not in arguments and not _declares(arguments):
            found.append(f"{path}:{line}: {name}() without CLOEXEC")
    for name, line, arguments in calls(strip(text, keep_strings=True), "fopen|fdopen|freopen"):
        if name != "fdopen" and not re.search(r'"[rwa][^"]*e[^"]*"\s*$', arguments):
            found.append(f"{path}:{line}: {name}() without the mode e")
    return found


def _declares(arguments):
    """A declaration or a member's definition, not a call."""
    return re.match(r"\s*(const\s+|struct\s+|unsigned\s+)?(int|char|void)\b", arguments) is not None


def functions(text):
    """[(name, first line, lines)] of function definitions: what stands in braces at the left edge."""
    code = strip(text)
    found = []
    for match in re.finditer(r"^\{$.*?^\}", code, re.M | re.S):
        head = code[:match.start()].rstrip()
        name = re.search(r"(\w+)\s*\([^;{}]*\)\s*$", head[-1000:])
        if name and head.endswith(")"):
            line = code.count("\n", 0, match.start()) + 1
            found.append((name.group(1), line, match.group().count("\n") + 1))
    return found


FUNCTION_LINES = 150
FILE_LINES = 1200
FILE_LINES_WARN = 800


def long_functions(path, text):
    """{"path:name": lines} of functions above the limit."""
    return {f"{path}:{name}": lines for name, _, lines in functions(text) if lines > FUNCTION_LINES}


# -- any text -------------------------------------------------------------------------------------------------------------
SPDX = "SPDX-License-Identifier: Apache-2.0"
# Written so that this file does not contain them.
WORDS = re.compile(r"\b(" + "|".join(("TO" "DO", "FIX" "ME", "X" "XX", "HA" "CK")) + r")\b")


def license_line(path, text):
    """On the first line, or on the second one after #!."""
    lines = text.split("\n", 2)
    if SPDX in lines[0] or (lines[0].startswith("#!") and len(lines) > 1 and SPDX in lines[1]):
        return []
    return [f"{path}: no {SPDX} line at the top"]


def words(path, text):
    """Promises instead of code."""
    lines = enumerate(text.split("\n"), 1)
    return [f"{path}:{number}: {match.group()}" for number, line in lines for match in WORDS.finditer(line)]


def blanks(path, text):
    """Tabs in C, blanks at line ends, no newline at the end."""
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        if line != line.rstrip():
            found.append(f"{path}:{number}: blanks at the end of the line")
        if path.endswith((".c", ".h")) and "\t" in line:
            found.append(f"{path}:{number}: tab")
    if text and not text.endswith("\n"):
        found.append(f"{path}: no newline at the end")
    return found
