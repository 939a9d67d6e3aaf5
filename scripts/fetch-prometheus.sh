#!/bin/sh
# Brings Debian's Prometheus into the user's cache, not installed, and prints the path of its binary. Exit code 3: it cannot
# be had here, and why.
set -eu
folder=${XDG_CACHE_HOME:-$HOME/.cache}/sculptor/prometheus
binary=$folder/usr/bin/prometheus
if [ ! -x "$binary" ]; then
  command -v apt-get >/dev/null || { echo 'fetch-prometheus: no apt-get: it is taken from a Debian package' >&2; exit 3; }
  echo 'fetch-prometheus: about 20 MB' >&2
  mkdir -p "$folder"
  cd "$folder"
  apt-get -q -o APT::Sandbox::User=root download prometheus >log 2>&1 ||
    { apt-get -q update >log 2>&1 && apt-get -q -o APT::Sandbox::User=root download prometheus >log 2>&1; } ||
    { cat log >&2; echo 'fetch-prometheus: the package cannot be had' >&2; exit 3; }
  dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x ./usr/bin/prometheus
  rm -f prometheus_*.deb
fi
echo "$binary"
