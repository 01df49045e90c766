#!/bin/sh
# Build the OCI image of envs/Containerfile: georecon-image.tar, beside the Snakefile.
# As root on Debian or Ubuntu with the packages mmdebstrap and buildah; no image is pulled: the root file system comes
# from Debian's packages, everything else from envs/lock.txt.
#
#   sh envs/build_image.sh                          # torch's CPU build
#   sh envs/build_image.sh --build-arg TORCH=cuda   # the plain one; arguments go to `buildah build`
#
# APT_SOURCES names a file of apt sources where the default mirror is not reached.
set -eu
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mmdebstrap --variant=minbase --include=ca-certificates,g++,git,make,procps,python3-venv \
    "${SUITE:-bookworm}" "$folder/rootfs.tar" ${APT_SOURCES:+"$APT_SOURCES"}
mkdir "$folder/envs"
cp envs/lock.txt "$folder/envs/"
buildah build --isolation chroot --tag georecon --file envs/Containerfile "$@" "$folder"
rm -f georecon-image.tar
buildah push georecon "oci-archive:georecon-image.tar:georecon"
