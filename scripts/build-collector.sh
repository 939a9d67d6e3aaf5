#!/bin/sh
# Builds the collector of otel-collector/builder.yaml and prints the path of its binary. Cached by the manifest's hash in
# the user's cache folder, so that a second clone does not build it again. Needs Go ≥ 1.26 (minutes, with cold caches).
set -eu
cd "$(dirname "$0")/.."
command -v go >/dev/null || { echo 'build-collector: Go is not installed (wanted 1.26 or newer)' >&2; exit 3; }
version=$(go env GOVERSION | sed 's/^go//')
case $version in
  1.2[0-5]* | 1.1* | 1.[0-9] | 1.[0-9].*) echo "build-collector: Go $version is too old (wanted 1.26 or newer)" >&2; exit 3 ;;
esac
hash=$(sha256sum otel-collector/builder.yaml | cut -c1-16)
folder=${XDG_CACHE_HOME:-$HOME/.cache}/sculptor/collector-$hash
binary=$folder/otelcol-sculptor
if [ ! -x "$binary" ]; then
  echo "build-collector: building with Go $version (first time: 2 to 4 minutes)" >&2
  mkdir -p "$folder"
  GOBIN=$folder go install go.opentelemetry.io/collector/cmd/builder@v0.161.0 >&2
  sed "s|output_path: .*|output_path: $folder/out|" otel-collector/builder.yaml >"$folder/builder.yaml"
  "$folder/builder" --config "$folder/builder.yaml" >"$folder/build.log" 2>&1 || { tail -n 30 "$folder/build.log" >&2; exit 1; }
  mv "$folder/out/otelcol-sculptor" "$binary"
  rm -rf "$folder/out" "$folder/builder"
fi
echo "$binary"
