#!/bin/sh
# Build the image as namespace-broker:VERSION. Its base is pinned by the digest that the registry gives
# now, and the image's labels say which; where no registry answers, it is the base that is here.
set -eu
cd "$(dirname "$0")/.."

base=debian:bookworm-slim
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' broker/__init__.py)

if digest=$(docker buildx imagetools inspect "$base" --format '{{.Manifest.Digest}}' 2>/dev/null); then
    base="$base@$digest"
else
    echo "build_image: no registry gives a digest of $base; building from the one that is here" >&2
fi
echo "build_image: namespace-broker:$version from $base" >&2
exec docker build --build-arg "BASE=$base" --build-arg "VERSION=$version" \
    --tag "namespace-broker:$version" .
