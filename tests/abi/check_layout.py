"""The size of every public struct, the place of every field and the value of every enumerator are as they were.

layout.txt beside this file is the golden record; `make abi-update` (this program with --update) rewrites it. A field
may be appended, which its diff shows; a line that changes or goes is a broken ABI.
"""
import os
import re
import subprocess
import sys
import tempfile

import headers

GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "layout.txt")


def enumerators():
    """Names of the enumerators of the headers; those that an X-macro makes come out of the preprocessor."""
    source = "".join('#include "%s"\n' % headers.relative(p) for p in headers.paths())
    text = subprocess.run(["gcc", "-std=c99", "-E", "-P", "-I", os.path.join(headers.ROOT, "include"), "-xc", "-"],
                          input=source, check=True, text=True, stdout=subprocess.PIPE).stdout
    for body in re.findall(r"\benum\s*\w*\s*\{(.*?)\}", text, re.DOTALL):
        for name in re.findall(r"(?:^|,)\s*(AIINFRA_\w+)", body):
            yield name


def measured():
    lines = "".join('#include "%s"\n' % headers.relative(p) for p in headers.paths())
    lines += "#include <stdio.h>\nint main(void)\n{\n"
    for struct in headers.structs():
        lines += '  printf("struct %s %%zu\\n", sizeof(%s));\n' % (struct.name, struct.name)
        for field in struct.fields:
            lines += '  printf("  %s at %%zu, %%zu bytes\\n", offsetof(%s, %s), sizeof((%s *)0)->%s);\n' % (
                field.name, struct.name, field.name, struct.name, field.name)
    for name in sorted(set(enumerators())):
        lines += '  printf("%s = %%d\\n", (int)%s);\n' % (name, name)
    lines += "  return 0;\n}\n"
    with tempfile.TemporaryDirectory() as folder:
        source, program = os.path.join(folder, "layout.c"), os.path.join(folder, "layout")
        with open(source, "w", encoding="utf-8") as file:
            file.write(lines)
        subprocess.run(["gcc", "-std=c99", "-I", os.path.join(headers.ROOT, "include"), source, "-o", program],
                       check=True)
        return subprocess.run([program], check=True, text=True, stdout=subprocess.PIPE).stdout


def main():
    text = measured()
    if sys.argv[1:] == ["--update"]:
        with open(GOLDEN, "w", encoding="utf-8") as file:
            file.write(text)
        print("tests/abi/layout.txt: %d lines" % text.count("\n"))
        return 0
    golden = open(GOLDEN, encoding="utf-8").read() if os.path.exists(GOLDEN) else ""
    if text == golden:
        print("ok")
        return 0
    diff = subprocess.run(["diff", "-u", "--label", "tests/abi/layout.txt", "--label", "the headers", GOLDEN, "-"],
                          input=text, text=True, stdout=subprocess.PIPE).stdout
    print(diff or "tests/abi/layout.txt does not exist")
    print("If that is meant, and only appends: make abi-update")
    return 1


if __name__ == "__main__":
    sys.exit(main())
