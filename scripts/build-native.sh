#!/bin/sh
# Builds what is not JavaScript, only where a source is newer than what it makes:
#   build/bpf/<probe>.bpf.o   BPF objects, stripped of DWARF (BTF stays)
#   build/sculptor.node       the addon, by one compiler call: node-gyp would download Node's headers
#   build/sculpt-workload     the load generator of the demo and the benchmarks
set -eu
cd "$(dirname "$0")/.."
mkdir -p build/bpf

fresh() { # fresh TARGET SOURCE...: whether TARGET is newer than every source
  target=$1
  shift
  [ -e "$target" ] && [ -z "$(find "$@" -newer "$target" -type f | head -n 1)" ]
}

build() { # build TARGET command...: says it, keeps a half-written target from staying behind
  target=$1
  shift
  printf 'set-up: build %s … ' "$target"
  began=$(date +%s)
  if ! "$@"; then
    rm -f "$target"
    printf 'FAILED\n'
    exit 1
  fi
  printf 'done (%s s)\n' "$(($(date +%s) - began))"
}

probe() { # probe SOURCE TARGET
  clang -O2 -g -Wall -Werror -target bpf -mcpu=v3 -I"/usr/include/$(gcc -dumpmachine)" -c "$1" -o "$2" &&
    llvm-strip -g "$2"
}

for source in bpf/*.bpf.c; do
  object=build/bpf/$(basename "$source" .c).o
  fresh "$object" bpf scripts/build-native.sh || build "$object" probe "$source" "$object"
done

addon=build/sculptor.node
# shellcheck disable=SC2046 # flags of pkg-config are words
fresh $addon native/src scripts/build-native.sh || build $addon \
  g++ -std=c++17 -O2 -Wall -Wextra -Werror -shared -fPIC -DNAPI_VERSION=9 -DNODE_ADDON_API_CPP_EXCEPTIONS \
  -isystem node_modules/node-addon-api -isystem node_modules/node-api-headers/include \
  -o $addon native/src/*.cc $(pkg-config --cflags --libs libbpf)

workload=build/sculpt-workload
fresh $workload native/workload scripts/build-native.sh || build $workload \
  gcc -O2 -Wall -Wextra -Werror -pthread -o $workload native/workload/*.c -lm
