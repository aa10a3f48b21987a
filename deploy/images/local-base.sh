#!/bin/sh
# Makes a base for the images without a registry: Debian with its own Python, for trying the recipes. As root, with
# debootstrap and podman:  deploy/images/local-base.sh localhost/llmops-base:test
set -eu
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv bookworm "$root" "${DEBIAN_MIRROR:-http://deb.debian.org/debian}"
tar -C "$root" -c . | podman import - "$1"
