#!/usr/bin/env bash
# Looks for data races: builds the compiled parts with clang's ThreadSanitizer and runs the tests that use threads.
#
#   tests/thread_sanitizer.sh [pytest's arguments; default: those that use threads]
#
# Environment: PYTHON (python3; with setuptools, cython and what the tests need), CLANG (the newest clang-N that is
# installed, 15 or later: the runtime of 14 crashes when it is loaded into a program that was not built with it).
# On Debian: apt-get install clang-19 libclang-rt-19-dev libomp-19-dev
#
# Python itself is not instrumented, so the sanitizer's runtime is loaded before it; it follows Python's locks and the GIL
# by their calls of pthreads and semaphores. LLVM's OpenMP comes with Archer, which tells the sanitizer where threads of a
# parallel region wait for one another; without it every region would be a false alarm. Only the scalar kernels are built:
# the order of threads is the same for all instruction sets, and units are compiled five times as fast.
#
# Ends with status 1 if a race was found (they are in build/thread_sanitizer/report.*), with pytest's if a test failed, with
# 3 if what it needs is not installed. On two cores it takes three minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
if [ -z "${CLANG:-}" ]; then
    for version in 22 21 20 19 18 17 16 15; do
        if command -v "clang++-$version" >/dev/null; then CLANG=clang-$version && break; fi
    done
fi
[ -n "${CLANG:-}" ] || { echo "no clang-15 or later is on the PATH (or set CLANG)" >&2 && exit 3; }
clangxx=${CLANG/clang/clang++}
runtime=$($CLANG -print-file-name="libclang_rt.tsan-$(uname -m).so")
[ -e "$runtime" ] || runtime=$($CLANG -print-file-name=libclang_rt.tsan.so)
libraries=$(dirname "$(readlink -f "$(command -v "$CLANG")")")/../lib
[ -e "$runtime" ] && [ -e "$libraries/libarcher.so" ] || {
    echo "$CLANG lacks the sanitizer's runtime or Archer: install libclang-rt-N-dev and libomp-N-dev" >&2 && exit 3
}

work=build/thread_sanitizer
mkdir -p "$work"
rm -rf "$work"/report.* "$work/tree"
sanitize="-fsanitize=thread -shared-libsan"

# a copy of the tree, so that the working tree keeps its own compiled parts
mkdir "$work/tree"
cp -r csrc pyinfer tests benchmarks setup.py pyproject.toml README.md LICENSE "$work/tree"
rm -f "$work"/tree/csrc/*.cpp "$work"/tree/pyinfer/*.so
(
    cd "$work/tree"
    # objects of an earlier run are kept where no source is newer
    mkdir -p ../objects && ln -s ../objects build
    CC=$CLANG CXX=$clangxx LDSHARED="$clangxx -shared" LDCXXSHARED="$clangxx -shared" PYINFER_BUILD_ISAS=scalar \
        CXXFLAGS="$sanitize -g1 -fno-omit-frame-pointer" \
        LDFLAGS="$sanitize -L$libraries -Wl,-rpath,$libraries -Wl,-rpath,$(dirname "$runtime")" \
        "$python" setup.py --quiet build_ext --inplace
)

work=$PWD/$work
options="ignore_noninstrumented_modules=1:die_after_fork=0:history_size=7:exitcode=66"
# addresses that are not random, since older runtimes do not know all of the places that newer kernels choose
sanitized() { # LOG COMMAND...
    local log=$1
    shift
    setarch "$(uname -m)" -R env LD_PRELOAD="$runtime" TSAN_OPTIONS="$options:log_path=$log" \
        OMP_TOOL_LIBRARIES="$libraries/libarcher.so" "$@"
}

# that a race is found, and that a region without one gives no alarm
cat >"$work/probe.c" <<'C'
int count(int safe) {
    int n = 0;
#pragma omp parallel num_threads(4)
    for (int i = 0; i < 1000; ++i) {
        if (safe) {
#pragma omp atomic
            ++n;
        } else {
            ++n;
        }
    }
    return n;
}
C
# shellcheck disable=SC2086
$CLANG $sanitize -fopenmp -O1 -fPIC -shared "$work/probe.c" -o "$work/probe.so" -L"$libraries" -Wl,-rpath,"$libraries"
probe() { sanitized "$work/probe" "$python" -c "import ctypes; ctypes.CDLL('$work/probe.so').count($1)"; }
probe 1 || { echo "ThreadSanitizer sees a race where there is none: see $work/probe.*" >&2 && exit 1; }
if probe 0; then echo "ThreadSanitizer does not see a race that is there" >&2 && exit 1; fi
rm -f "$work"/probe*

cd "$work/tree"
if [ $# = 0 ]; then
    for name in plan engine engine_thread scheduler async_llm tokenizer_threads; do
        set -- "$@" "tests/test_$name.py"
    done
fi
export PYTHONPATH=$PWD
status=0
sanitized "$work/report" "$python" -m pytest -p no:cacheprovider "$@" || status=$?
if compgen -G "$work/report.*" >/dev/null; then
    cat "$work"/report.*
    echo "ThreadSanitizer: races were found" >&2
    exit 1
fi
[ $status = 0 ] && echo "ThreadSanitizer: no races"
exit $status
