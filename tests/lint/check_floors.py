"""Who may know whom: includes run downward over src/FLOORS, and a module is entered through its one door.

- "lib/x/..." and friends: includes are written from the root of the tree
- a module includes only modules on floors below its own, through <module>/<module>.h, and anything of its own
- only lib/loop and src/server know libuv; only lib/sql and the stores know SQLite
- public headers include only each other and the C standard library
- in src/, only *_api.c defines public functions
"""
import re

import tree

STDLIB = set("assert ctype errno float inttypes limits math stdarg stdbool stddef stdint stdio stdlib string time"
             .split())
MAY_INCLUDE = {
    "uv.h": ("lib/loop/", "src/server/"),
    "sqlite3.h": ("lib/sql/", "src/db/", "src/vector/", "src/memory/"),
}


def floors():
    """{module: height}"""
    height = {}
    level = 0
    for line in tree.read("src/FLOORS").splitlines():
        modules = line.split("#")[0].split()
        if modules:
            level += 1
        for module in modules:
            height[module] = level
    return height


def module_of(path):
    parts = path.split("/")
    return "kernels" if parts[0] == "kernels" else "/".join(parts[:2])


DOOR_OF_A_GPU = "kernels/cuda/cuda.h"  # kernels of another machine


def includes(path):
    text = tree.read(path)
    bare = re.sub(r"/\*.*?\*/", lambda m: re.sub(r"[^\n]", " ", m.group(0)), text, flags=re.DOTALL)
    for match in re.finditer(r'^\s*#\s*include\s+(["<])([^">]+)[">]', bare, re.MULTILINE):
        yield tree.line_of(text, match.start(2)), match.group(1), match.group(2)


def check_internal(path, line, target, height):
    own = module_of(path)
    if target == "aiinfra.h" or target.startswith("aiinfra/"):
        return
    if not target.startswith(tree.LIBRARY):
        tree.finding(path, line, 'write "%s" from the root of the tree' % target)
        return
    other = module_of(target)
    if other == own:
        return
    if other not in height:
        tree.finding(path, line, "%s is not in src/FLOORS" % other)
    elif height[other] >= height[own]:
        tree.finding(path, line, "%s may not know %s: src/FLOORS puts it no lower" % (own, other))
    elif target not in ("%s/%s.h" % (other, other.split("/")[-1]), DOOR_OF_A_GPU):
        tree.finding(path, line, "%s is entered through %s/%s.h" % (other, other, other.split("/")[-1]))


def main():
    height = floors()
    for path in tree.c_files(*tree.LIBRARY):
        if module_of(path) not in height:
            tree.finding(path, 0, "its module is not in src/FLOORS")
            continue
        for line, kind, target in includes(path):
            if kind == '"':
                check_internal(path, line, target, height)
            allowed = MAY_INCLUDE.get(target)
            if allowed and not path.startswith(allowed):
                tree.finding(path, line, "only %s include <%s>" % (", ".join(allowed), target))
        if path.startswith("src/") and not path.endswith("_api.c"):
            text = tree.code(tree.read(path))
            for match in re.finditer(r"^(?!typedef|static)[A-Za-z_][\w \*]*?\b(aiinfra_\w+)\s*\([^;{}]*\)\s*\{", text,
                                     re.MULTILINE):
                tree.finding(path, tree.line_of(text, match.start()), "%s belongs in a *_api.c" % match.group(1))
    for path in tree.c_files("include/"):
        for line, kind, target in includes(path):
            if kind == '"' and not target.startswith("aiinfra/"):
                tree.finding(path, line, 'a public header includes "aiinfra/..." or the standard library')
            if kind == "<" and target[:-2] not in STDLIB:
                tree.finding(path, line, "<%s> is not of the C standard library" % target)
    for path in tree.c_files("examples/"):
        for line, kind, target in includes(path):
            if kind == '"' and target.startswith(tree.LIBRARY):
                tree.finding(path, line, "an example sees only the public headers")
    tree.done()


main()
