# The guest: its initramfs, its boot, and what it said. Sourced by ../hardware.sh after prepare.sh.
# shellcheck shell=bash disable=SC2154

# Copies everything into one folder and packs it, unless the same content was packed before; sets initramfs.
pack_initramfs() {
    local stage=$work/stage part release=$build_dir/$triple/release key
    key=$( (
        printf '%s\n' "${parts[@]}" "${unpacked[@]}"
        sha256sum "$here/init" "$release"/{libperquery.so,perquery,hardware} "$work"/{victims,made}/* \
            "$(cat "$work/integration.path")" "$(cat "$work/agent.path")"
    ) | sha256sum | cut -c1-16)
    initramfs=$work/initramfs-$key.gz
    [ ! -e "$initramfs" ] || return 0
    rm -rf "$stage" "$work"/initramfs-*
    mkdir -p "$stage"/{proc,sys,dev,tmp,root,run,perquery,victims,made}
    for part in "${parts[@]}"; do
        cp -a "${unpacked[$part]}/root/." "$stage/"
    done
    install -m 755 "$here/init" "$stage/init"
    install -m 755 "$release"/{libperquery.so,perquery,hardware} "$stage/perquery/"
    install -m 755 "$(cat "$work/integration.path")" "$stage/perquery/integration"
    install -m 755 "$(cat "$work/agent.path")" "$stage/perquery/agent"
    install -m 755 "$work"/victims/* "$stage/victims/"
    install -m 755 "$work"/made/* "$stage/made/"
    printf 'root:x:0:0:root:/root:/bin/sh\nserver:x:1000:1000::/tmp:/bin/sh\n' >"$stage/etc/passwd"
    printf 'root:x:0:\nserver:x:1000:\n' >"$stage/etc/group"
    printf '127.0.0.1 localhost\n' >"$stage/etc/hosts"
    printf '%s\n' "${parts[@]}" >"$stage/parts"
    (cd "$stage" && find . | LC_ALL=C sort | cpio --quiet -o -H newc | gzip -1) >"$initramfs.new"
    mv "$initramfs.new" "$initramfs"
    rm -rf "$stage"
}

# Runs the guest until it powers off. An instruction takes a nanosecond of its clock (-icount shift=0), and its idle time
# takes none of ours (sleep=off): so runs repeat.
boot() {
    local status=0 memory=1024
    [ ${#parts[@]} = 1 ] || memory=3072
    console=$work/console.log
    : >"$console"
    timeout --kill-after=5 "$limit" qemu-system-aarch64 -M virt -cpu max,pmu=on -icount shift=0,sleep=off \
        -m "$memory" -display none -monitor none -serial "file:$console" -no-reboot -net none \
        -kernel "${unpacked[sqlite]}/vmlinuz" -initrd "$initramfs" \
        -append "console=ttyAMA0 loglevel=1 panic=-1" </dev/null || status=$?
    case $status in
    0) ;;
    124 | 137) loud "the guest was not done after $limit s" ;;
    *) loud "qemu-system-aarch64 ended with status $status" ;;
    esac
}

# The console's tail, and the end.
loud() {
    printf '%s; the end of its console (%s):\n' "$1" "$console" >&2
    tail -n 60 "$console" | tr -d '\r' >&2
    exit 1
}

# Shows the guest's lines for people, keeps those for machines, and judges. The guest writes "| " before the former and
# "@ " before the latter.
report() {
    local result=$work/result.jsonl summary
    tr -d '\r' <"$console" | sed -n 's/^| //p'
    tr -d '\r' <"$console" | sed -n 's/^@ //p' >"$result"
    summary=$(tail -n 1 "$result" | sed -n 's/^{"passed":\([0-9]*\),"failed":\([0-9]*\)}$/\1 \2/p')
    [ -n "$summary" ] || loud "the guest did not get to the end of its checks"
    echo "for machines: $result"
    printf '%s passed, %s failed\n' "${summary% *}" "${summary#* }"
    [ "${summary#* }" = 0 ]
}
