"""Builds the test programs with CMake and runs them with ctest, for `make test` and `make bench`.

--match REGEX builds and runs only the tests whose name (label.file) matches. What a test skipped, a whole program
(exit code 77) or a part of one, is told by its lines "skipped: reason"; they are printed before ctest's summary,
which stays at the end.
"""
import argparse
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def options():
    parser = argparse.ArgumentParser()
    for name in ("build-dir", "jobs", "cc", "cxx", "cflags", "libs"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--match", default="")
    parser.add_argument("--bench", action="store_true")
    return parser.parse_args()


def configure(opts, build, tests):
    data = os.environ.get("AIINFRA_SHARED_DATA") or os.path.join(ROOT, "..", "shared", "data")
    data = os.path.abspath(data) if os.path.isdir(data) else ""
    command = ["cmake", "-S", os.path.join(ROOT, "tests"), "-B", tests, "-DCMAKE_C_COMPILER=" + opts.cc,
               "-DCMAKE_CXX_COMPILER=" + opts.cxx, "-DAIINFRA_BUILD=" + build, "-DAIINFRA_CFLAGS=" + opts.cflags,
               "-DAIINFRA_LIBS=" + opts.libs, "-DAIINFRA_SHARED_DATA=" + data]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        sys.exit(done.stdout)


def build_programs(opts, tests):
    """The names built, and 0 if all of them could be; ctest reports the others as failed."""
    with open(os.path.join(tests, "targets.txt"), encoding="utf-8") as file:
        targets = [line.strip() for line in file if line.strip()]
    wanted = [t for t in targets if re.search(opts.match, t)] if opts.match else targets
    if opts.bench:
        wanted = [t for t in wanted if t.startswith(("bench.", "kernels."))]
    else:
        wanted = [t for t in wanted if not t.startswith("bench.")]
    code = 0
    if wanted:
        command = ["cmake", "--build", tests, "-j", opts.jobs, "--target"] + wanted
        quiet = "V" not in os.environ
        command += ["--", "-k"] + (["-s", "--no-print-directory"] if quiet else [])
        code = subprocess.run(command, stdout=subprocess.DEVNULL if quiet else None).returncode
    return wanted, code


def skipped(report):
    """The reasons, one line a test, from ctest's JUnit report."""
    lines = []
    if os.path.exists(report):
        for case in ET.parse(report).getroot().iter("testcase"):
            text = case.findtext("system-out") or ""
            for reason in re.findall(r"^skipped: (.*)$", text, re.MULTILINE):
                lines.append("  %s: %s" % (case.get("name"), reason))
    return lines


def run_ctest(opts, tests):
    report = os.path.join(tests, "junit.xml")
    if os.path.exists(report):
        os.remove(report)
    command = ["ctest", "--test-dir", tests, "--output-on-failure", "-j", opts.jobs, "--no-tests=error",
               "--output-junit", report, "--test-output-size-passed", "65536"]
    if opts.match:
        command += ["-R", opts.match]
    ctest = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    summary = []
    for line in ctest.stdout:
        if summary or re.match(r"\d+% tests passed", line):
            summary.append(line)
        else:
            print(line, end="", flush=True)
    code = ctest.wait()
    reasons = skipped(report)
    if reasons:
        print("Skipped, and why:")
        print("\n".join(reasons) + "\n")
    print("".join(summary), end="", flush=True)
    return code


def run_benches(tests, wanted):
    """Benchmarks run one at a time, on an otherwise idle machine."""
    code = 0
    for name in sorted(wanted):
        label = name.split(".")[0]
        print("== " + name, flush=True)
        command = [os.path.join(tests, label, name)] + (["--bench"] if label == "kernels" else [])
        code |= subprocess.run(command, cwd=ROOT).returncode
    return 1 if code else 0


def main():
    opts = options()
    build = os.path.abspath(opts.build_dir)
    tests = os.path.join(build, "tests")
    os.environ.update(AIINFRA_ROOT=ROOT, AIINFRA_BUILD=build)
    for name in ("MAKEFLAGS", "MFLAGS"):  # CMake's make is not a part of ours
        os.environ.pop(name, None)
    configure(opts, build, tests)
    wanted, code = build_programs(opts, tests)
    ran = run_benches(tests, wanted) if opts.bench else run_ctest(opts, tests)
    return ran or code


if __name__ == "__main__":
    sys.exit(main())
