# Builds the environment of a job with uv: the same three steps in a Docker build and on a machine.
#
#   build_interpreter   $PYTHON, from $WORK/python.json where that exists; its path goes to $WORK/interpreter
#   build_packages F…   installs the hash-locked $WORK/F into the virtual environment $VENV, made when missing
#   build_done          writes $VENV/.ready, one line of JSON, last: what has it is complete
#
# Variables: UV (the binary), PYTHONS (where interpreters live), WORK, VENV, KEY, PYTHON (3.12.7, 3.12 or empty).
# Nothing in this file depends on a job, so that Docker's layers outlive a change of one.

export UV_PYTHON_INSTALL_BIN=0 UV_NO_PROGRESS=1 UV_PYTHON_DOWNLOADS=manual
unset VIRTUAL_ENV CONDA_PREFIX PYTHONPATH PYTHONHOME 2>/dev/null || true

failed() {
    echo "launcher: $*" >&2
    exit 1
}

# An exact version is uv's own build before any other of that version, and any other before one of its minor version.
# Without one there is no lock, and what the machine has is enough.
build_interpreter() {
    found='' origin=found
    case $PYTHON in
    *.*.*)
        if found=$(managed_python "$PYTHON"); then
            origin=managed
        elif ! found=$(python_here "$PYTHON"); then
            found=$(python_here "${PYTHON%.*}") && origin=found-minor
        fi
        ;;
    *)
        found=$(python_here "$PYTHON") || { found=$(managed_python "${PYTHON:-3.12}") && origin=managed; }
        ;;
    esac
    [ -n "$found" ] || failed "no CPython $PYTHON: it could not be downloaded, and this machine has none like it"
    printf '%s\n%s\n' "$origin" "$found" >"$WORK/interpreter"
}

# uv's own interpreter, in a folder that is named by the SHA-256 of its archive.
managed_python() {
    folder=$PYTHONS/$(cat "$WORK/python.sha256" 2>/dev/null || echo default)
    python_in "$folder" "$1" && return
    table=''
    [ ! -f "$WORK/python.json" ] || table=file://$WORK/python.json
    UV_HTTP_RETRIES=${UV_HTTP_RETRIES:-1} UV_PYTHON_INSTALL_DIR=$folder \
        "$UV" python install ${table:+--python-downloads-json-url "$table"} "$1" >&2 </dev/null || return 1
    python_in "$folder" "$1"
}

python_in() {
    for candidate in "$1"/cpython-"$2"-*/bin/python3 "$1"/cpython-"$2".*/bin/python3; do
        if [ -x "$candidate" ]; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

# An interpreter that this machine has anyway; uv does not look into pyenv's folders.
python_here() {
    "$UV" python find --system --no-python-downloads "${1:->=3.8}" 2>/dev/null </dev/null && return
    for candidate in "${PYENV_ROOT:-${HOME:-/}/.pyenv}"/versions/"$1"/bin/python3 \
        "${PYENV_ROOT:-${HOME:-/}/.pyenv}"/versions/"$1".*/bin/python3; do
        if [ -x "$candidate" ]; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

build_packages() {
    if [ ! -x "$VENV/bin/python" ]; then
        "$UV" venv --quiet --no-project --python "$(sed -n 2p "$WORK/interpreter")" "$VENV" >&2 </dev/null ||
            failed "the virtual environment could not be made"
    fi
    files=''
    for file in "$@"; do
        if [ -s "$WORK/$file" ]; then files="$files -r $file"; fi
    done
    [ -n "$files" ] || return 0
    # shellcheck disable=SC2086  # our own file names, no spaces
    (cd "$WORK" && "$UV" pip install --no-deps --require-hashes --python "$VENV/bin/python" $files >&2 </dev/null) ||
        failed "the locked packages could not be installed"
}

build_done() {
    version=$(sed -n 's/^version_info *= *//p' "$VENV/pyvenv.cfg") # as uv found it by running it
    printf '{"v":1,"key":"%s","python":"%s","wanted":"%s","interpreter":"%s"}\n' \
        "$KEY" "$version" "$PYTHON" "$(sed -n 1p "$WORK/interpreter")" >"$VENV/.ready.tmp"
    mv "$VENV/.ready.tmp" "$VENV/.ready"
    cat "$VENV/.ready"
}
