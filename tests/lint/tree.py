"""What the checks share: the files of the tree, their text without comments, and how a finding is told."""
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LIBRARY = ("lib/", "src/", "kernels/")
C_ENDINGS = (".c", ".h", ".cc", ".cu", ".cuh", ".inc")

_findings = []


def files():
    """Paths, relative to the root, of every file that is or will be in the repository."""
    git = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if git.returncode == 0:
        found = git.stdout.splitlines()
    else:
        found = [os.path.relpath(os.path.join(folder, name), ROOT)
                 for folder, _, names in os.walk(ROOT) for name in names]
        found = [path for path in found if not path.startswith(("build/", ".git/"))]
    return sorted(path for path in set(found) if os.path.isfile(os.path.join(ROOT, path)))


def c_files(*prefixes):
    return [f for f in files() if f.endswith(C_ENDINGS) and (not prefixes or f.startswith(prefixes))]


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8", errors="replace") as file:
        return file.read()


def code(text):
    """The text with comments and the insides of strings blanked, line numbers kept."""
    def spaces(match):
        found = match.group(0)
        inside = re.sub(r"[^\n]", " ", found)
        return '"' + inside[1:-1] + '"' if found[0] == '"' else inside
    return re.sub(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])+'", spaces, text, flags=re.DOTALL)


def line_of(text, position):
    return text.count("\n", 0, position) + 1


def finding(path, line, message):
    _findings.append("%s:%d: %s" % (path, line, message) if line else "%s: %s" % (path, message))


def done():
    """Prints the findings and ends the check."""
    print("\n".join(_findings) if _findings else "ok")
    sys.exit(1 if _findings else 0)
