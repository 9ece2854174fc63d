#!/bin/sh
# Install kerastag as a service on a Raspberry Pi (64-bit Raspberry Pi OS Bookworm or Trixie). Run again to upgrade.
#   sudo sh install.sh --wheel kerastag-*.whl --model tagger.tflite
#   sudo sh install.sh --uninstall            # --purge also removes configuration and recordings
set -eu

HERE=$(cd "$(dirname "$0")" && pwd)
PREFIX=/opt/kerastag
CONFIG=/etc/kerastag
STATE=/var/lib/kerastag
UNIT=/etc/systemd/system/kerastag.service
OWNER=kerastag
WHEEL=kerastag
MODEL=''
HEAD=''
ACTION=install
START=yes

log() { printf 'install.sh: %s\n' "$*"; }
fail() {
    printf 'install.sh: error: %s\n' "$*" >&2
    exit 1
}

usage() {
    cat <<'TEXT'
usage: sudo sh install.sh [--wheel FILE.whl] [--model FILE.tflite] [--head FILE.tflite] [--no-start]
       sudo sh install.sh --uninstall [--purge]
  --wheel FILE     Wheel built by `python -m build` (default: the release in the package index).
  --model FILE     Tagger or, with --head, embedder (default: the installed or else the bundled one).
  --head FILE      Head from embeddings to tags.
  --no-start       Enable the service, but do not start it now.
  --uninstall      Stop and remove the service, its environment and its models.
  --purge          With --uninstall, also remove configuration, events, recordings and the user.
TEXT
}

parse() {
    PURGE=no
    while [ $# -gt 0 ]; do
        case $1 in
            --wheel | --model | --head)
                [ $# -ge 2 ] || fail "$1 needs a file"
                [ -f "$2" ] || fail "$1: $2: no such file"
                case $1 in
                    --wheel) WHEEL=$2 ;;
                    --model) MODEL=$2 ;;
                    --head) HEAD=$2 ;;
                esac
                shift 2
                ;;
            --no-start) START=no && shift ;;
            --uninstall) ACTION=uninstall && shift ;;
            --purge) PURGE=yes && shift ;;
            -h | --help) usage && exit 0 ;;
            *) usage >&2 && fail "$1: no such option" ;;
        esac
    done
    [ "$PURGE" = no ] || [ "$ACTION" = uninstall ] || fail '--purge needs --uninstall'
}

check_machine() {
    [ "$(id -u)" = 0 ] || fail 'needs root: sudo sh install.sh ...'
    case $(uname -m) in
        aarch64 | x86_64) ;;
        *) fail "needs a 64-bit system (aarch64); received: $(uname -m). Flash the 64-bit Raspberry Pi OS" ;;
    esac
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
        fail 'needs Python 3.11 or newer as python3: Raspberry Pi OS Bookworm or Trixie has it'
}

# In a chroot systemd does not run; the service is then installed but not started.
is_systemd_running() { [ -d /run/systemd/system ]; }

install_packages() {
    missing=''
    python3 -c 'import ensurepip' 2>/dev/null || missing="$missing python3-venv"
    ldconfig -p | grep -q libportaudio.so.2 || missing="$missing libportaudio2"
    command -v ffmpeg >/dev/null || missing="$missing ffmpeg"
    [ -n "$missing" ] || return 0
    log "installing:$missing"
    apt-get update -qq
    # shellcheck disable=SC2086 # Several words on purpose.
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing >/dev/null
}

create_user() {
    getent passwd "$OWNER" >/dev/null ||
        useradd --system --user-group --home-dir "$STATE" --no-create-home --shell /usr/sbin/nologin "$OWNER"
    ! getent group audio >/dev/null || usermod --append --groups audio "$OWNER"
}

pip() { "$PREFIX/venv/bin/python" -m pip --disable-pip-version-check --quiet "$@"; }

has_interpreter() { "$PREFIX/venv/bin/python" -c "from $1.interpreter import Interpreter" 2>/dev/null; }

