#!/bin/sh
# Brings a fresh clone to where everything runs: system packages, npm packages (with Node 24), BPF objects, addon, dist/.
# Idempotent: what is there already is left alone. It says each step that it does and how long it took.
# SCULPTOR_WITHOUT_ADDON=1, where no addon can be built: without that, the BPF objects, and the compilers for them.
set -eu
cd "$(dirname "$0")/.."
mkdir -p .cache

step() { # step "what" command...: says it, runs it, shows its output only when it fails
  what=$1
  shift
  printf 'set-up: %s … ' "$what"
  began=$(date +%s)
  if "$@" >.cache/setup.log 2>&1; then
    printf 'done (%s s)\n' "$(($(date +%s) - began))"
  else
    printf 'FAILED\n'
    tail -n 30 .cache/setup.log >&2
    printf 'set-up: this failed: %s\nset-up: its whole output is in .cache/setup.log\n' "$*" >&2
    exit 1
  fi
}

# Debian 12's package → the file that shows it is there.
wanted='clang:/usr/bin/clang llvm:/usr/bin/llvm-strip libbpf-dev:/usr/include/bpf/libbpf.h pkg-config:/usr/bin/pkg-config
g++:/usr/bin/g++ clang-format:/usr/bin/clang-format bpftool:/usr/sbin/bpftool
bpftrace:/usr/bin/bpftrace libbpf-tools:/usr/sbin/runqlat'
[ -z "${SCULPTOR_WITHOUT_ADDON:-}" ] || wanted=bpftrace:/usr/bin/bpftrace
missing=
for pair in $wanted; do
  [ -e "${pair#*:}" ] || missing="$missing ${pair%%:*}"
done
if [ -n "$missing" ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    step "package lists" apt-get update -q
    # shellcheck disable=SC2086 # a list of names
    step "system packages:$missing" apt-get install -q -y --no-install-recommends $missing
  else
    printf 'set-up: missing system packages:%s\nset-up: as root on Debian 12 (others are not tried, and may have other names for them): apt-get update && apt-get install -y%s\n' \
      "$missing" "$missing" >&2
    printf 'set-up: where they cannot be had: SCULPTOR_WITHOUT_ADDON=1 npm run setup takes bpftrace alone, and says what runs without\n' >&2
    exit 1
  fi
fi

# npm leaves node_modules/.package-lock.json behind when it has finished: older than ours means that ours has changed.
if [ ! -e .cache/packages ] || [ package-lock.json -nt .cache/packages ] || [ ! -x node_modules/.bin/node ]; then
  # onnxruntime-node's install script would download CUDA libraries, which nothing here uses.
  export ONNXRUNTIME_NODE_INSTALL=skip
  step 'npm packages and Node 24 (about 700 MB, a minute or two)' npm ci --no-fund --no-audit
  touch .cache/packages
fi

PATH="$PWD/node_modules/.bin:$PATH"
export PATH
if [ -z "${SCULPTOR_WITHOUT_ADDON:-}" ]; then
  sh scripts/build-native.sh || {
    printf 'set-up: where that cannot be built: SCULPTOR_WITHOUT_ADDON=1 npm run setup, which says what runs without\n' >&2
    exit 1
  }
else
  printf 'set-up: NOT BUILT, as SCULPTOR_WITHOUT_ADDON asks: the addon, the BPF programs, the workload. What runs without them:\n'
  printf '  sculpt agent with agent.driver: bpftrace, which tells less, sculpt engine, status and doctor; no sculptor, demo or test\n'
fi

compile() {
  # The agent once more, with its libraries and without what it never calls: that is less to hold in memory.
  rm -rf dist && tsc -p src && esbuild dist/cli/main.js --bundle --splitting --platform=node --target=node24 --format=esm --outdir=dist/agent-bundle \
    --minify-whitespace --minify-syntax --external:onnxruntime-node --log-level=warning \
    --banner:js="import{createRequire as requireOf}from'node:module';const require=requireOf(import.meta.url);"
}

newest=$(find src package-lock.json scripts/setup.sh -type f -newer .cache/compiled 2>/dev/null | head -n 1 || true)
if [ ! -e .cache/compiled ] || [ ! -e dist/agent-bundle/main.js ] || [ -n "$newest" ]; then
  step 'compile src/ to dist/' compile
  touch .cache/compiled
fi
