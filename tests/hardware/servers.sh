# The servers' data directories: made on this machine by its own MariaDB and PostgreSQL, used by the guest's. Both formats
# are the same on every little-endian 64-bit machine. Sourced by ../hardware.sh after prepare.sh.
# shellcheck shell=bash disable=SC2154

postgres_programs=/usr/lib/postgresql/15/bin
needed_here+=(
    mariadbd:mariadb-server-core mariadb-install-db:mariadb-server-core my_print_defaults:mariadb-client-core
    $postgres_programs/initdb:postgresql-15 setpriv:util-linux
)

# One table, in SQL of both servers but for what makes a thousand rows ($1: name of the number, $2: where from) and a
# character ($3).
sql() {
    printf '%s\n' \
        "CREATE TABLE price (id INT PRIMARY KEY, k INT NOT NULL, c CHAR(120) NOT NULL);" \
        "INSERT INTO price SELECT $1, $1 * 7 % 1000, REPEAT($3(97 + $1 % 26), 100) FROM $2;"
}

mariadb_data() {
    local options=(--no-defaults "--datadir=$1")
    [ "$(id -u)" != 0 ] || options+=(--user=root)
    mariadb-install-db "${options[@]}" --auth-root-authentication-method=normal --skip-test-db \
        --innodb-log-file-size=4M --innodb-undo-tablespaces=0 &&
        { printf "%s;\n" "CREATE DATABASE test" "USE test" && sql seq seq_1_to_1000 CHAR; } |
        mariadbd "${options[@]}" --bootstrap --innodb-buffer-pool-size=16M --innodb-log-file-size=4M &&
        [ -e "$1/test/price.ibd" ]
}

postgres_data() {
    local as=() directory=$1
    mkdir "$directory"
    # The server refuses root.
    if [ "$(id -u)" = 0 ]; then
        as=(setpriv --reuid=postgres --regid=postgres --clear-groups)
        chown postgres: "$directory"
    fi
    (
        cd /
        # A time zone that the server knows without a data base of them.
        TZ=GMT "${as[@]}" $postgres_programs/initdb --no-sync --no-instructions -A trust -E UTF8 --locale=C \
            --wal-segsize=1 -U postgres -D "$directory" &&
            { sql i "generate_series(1, 1000) AS i" CHR && echo "VACUUM (FREEZE, ANALYZE);" && echo "CHECKPOINT;"; } |
            "${as[@]}" $postgres_programs/postgres --single -D "$directory" postgres &&
            echo "SELECT 'rows: ' || COUNT(*) FROM price;" |
            "${as[@]}" $postgres_programs/postgres --single -D "$directory" postgres | grep -q 'rows: 1000'
    )
}

# Makes them once for each version of the servers and of this file; sets unpacked[data].
data_directories() {
    local key to making log=$work/data.log
    key=$( (cat "$here/servers.sh" && mariadbd --version && $postgres_programs/postgres --version) |
        sha256sum | cut -c1-16)
    to=$work/data-$key
    unpacked[data]=$to
    [ ! -e "$to" ] || return 0
    rm -rf "$work"/data-*
    # Not below somebody's home: PostgreSQL's user could not get there.
    making=$(mktemp -d)
    chmod 755 "$making"
    mkdir -p "$making/root/servers"
    if ! { mariadb_data "$making/root/servers/mariadb" && postgres_data "$making/root/servers/postgres"; } >"$log" 2>&1
    then
        echo "the servers' data directories could not be made; the end of $log:" >&2
        tail -n 30 "$log" >&2
        exit 1
    fi
    cp -a "$making" "$to.new" && rm -rf "$making" && mv "$to.new" "$to"
}
