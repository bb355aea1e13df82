"""`./dev lint`: what the house asks of every file (see README.md). Prints one line for each finding and the count.

Checks are counted a file (or folder) each, so that the sum in `./dev test` means something.
"""
import os
import re
import shutil
import subprocess
import sys

from arrows import ALLOWED, EXCEPTIONS, LIBRARIES, room_of

REPO = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FORMAT_IS_CHECKED = True  # switched on once the tree is formatted
FILE_LINES, FUNCTION_LINES = 1000, 60
BANNED = re.compile(r"\b(strcpy|strcat|strncpy|strncat|strtok|sprintf|vsprintf|atoi|atol|atof|scanf|sscanf|fscanf|gets|alloca|"
                    r"setjmp|longjmp|strdupa)\s*\(")
EXEMPT = "lint: long because"
ROOMS = ("base", "proto", "proxy", "filters", "xds", "server")


def listed(*patterns):
    """Files of the tree, tracked or new, that are not ignored."""
    out = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns], cwd=REPO, check=True,
                         capture_output=True, text=True).stdout
    return sorted({f for f in out.splitlines() if os.path.exists(os.path.join(REPO, f))})


def read(path):
    with open(os.path.join(REPO, path), encoding="utf-8") as file:
        return file.read()


def without_comments(text):
    """The text with comments and strings blanked, lines kept."""
    def blank(match):
        return re.sub(r"[^\n]", " ", match[0])
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', blank, text, flags=re.S)


def check_size(path, text):
    lines = text.count("\n")
    if lines > FILE_LINES and EXEMPT not in text:
        yield 1, f"{lines} lines; at most {FILE_LINES}"
    start = None
    rows = text.splitlines()
    for number, line in enumerate(rows, 1):
        if line == "{":
            start = number
        elif line.startswith("}") and start:
            length = number - start - 1
            around = "\n".join(rows[max(0, start - 8):number])
            if length > FUNCTION_LINES and EXEMPT not in around:
                yield start, f"a function of {length} lines; at most {FUNCTION_LINES} (`/* {EXEMPT} … */` if it must be)"
            start = None


def check_banned(path, text):
    for number, line in enumerate(without_comments(text).splitlines(), 1):
        found = BANNED.search(line)
        if found:
            yield number, f"{found[1]} is banned (style.md, rule 30)"


def check_arrows(path, text):
    room = room_of(path)
    if not room:
        return
    for number, line in enumerate(text.splitlines(), 1):
        own = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
        if own:
            target = room_of(own[1])
            if target and target != room and target not in ALLOWED[room] and (room, own[1]) not in EXCEPTIONS:
                yield number, f'{room} must not include "{own[1]}" (tests/lint/arrows.py)'
        library = re.match(r"\s*#\s*include\s+<([^>]+)>", line)
        if library:
            for prefix, homes in LIBRARIES.items():
                if library[1].startswith(prefix) and not any(re.fullmatch(home, path) for home in homes):
                    yield number, f"<{library[1]}> stops at its wrapper: {', '.join(homes)}"


def check_header(path, text):
    if path.endswith(".h") and "#pragma once" not in text:
        yield 1, "no #pragma once"


def check_whitespace(path, text):
    for number, line in enumerate(text.splitlines(), 1):
        if line != line.rstrip():
            yield number, "space at the end of a line"
        if "\t" in line:
            yield number, "a tab"
    if text and not text.endswith("\n"):
        yield text.count("\n") + 1, "no line end at the end of the file"


def check_format(path, _):
    tool = shutil.which("clang-format-14")
    if not FORMAT_IS_CHECKED or not tool or path.endswith(".def"):  # tables keep their columns
        return
    done = subprocess.run([tool, "--dry-run", "--Werror", path], cwd=REPO, capture_output=True, text=True, check=False)
    for line in done.stderr.splitlines():
        found = re.match(r"[^:]+:(\d+):\d+: error: code should be clang-formatted", line)
        if found:
            yield int(found[1]), "not formatted (./dev fmt)"
            return


C_CHECKS = (check_size, check_banned, check_arrows, check_header, check_whitespace, check_format)


def folders_without_readme():
    for room in ROOMS + ("tests", "conformance", "examples"):
        if os.path.isdir(os.path.join(REPO, room)) and listed(room):
            yield room, os.path.exists(os.path.join(REPO, room, "README.md"))


def main():
    passed, findings = 0, []
    sources = [f for f in listed("*.c", "*.h", "*.cc", "*.def") if not f.startswith("build/")]
    for path in sources:
        text = read(path)
        bad = [(path, line, what) for check in C_CHECKS for line, what in check(path, text)]
        findings += bad
        passed += not bad
    for path in listed("*.py", "*.sh", "*.yaml", "dev"):
        bad = [(path, line, what) for line, what in check_whitespace(path, read(path)) if what != "a tab" or path.endswith(".py")]
        findings += bad
        passed += not bad
    for folder, there in folders_without_readme():
        passed += there
        if not there:
            findings.append((folder, 1, "no README.md"))
    coverage = subprocess.run(["/usr/bin/python3", "-B", "proto/tools/coverage.py", "--check"], cwd=REPO, capture_output=True, text=True, check=False)
    passed += coverage.returncode == 0
    if coverage.returncode:
        findings.append(("conformance/COVERAGE.md", 1, f"not what proto/tools/coverage.py makes: {(coverage.stdout + coverage.stderr).strip()[-300:]}"))
    for path, line, what in findings:
        print(f"{path}:{line}: {what}")
    failed = len({path for path, _, _ in findings})
    print(f"lint: {passed} checks passed, {failed} failed")
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
