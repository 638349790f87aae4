"""Each public header compiles alone, as C99 and as C++11, pedantically and without implicit padding."""
import os
import subprocess
import sys
import tempfile

import headers

WARNINGS = "-Wall -Wextra -Wpadded -Wshadow -pedantic -Werror -fsyntax-only".split()
LANGUAGES = [("gcc", "c99", "c"), ("g++", "c++11", "cc")]


def main():
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        for path in headers.paths():
            name = headers.relative(path)
            for compiler, standard, ending in LANGUAGES:
                source = os.path.join(folder, "alone." + ending)
                with open(source, "w", encoding="utf-8") as file:
                    file.write('#include "%s"\n#include "%s"\nint alone;\n' % (name, name))
                done = subprocess.run([compiler, "-std=" + standard, "-I", os.path.join(headers.ROOT, "include")]
                                      + WARNINGS + [source], text=True, stdout=subprocess.PIPE,
                                      stderr=subprocess.STDOUT)
                if done.returncode != 0:
                    print("%s as %s:\n%s" % (name, standard, done.stdout))
                    bad += 1
    print("%d headers, %d failures" % (len(headers.paths()), bad))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
