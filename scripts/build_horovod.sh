# Sourced by setup.sh: Horovod from its released source package, with the compiler flags that today's PyTorch needs.

readonly GO_ON="or go on under torch.distributed: 'make setup HOROVOD=no', then add '--set train.communicator=torch' to each job"

install_horovod() {
    local started=$SECONDS wheels=$VENV/tmp/wheels
    if [[ $HOROVOD == no ]]; then
        : >"$CHANGING"
        pip uninstall --yes horovod
        stamp horovod
        rm -f "$CHANGING"
        say "Horovod is left out: training runs with '--set train.communicator=torch'"
        return
    fi
    require_compiler
    build_horovod "$wheels"
    : >"$CHANGING"
    rm -f "$STAMPS/horovod"
    pip install --no-deps --force-reinstall --no-index --find-links "$wheels" "horovod==$HOROVOD_VERSION" ||
        fail "Horovod's wheel does not install: see the end of .setup.log"
    rm -f "$CHANGING"
    check_horovod
    stamp horovod
    say "Horovod $HOROVOD_VERSION installed in $((SECONDS - started)) s"
}

# The wheel stays in pip's cache and a second clone takes it from there. pip knows a cached wheel by its source package
# alone; this one also depends on PyTorch and the flags, so each pair of them has a folder of its own in the cache.
build_horovod() {
    local wheels=$1 cache variant
    variant=$({ "$VENV/bin/python" -c 'import torch; print(torch.__version__)'; cat scripts/horovod/*.cmake; } | sha256sum)
    cache=$("$VENV/bin/python" -m pip cache dir 2>/dev/null || true)
    say "building Horovod $HOROVOD_VERSION (3-5 minutes, or seconds where pip's cache holds it)"
    rm -rf "$wheels"
    if ! (
        export CMAKE_TOOLCHAIN_FILE=$ROOT/scripts/horovod/toolchain.cmake HOROVOD_CMAKE=$VENV/bin/cmake
        export HOROVOD_WITH_PYTORCH=1 HOROVOD_WITHOUT_TENSORFLOW=1 HOROVOD_WITHOUT_MXNET=1
        export HOROVOD_WITH_GLOO=1 HOROVOD_WITHOUT_MPI=1 HOROVOD_CPU_OPERATIONS=GLOO
        export MAKEFLAGS=-j$(compilers)
        [[ -z $cache ]] || export PIP_CACHE_DIR=$cache/horovod-${variant:0:16}
        pip wheel --verbose --no-build-isolation --no-deps --wheel-dir "$wheels" "horovod==$HOROVOD_VERSION"
    ); then
        fail "Horovod $HOROVOD_VERSION does not build here, the reason stands at the end of .setup.log: type" \
            "'sudo apt-get install -y g++ make python3.11-dev' and run 'make setup' again, $GO_ON"
    fi
}

# One compiler takes up to 1.5 GiB on PyTorch's headers.
compilers() {
    local cores gib
    cores=$(nproc)
    gib=$(awk '/^MemAvailable/ {print int($2 / 1572864)}' /proc/meminfo)
    ((gib < cores)) && cores=$gib
    ((cores > 1)) && echo "$cores" || echo 1
}

check_horovod() {
    local answer
    if answer=$(timeout 60 "$VENV/bin/python" -c 'import horovod.torch as horovod; horovod.init(); print(horovod.size())' 2>>"$LOG") &&
        [[ $answer == 1 ]]; then
        return
    fi
    pip uninstall --yes horovod
    fail "Horovod $HOROVOD_VERSION built but does not start, see the end of .setup.log: remove '$(dirname "$LOG")/.venv' and" \
        "pip's cache of it ('pip cache dir'), run 'make setup' again, $GO_ON"
}
