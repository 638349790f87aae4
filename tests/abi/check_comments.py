"""The header is the contract: every public function and every struct field says what it is.

A function has a comment right above it that names its threads and the version that brought it, and, if it returns an
aiinfra_status, what it returns. A struct, typedef and enum has a comment, and each field too.
"""
import re
import sys

import headers


def main():
    findings = []
    n = 0
    for function in headers.functions():
        n += 1
        lacking = []
        if function.comment is None:
            lacking.append("a /** */ comment right above it")
        else:
            lacking += [word for word in ("Thread:", "Since:") if word not in function.comment]
            if function.returns != "void" and "@return" not in function.comment:
                lacking.append("@return")
        if lacking:
            findings.append("%s:%d: %s lacks %s" % (function.header, function.line, function.name, ", ".join(lacking)))
    for struct in headers.structs():
        if struct.comment is None:
            findings.append("%s:%d: struct %s lacks a comment" % (struct.header, struct.line, struct.name))
        for field in struct.fields:
            if not field.comment:
                findings.append("%s:%d: %s.%s lacks a comment" % (struct.header, field.line, struct.name, field.name))
    for path in headers.paths():
        text = headers.read(path)
        code = headers.blank(text)
        for match in re.finditer(r"^typedef (?!struct \w+ \{)(enum )?.*$", code, re.MULTILINE):
            if re.match(r"typedef struct (\w+) \1;", match.group(0)):
                behind = "/**<" in text[match.start():match.end()]
                if behind or headers.comment_above(text, match.start()) is not None:
                    continue
                findings.append("%s:%d: say what this handle is: %s" % (
                    headers.relative(path), code.count("\n", 0, match.start()) + 1, match.group(0).strip()))
            elif headers.comment_above(text, match.start()) is None:
                findings.append("%s:%d: lacks a comment: %s" % (
                    headers.relative(path), code.count("\n", 0, match.start()) + 1, match.group(0).strip()))
    print("\n".join(findings) if findings else "%d functions, all told" % n)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
