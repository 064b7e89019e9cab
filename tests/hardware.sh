#!/usr/bin/env bash
# Boots an emulated aarch64 machine that has hardware counters and runs perquery's checks inside it: cycles and
# instructions, user-space reads, multiplexing, and what the library costs in instructions.
#
#     tests/hardware.sh          SQLite
#     tests/hardware.sh --all    and the servers
#
# Ends with "N passed, N failed" on a line of its own and status 0 or 1. hardware/README.md says how it works.
set -euo pipefail
here=$(cd "$(dirname "$0")/hardware" && pwd)
root=$(cd "$here/../.." && pwd)
cd "$root"

# How long the guest may run, in seconds.
limit=${PERQUERY_HARDWARE_SECONDS:-240}
parts=(sqlite)
case "${1:-}" in
'') ;;
--all)
    parts+=(servers)
    limit=${PERQUERY_HARDWARE_SECONDS:-1800}
    ;;
*)
    echo "usage: tests/hardware.sh [--all]" >&2
    exit 2
    ;;
esac

target=$(mkdir -p "${CARGO_TARGET_DIR:-target}" && cd "${CARGO_TARGET_DIR:-target}" && pwd)
work=$target/hardware
skipped=$target/tests-skipped.txt

# shellcheck source=hardware/prepare.sh
. "$here/prepare.sh"
# shellcheck source=hardware/guest.sh
. "$here/guest.sh"
if [ ${#parts[@]} -gt 1 ]; then
    # shellcheck source=hardware/servers.sh
    . "$here/servers.sh"
fi

install_missing || {
    line="skipped: hardware counters in an emulated machine: $(missing_packages | tr '\n' ' ')are not installed, and \
this is not root on Debian"
    echo "$line"
    echo "$line" >>"$skipped"
    exit 0
}
mkdir -p "$work"
for part in "${parts[@]}"; do
    unpack "$part"
done
if [ ${#parts[@]} -gt 1 ]; then
    data_directories
    parts+=(data)
fi
build
pack_initramfs
boot
report
