"""What the headers declare, what src/aiinfra.map lists and what libaiinfra.so exports are the same.

Also: every name that libaiinfra.a shows the linker begins with aiinfra_ or aii_, so that a program that links it
statically keeps its own names.
"""
import os
import re
import subprocess
import sys

import headers
import map as linker_map

BUILD = os.environ.get("AIINFRA_BUILD") or os.path.join(headers.ROOT, "build")


def nm(*arguments):
    text = subprocess.run(["nm"] + list(arguments), check=True, text=True, stdout=subprocess.PIPE).stdout
    return {line.split()[-1].split("@")[0] for line in text.splitlines() if re.match(r"[0-9a-f]+ [A-Zi] ", line)}


def tell(what, names):
    for name in sorted(names):
        print("%s: %s" % (what, name))
    return len(names)


def main():
    declared = {f.name for f in headers.functions()}
    listed = set(linker_map.symbols())
    exported = {n for n in nm("-D", "--defined-only", os.path.join(BUILD, "libaiinfra.so"))
                if not n.startswith("AIINFRA_")}
    bad = tell("declared, but not in src/aiinfra.map (make abi-update)", declared - listed)
    bad += tell("in src/aiinfra.map, but in no header (make abi-update)", listed - declared)
    bad += tell("declared, but not in libaiinfra.so: who defines it?", declared - exported)
    bad += tell("exported by libaiinfra.so, but in no header", exported - declared)
    static = nm("-g", "--defined-only", os.path.join(BUILD, "libaiinfra.a"))
    bad += tell("a global name in libaiinfra.a without aii_ or aiinfra_",
                {n for n in static if not n.startswith(("aii_", "aiinfra_"))
                 and not n.startswith(("__asan", "__odr", "__tsan"))})
    print("%d public symbols, %d findings" % (len(declared), bad))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
