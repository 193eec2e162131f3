#!/bin/sh
# Install the real DICOM peers that the demo and the tests talk to, and the browser that looks at pages, where possible.
set -eu
missing=""
for pair in Orthanc:orthanc storescu:dcmtk dciodvfy:dicom3tools strace:strace chromium:chromium; do
    command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair#*:}"
done
[ -n "$missing" ] || exit 0
case "$missing" in *" orthanc"*) missing="$missing orthanc-dicomweb orthanc-gdcm" ;; esac
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "not installed (needs root and apt):$missing; what needs them is skipped or replaced, and says so"
    exit 0
fi
echo "installing$missing"
# RUNLEVEL=1 keeps the packages from starting their services: the node starts its own, on free ports.
apt-get update -qq
RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null || {
    echo "could not install$missing; what needs them is skipped or replaced, and says so"
}
