#!/bin/bash
# Test the wheels for arm64 in an emulated Debian, and compare the events of a stream there with those of this machine.
#   sudo bash try_on_arm64.sh RECORDING [WORK_DIR [MODEL.tflite]]
# MODEL is the bundled model by default; tflite-runtime must be able to run it. Needs debootstrap, qemu-user-static,
# qemu-system-arm, cpio, a package index, 5 GB in WORK_DIR, and Python 3.11 with pip as `python3` (or PYTHON=...).
# It takes twenty minutes; times in emulation do not predict those of a Pi.
set -Eeuo pipefail
export TF_CPP_MIN_LOG_LEVEL=3

[ $# -ge 1 ] || { sed -n '2,6p' "$0"; exit 2; }
CHECKOUT=$(cd "$(dirname "$0")/../.." && pwd)
RECORDING=$(realpath "$1")
WORK=$(realpath -m "${2:-/tmp/kerastag-arm64}")
MODEL=$(realpath "${3:-$CHECKOUT/kerastag/bundled/esc10.tflite}")
PYTHON=${PYTHON:-python3}
mkdir -p "$WORK"
for program in git cpio debootstrap dpkg-deb qemu-aarch64-static qemu-system-aarch64 "$PYTHON"; do
    command -v "$program" >/dev/null || { echo "needs $program" >&2; exit 1; }
done

# Create a root file system: unpack the packages that `--foreign` downloads without running any of them.
create_root() { # suite
    local root=$WORK/root-$1
    [ ! -e "$root/.unpacked" ] || return 0
    [ -d "$root/var/cache/apt/archives" ] ||
        debootstrap --arch=arm64 --foreign --variant=minbase --include=python3,python3-venv,ca-certificates,linux-image-arm64 \
            "$1" "$root" http://deb.debian.org/debian >"$WORK/debootstrap-$1.log"
    local package
    for package in "$root"/var/cache/apt/archives/*.deb; do dpkg-deb -x "$package" "$root"; done
    touch "$root/.unpacked"
}

# Install the wheels that pip would select on the device; fails if a package has no wheel for arm64.
install_wheels() { # python version, extra, folder
    local platforms=(--platform manylinux2014_aarch64) minor
    for minor in {17..36}; do platforms+=(--platform "manylinux_2_${minor}_aarch64"); done # Bookworm has glibc 2.36.
    rm -rf "$3"
    "$PYTHON" -m pip install --quiet --quiet --disable-pip-version-check --only-binary=:all: --implementation cp \
        "${platforms[@]}" --python-version "$1" --target "$3" "${WHEEL}[$2]"
}

# Run Python of a root file system under qemu-user.
run_emulated() { # suite, python version, folder of packages, arguments
    local root=$WORK/root-$1 python=$WORK/root-$1/usr/bin/python$2
    PYTHONPATH=$3 PYTHONHOME=$root/usr PYTHONDONTWRITEBYTECODE=1 OPENBLAS_NUM_THREADS=1 \
        qemu-aarch64-static -cpu cortex-a72 -L "$root" "$python" "${@:4}"
}

# Run the stream on this machine with the same interpreter, independent of other installed packages.
run_here() { # extra
    "$PYTHON" -m pip install --quiet --quiet --disable-pip-version-check --upgrade --target "$WORK/here-$1" "${WHEEL}[$1]"
    PYTHONPATH=$WORK/here-$1 "$PYTHON" -S "${STREAM[@]}" >"$WORK/here-$1.jsonl" 2>"$WORK/here.log" ||
        { cat "$WORK/here.log" >&2 && return 1; }
}

compare_events() { # name, extra, events of the device
    "$PYTHON" - "$WORK/here-$2.jsonl" "$3" "$1" <<'PY'
import json, sys
here, there = ([json.loads(line) for line in open(path)] for path in sys.argv[1:3])
events, tags = ([[e for e in lines if e["type"] == kind] for lines in (here, there)] for kind in ("event", "result"))
events = [[{k: v for k, v in e.items() if "probability" not in k} for e in lines] for lines in events]
tags = [[{tag["name"]: tag["probability"] for tag in e["tags"]} for e in lines] for lines in tags]
worst = max(abs(a[k] - b[k]) for a, b in zip(*tags, strict=True) for k in a.keys() & b.keys())
same = "the same" if events[0] == events[1] else "DIFFERENT"
print(f"{sys.argv[3]}: {len(events[0])} reports of events here, {same} there; probabilities differ by at most {worst:.4f}")
sys.exit(events[0] != events[1])
PY
}

# Boot a machine whose root file system in memory runs the stream as its first process; read its output from the serial
# line.
run_machine() { # suite, folder of packages
    local root=$WORK/root-$1 image=$WORK/image kernel
    kernel=$(ls "$root"/boot/vmlinuz-*)
    rm -rf "$image" && mkdir -p "$image"/{proc,sys,dev,tmp,w}
    [ -e "$image/dev/console" ] || mknod -m 600 "$image/dev/console" c 5 1
    tar -C "$root" -c --exclude=./boot --exclude=./lib/modules --exclude=./var --exclude=./dev --exclude=./usr/share . | tar -C "$image" -x
    [ -L "$image/bin" ] || cp -a "$image"/bin/. "$image/usr/bin/"
    cp -a "$2" "$image/w/packages"
    cp "$MODEL" "$image/w/model.tflite"
    cp "$RECORDING" "$image/w/recording"
    cat >"$image/init" <<'INIT'
#!/bin/bash
export PATH=/usr/sbin:/usr/bin:/sbin:/bin PYTHONPATH=/w/packages PYTHONDONTWRITEBYTECODE=1 OPENBLAS_NUM_THREADS=1
mount -t proc proc /proc && mount -t sysfs sys /sys && mount -t tmpfs tmp /tmp && mount -t devtmpfs dev /dev
echo "  $(uname -srm), $(python3 --version)"
python3 -m kerastag stream --model /w/model.tflite --source /w/recording --output json:- --top 10 --stats 2>/tmp/messages
echo "  status $?, $(tail -1 /tmp/messages)"
echo o >/proc/sysrq-trigger
sleep 60
INIT
    chmod +x "$image/init"
    (cd "$image" && find . | cpio --quiet -o -H newc | gzip -1) >"$WORK/initrd.gz"
    timeout 900 qemu-system-aarch64 -M virt -cpu max -smp 2 -m 2048 -nic none -nographic -no-reboot -kernel "$kernel" \
        -initrd "$WORK/initrd.gz" -append "console=ttyAMA0 panic=-1 rdinit=/init quiet" \
        </dev/null 2>&1 | tr -d '\r' >"$WORK/console.log"
    grep '^  ' "$WORK/console.log"
    grep '^{' "$WORK/console.log" >"$WORK/machine.jsonl"
}

echo "== the wheel"
rm -rf "$WORK/source" "$WORK/dist" && mkdir "$WORK/source"
git -C "$CHECKOUT" archive HEAD | tar -x -C "$WORK/source"
"$PYTHON" -m pip wheel --quiet --no-deps --wheel-dir "$WORK/dist" "$WORK/source"
WHEEL=$(ls "$WORK"/dist/kerastag-*.whl)
STREAM=(-m kerastag stream --model "$MODEL" --source "$RECORDING" --output "json:-" --top 10)

echo "== this machine: $(uname -m), $("$PYTHON" --version)"
cd "$WORK" # Python must not import the checkout.
run_here edge-legacy
run_here edge

echo "== arm64 wheels, as pip selects them for the device"
FAILED=0
for row in "bookworm 3.11 edge-legacy" "bookworm 3.11 edge" "trixie 3.13 edge"; do
    read -r suite version extra <<<"$row"
    create_root "$suite"
    packages=$WORK/packages-$version-$extra
    install_wheels "$version" "$extra,mic,mqtt" "$packages"
    echo "$suite, Python $version, [$extra,mic,mqtt]: $(cd "$packages" && printf '%s ' *.dist-info | sed 's/\.dist-info//g')"
    run_emulated "$suite" "$version" "$packages" -c 'import platform, numpy, soundfile, soxr; from kerastag.edge import StreamingTagger; print("  imports on", platform.machine(), "Python", platform.python_version())'
    if run_emulated "$suite" "$version" "$packages" "${STREAM[@]}" >"$WORK/there.jsonl" 2>"$WORK/there.log"; then
        compare_events "  stream" "$extra" "$WORK/there.jsonl" || FAILED=1
    else
        # Under qemu-user, ai-edge-litert reads /proc/cpuinfo of the host and crashes, which is not a fault of the wheel.
        echo "  stream: ended with status $? under qemu-user"
        [ "$extra" = edge ] || FAILED=1
    fi
done

echo "== emulated arm64 machines: kernel and Python of the suite, ai-edge-litert"
for row in "bookworm 3.11" "trixie 3.13"; do
    read -r suite version <<<"$row"
    run_machine "$suite" "$WORK/packages-$version-edge"
    compare_events "  stream on $suite" edge "$WORK/machine.jsonl" || FAILED=1
done
exit "$FAILED"
