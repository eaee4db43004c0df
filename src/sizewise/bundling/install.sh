#!/bin/sh
# Install Sizewise @version@ from this folder: no network, no root, no compiler.
#
#   sh install.sh [--prefix DIR] [--home DIR] [--python PYTHON]
set -eu

fail() {
    printf 'error: %s\nexpected: %s\nnext: %s\n' "$1" "$2" "$3" >&2
    exit 1
}

prefix="" home="" python=""
while [ $# -gt 0 ]; do
    case "$1" in
    --prefix | --home | --python)
        [ $# -gt 1 ] || fail "$1 has no value." "$1 VALUE" "sh install.sh --help"
        case "$1" in
        --prefix) prefix=$2 ;;
        --home) home=$2 ;;
        --python) python=$2 ;;
        esac
        shift 2
        ;;
    -h | --help)
        echo "sh install.sh [--prefix DIR] [--home DIR] [--python PYTHON]"
        exit 0
        ;;
    *) fail "There is no option $1." "--prefix, --home or --python" "sh install.sh --help" ;;
    esac
done
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
unset PYTHONPATH PYTHONHOME || true

if [ -z "$prefix" ]; then
    [ -n "${HOME:-}" ] || fail "HOME is not set." "a folder to install to" "sh install.sh --prefix DIR"
    prefix="$HOME/.local/share/sizewise-env"
fi

fits() {
    "$1" -I -c "import platform, sys; sys.exit((sys.version_info[:2], sys.platform, platform.machine()) != (tuple(map(int, '@python@'.split('.'))), '@system@', '@machine@'))" >/dev/null 2>&1
}
if [ -z "$python" ]; then
    for candidate in python@python@ python3 python; do
        if fits "$candidate"; then
            python=$candidate
            break
        fi
    done
fi
if [ -z "$python" ] || ! fits "$python"; then
    fail "${python:-No Python found here} is not Python @python@ for @system@ on @machine@." "Python @python@" "sh install.sh --python PYTHON"
fi

# Every file must be the one that was bundled, and there must be no other.
"$python" -I - "$here" <<'VERIFY' || exit 1
import hashlib, os, re, sys


def refuse(problems):
    print("error: " + "\n       ".join(problems), file=sys.stderr)
    print("expected: the files of SHA256SUMS, unchanged", file=sys.stderr)
    print("next: copy the bundle again", file=sys.stderr)
    sys.exit(1)


here = sys.argv[1]
listed = {}
try:
    with open(os.path.join(here, "SHA256SUMS"), encoding="utf-8") as file:
        for line in file:
            parts = re.fullmatch("([0-9a-f]{64})  (.+)\n?", line)
            if parts is None:
                refuse(["SHA256SUMS was changed, or copied incompletely: a line is no checksum and name."])
            listed[parts[2]] = parts[1]
except OSError as error:
    refuse([f"SHA256SUMS can't be read: {error.strerror}."])
except ValueError:
    refuse(["SHA256SUMS was changed, or copied incompletely: it isn't text."])
if not listed:
    refuse(["SHA256SUMS is empty."])
found = set()
for folder, _, names in os.walk(here):
    found |= {os.path.relpath(os.path.join(folder, name), here).replace(os.sep, "/") for name in names}
problems = [f"{name} is not part of this bundle." for name in sorted(found - set(listed) - {"SHA256SUMS"})]
problems += [f"{name} is absent." for name in sorted(set(listed) - found)]
for name in sorted(found & set(listed)):
    sha = hashlib.sha256()
    try:
        with open(os.path.join(here, name), "rb") as file:
            while chunk := file.read(1 << 20):
                sha.update(chunk)
    except OSError as error:
        problems.append(f"{name} can't be read: {error.strerror}.")
        continue
    if sha.hexdigest() != listed[name]:
        problems.append(f"{name} was changed, or copied incompletely: its sha256 is {sha.hexdigest()[:16]}....")
if problems:
    refuse(problems)
VERIFY

mine="$prefix/.sizewise-bundle"
new=yes
if [ -e "$prefix" ] && [ -n "$(ls -A "$prefix" 2>/dev/null)" ]; then
    new=""
    [ -e "$mine" ] || fail "$prefix exists and holds something else." "a new folder" "sh install.sh --prefix DIR"
fi
mkdir -p "$prefix" 2>/dev/null || fail "$prefix cannot be created." "a writable folder" "sh install.sh --prefix DIR"
prefix=$(CDPATH='' cd -- "$prefix" && pwd)
mine="$prefix/.sizewise-bundle"
undo() {
    code=$?
    trap - EXIT
    if [ "$code" -ne 0 ] && [ -n "$new" ]; then
        rm -rf "$prefix"
        printf 'next: %s was removed again; correct the problem above and run the same command\n' "$prefix" >&2
    fi
    exit "$code"
}
trap undo EXIT
trap 'exit 130' INT TERM
"$python" -I -c "import shutil, sys; free = shutil.disk_usage(sys.argv[1]).free // 10**6; sys.exit(f'error: Only {free} MB are free at {sys.argv[1]}.\nexpected: @needed_mb@ MB of free disk space' if free < @needed_mb@ else 0)" "$prefix"

echo "Installing Sizewise @version@ into $prefix"
[ -x "$prefix/bin/python" ] || "$python" -I -m venv --without-pip "$prefix"
"$prefix/bin/python" -I "$here/wheels/@pip@/pip" --isolated --disable-pip-version-check --quiet install \
    --no-index --find-links "$here/wheels" --require-hashes --no-deps --only-binary :all: --no-cache-dir \
    --no-compile --requirement "$here/requirements.txt"
# Whoever runs it may not be allowed to write byte code there. All cores do it faster than pip.
"$prefix/bin/python" -I -m compileall -q -j 0 "$prefix/lib" >/dev/null 2>&1 || true

if [ -z "$home" ]; then
    home=$("$prefix/bin/python" -I -c "from sizewise.store import Store; print(Store().home)")
fi
echo "Copying weights into $home/wheels"
mkdir -p "$home/wheels"
home=$(CDPATH='' cd -- "$home" && pwd)
for file in "$here"/weights/*.whl; do
    [ -e "$file" ] || continue
    name=$(basename -- "$file")
    cmp -s "$file" "$home/wheels/$name" && continue
    if ! cp "$file" "$home/wheels/.$name.$$" || ! mv "$home/wheels/.$name.$$" "$home/wheels/$name"; then
        rm -f "$home/wheels/.$name.$$"
        fail "$home/wheels/$name cannot be written." "a writable folder with enough free space" "sh install.sh --home DIR"
    fi
done
"$prefix/bin/sizewise" --version
: >"$mine"
new=""
echo "next:"
echo "  export SIZEWISE_OFFLINE=1 SIZEWISE_HOME='$home'"
echo "  $prefix/bin/sizewise doctor"