# Install ai-edge-litert if it runs; else tflite-runtime, whose last release is for Python 3.11 and NumPy 1.
install_kerastag() {
    install -d -m 755 "$PREFIX"
    [ -x "$PREFIX/venv/bin/python" ] || python3 -m venv "$PREFIX/venv"
    if pip install --upgrade "${WHEEL}[edge,mic,mqtt]" && has_interpreter ai_edge_litert; then
        return
    fi
    log 'ai-edge-litert does not run here; trying tflite-runtime'
    pip uninstall --yes ai-edge-litert >/dev/null 2>&1 || true
    pip install --upgrade "${WHEEL}[edge-legacy,mic,mqtt]" || fail 'no LiteRT interpreter can be installed here'
    has_interpreter tflite_runtime || fail 'no LiteRT interpreter runs here'
}

find_bundled_model() { "$PREFIX/venv/bin/python" -c 'from kerastag.bundled import BUNDLED_MODEL, resolve_model_path as p; print(p(BUNDLED_MODEL))'; }

# Replace a file atomically, since the service may be reading it.
install_file() { # mode group source target
    install -m "$1" -o root -g "$2" "$3" "$4.new" && mv -f "$4.new" "$4"
}

install_files() {
    install -d -m 755 "$PREFIX/models"
    install -d -m 750 -o root -g "$OWNER" "$CONFIG"
    install -d -m 750 -o "$OWNER" -g "$OWNER" "$STATE"
    [ -n "$MODEL" ] || [ -e "$PREFIX/models/model.tflite" ] || MODEL=$(find_bundled_model)
    [ -z "$MODEL" ] || install_file 644 root "$MODEL" "$PREFIX/models/model.tflite"
    [ -z "$HEAD" ] || install_file 644 root "$HEAD" "$PREFIX/models/head.tflite"
    if [ ! -e "$CONFIG/kerastag.toml" ]; then
        install_file 640 "$OWNER" "$HERE/kerastag.toml" "$CONFIG/kerastag.toml"
    elif ! cmp -s "$HERE/kerastag.toml" "$CONFIG/kerastag.toml"; then
        log "keeping $CONFIG/kerastag.toml; the new example is $CONFIG/kerastag.toml.example"
        install_file 640 "$OWNER" "$HERE/kerastag.toml" "$CONFIG/kerastag.toml.example"
    fi
    [ -e "$CONFIG/mqtt.env" ] || install_file 600 root /dev/null "$CONFIG/mqtt.env"
    install_file 644 root "$HERE/kerastag.service" "$UNIT"
}

start_service() {
    if ! is_systemd_running; then
        mkdir -p /etc/systemd/system/multi-user.target.wants
        ln -sf "$UNIT" /etc/systemd/system/multi-user.target.wants/kerastag.service
        log 'systemd does not run here; the service starts with the next boot'
        return
    fi
    systemctl daemon-reload
    systemctl --quiet enable kerastag.service
    [ "$START" = yes ] || return 0
    # The service counts as started with the first audio; --no-block, because a microphone may be missing.
    systemctl --no-block restart kerastag.service
    log 'started; to see the events: journalctl -fu kerastag'
}

uninstall() {
    if is_systemd_running; then
        systemctl --quiet disable --now kerastag.service 2>/dev/null || true
    fi
    rm -f "$UNIT" /etc/systemd/system/multi-user.target.wants/kerastag.service
    ! is_systemd_running || systemctl daemon-reload
    rm -rf "$PREFIX"
    if [ "$PURGE" = yes ]; then
        rm -rf "$CONFIG" "$STATE"
        ! getent passwd "$OWNER" >/dev/null || userdel "$OWNER"
        log 'removed, with configuration and recordings'
    else
        log "removed; $CONFIG and $STATE are kept (--purge removes them)"
    fi
}

parse "$@"
check_machine
if [ "$ACTION" = uninstall ]; then
    uninstall
    exit 0
fi
install_packages
create_user
install_kerastag
install_files
start_service
