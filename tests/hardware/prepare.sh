# What the guest needs: programs of this machine, Debian's arm64 packages, our own build. Sourced by ../hardware.sh, which
# sets root, here, work, target and parts.
# shellcheck shell=bash disable=SC2154

triple=aarch64-unknown-linux-gnu
# The cross toolchain's own target directory: host programs in it are made by another compiler than ours.
build_dir=$target/hardware/build

# Program or file : Debian package.
needed_here=(
    qemu-system-aarch64:qemu-system-arm cpio:cpio dpkg:dpkg timeout:coreutils
    aarch64-linux-gnu-gcc:gcc-aarch64-linux-gnu
    /usr/aarch64-linux-gnu/lib/libc.so.6:libc6-dev-arm64-cross
    /usr/share/doc/rustc-web:rustc-web
    /usr/share/doc/libstd-rust-web-dev:libstd-rust-web-dev:arm64
)

# Prints the packages of this machine that are missing.
missing_packages() {
    local entry thing
    for entry in "${needed_here[@]}"; do
        thing=${entry%%:*}
        case $thing in
        /*) [ -e "$thing" ] || echo "${entry#*:}" ;;
        *) command -v "$thing" >/dev/null || echo "${entry#*:}" ;;
        esac
    done
    dpkg --print-foreign-architectures 2>/dev/null | grep -qx arm64 || echo "packages of arm64"
}

# Installs what is missing; fails where that can't be done.
install_missing() {
    local packages
    [ -n "$(missing_packages)" ] || return 0
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
    export DEBIAN_FRONTEND=noninteractive
    dpkg --add-architecture arm64
    apt-get -q update
    mapfile -t packages < <(missing_packages)
    # A package's own server must not start.
    local policy=/usr/sbin/policy-rc.d made=
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy && made=yes
    fi
    [ ${#packages[@]} = 0 ] || apt-get -q install -y --no-install-recommends "${packages[@]}" || true
    [ -z "$made" ] || rm -f $policy
    [ -z "$(missing_packages)" ]
}

# The kernel behind Debian's meta package.
kernel_package() {
    apt-cache show linux-image-cloud-arm64:arm64 |
        sed -n 's/^Depends: \(linux-image-[^ ]*\).*/\1/p' | sed q
}

# Unpacks the packages of $here/packages.PART to $work/PART-HASH, once for each content of the list; sets
# unpacked[PART].
declare -A unpacked
unpack() {
    local part=$1 list=$here/packages.$1 hash packages to
    hash=$(sha256sum <"$list" | cut -c1-16)
    to=$work/$part-$hash
    unpacked[$part]=$to
    [ ! -e "$to/done" ] || return 0
    rm -rf "$to"
    mkdir -p "$to/debs" "$to/root"
    # apt's own user downloads.
    chmod 777 "$to/debs"
    mapfile -t packages < <(sed 's/#.*//; s/[[:space:]]//g; /^$/d' "$list")
    packages=("${packages[@]/%/:arm64}")
    if [ "$part" = sqlite ]; then
        packages+=("$(kernel_package):arm64")
    fi
    (cd "$to/debs" && apt-get -q download "${packages[@]}")
    local deb
    for deb in "$to"/debs/*.deb; do
        case $deb in
        */linux-image-*)
            dpkg -x "$deb" "$to/kernel"
            mv "$to"/kernel/boot/vmlinuz-* "$to/vmlinuz"
            rm -rf "$to/kernel"
            ;;
        *) dpkg -x "$deb" "$to/root" ;;
        esac
    done
    # PostgreSQL's bitcode is larger than the server, and nobody converts character sets.
    rm -rf "$to/debs" "$to"/root/usr/share/{doc,man,locale,lintian} \
        "$to"/root/usr/lib/{postgresql/*/lib/bitcode,aarch64-linux-gnu/gconv}
    touch "$to/done"
}

# Runs Debian's compiler for the guest by the ordinary cargo.
cross_cargo() {
    env -u CARGO_BUILD_TARGET RUSTC=/usr/bin/rustc RUSTFLAGS="-D warnings" \
        CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc CARGO_TARGET_DIR="$build_dir" \
        cargo "$@" --release --target "$triple"
}

# Builds the library as it is shipped, and the command and the checks quickly: nobody measures those.
build() {
    local quick=(CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
        CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_DEBUG=0)
    cross_cargo build -p perquery-preload
    (
        export "${quick[@]}"
        cross_cargo build -p perquery-cli -p perquery-tests --bin perquery --bin hardware
        test_binary -p perquery-tests --test integration >"$work/integration.path"
        test_binary -p perquery-agent --features reader --lib >"$work/agent.path"
    )
    victims
}

# Builds a test binary and prints its path.
test_binary() {
    cross_cargo test --no-run "$@" 2>&1 | tee >(cat >&2) | sed -n 's/.*Executable .*(\(.*\))$/\1/p'
}

# The SQLite programs that the checks run, linked with the guest's own library.
victims() {
    local sysroot=${unpacked[sqlite]}/root source
    mkdir -p "$work/victims"
    for source in tests/hardware/victims/*.c; do
        aarch64-linux-gnu-gcc -O2 -Wall -Werror -D_GNU_SOURCE -I "$sysroot/usr/include" \
            -o "$work/victims/$(basename "$source" .c)" "$source" \
            "$sysroot"/usr/lib/aarch64-linux-gnu/libsqlite3.so.0 -Wl,--allow-shlib-undefined
    done
    local words line
    mkdir -p "$work/made"
    sed '/^#/d' "$here/victims.elsewhere" | while read -r line; do
        read -ra words <<<"$line"
        aarch64-linux-gnu-gcc -O1 -g -Wall -Werror -D_GNU_SOURCE -pthread -o "$work/made/$line" \
            "tests/victims/${words[0]}" "${words[@]:1}"
    done
}
