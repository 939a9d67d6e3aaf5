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

build() { # build TARGET RECIPE [SOURCE]: says it; what runs from the old target, or fails half-way, never sees half of the new one
  printf 'set-up: build %s … ' "$1"
  began=$(date +%s)
  if ! "$2" "$1.new" "${3:-}"; then
    rm -f "$1.new"
    printf 'FAILED\n'
    exit 1
  fi
  mv -f "$1.new" "$1"
  printf 'done (%s s)\n' "$(($(date +%s) - began))"
}

probe() { # probe OBJECT SOURCE
  clang -O2 -g -Wall -Werror -target bpf -mcpu=v3 -I"/usr/include/$(gcc -dumpmachine)" -c "$2" -o "$1" &&
    llvm-strip -g "$1"
}

addon() { # addon SHARED_OBJECT
  # shellcheck disable=SC2046 # flags of pkg-config are words
  g++ -std=c++17 -O2 -Wall -Wextra -Werror -shared -fPIC -DNAPI_VERSION=9 -DNODE_ADDON_API_CPP_EXCEPTIONS_ALL \
    -isystem node_modules/node-addon-api -isystem node_modules/node-api-headers/include \
    -o "$1" native/src/*.cc $(pkg-config --cflags --libs libbpf)
}

workload() { # workload PROGRAM
  gcc -O2 -Wall -Wextra -Werror -pthread -o "$1" native/workload/*.c -lm
}

for source in bpf/*.bpf.c; do
  object=build/bpf/$(basename "$source" .c).o
  fresh "$object" bpf scripts/build-native.sh || build "$object" probe "$source"
done

target=build/sculptor.node
fresh $target native/src scripts/build-native.sh || build $target addon

target=build/sculpt-workload
fresh $target native/workload scripts/build-native.sh || build $target workload
