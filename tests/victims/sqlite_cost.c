// An application that times its own prepared statements: a point lookup by id in memory, one in a file (its argument), one by another
// key of 200 000 rows in memory, and a scan of 1 000 rows. Reads "lookup N", "file N", "key N" or "scan N"; answers N lines of ns.
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#define MUST(what) do { if (!(what)) { printf("failed: %s\n", #what); exit(97); } } while (0)

static double now_ns(void) { struct timespec t; return clock_gettime(CLOCK_MONOTONIC, &t), t.tv_sec * 1e9 + t.tv_nsec; }
int main(int argc, char **argv) {
    static const char fill[] = "PRAGMA journal_mode = WAL; CREATE TABLE goods (id INTEGER PRIMARY KEY, name TEXT); WITH RECURSIVE n(i)"
        " AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000) INSERT INTO goods SELECT i, 'thing ' || i FROM n";
    static const char fill_many[] = "CREATE TABLE many (id INTEGER PRIMARY KEY, code INT UNIQUE, name TEXT); WITH RECURSIVE n(i) AS"
        " (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000) INSERT INTO many SELECT i, i, 'thing ' || i FROM n";
    static const char lookup[] = "SELECT name FROM goods WHERE id = ?";
    static const struct { const char *sql; int file, rows, at_once; unsigned keys; } work[] = {  // A clock reading costs 3 %: 20 at once.
        {lookup, 0, 1, 20, 9000}, {lookup, 1, 1, 20, 9000}, {"SELECT name FROM many WHERE code = ?", 0, 1, 20, 200000},
        {"SELECT id FROM goods WHERE id > ? LIMIT 1000", 0, 1000, 1, 9000}};
    char verb[16];
    static sqlite3 *dbs[2];
    static sqlite3_stmt *statements[sizeof work / sizeof *work];
    int count;
    for (int f = 0; f < 2; f++)
        MUST(argc == 2 && !sqlite3_open(f ? argv[1] : ":memory:", &dbs[f]) && !sqlite3_exec(dbs[f], fill, NULL, NULL, NULL));
    for (puts("ready"), fflush(stdout); scanf("%15s %d", verb, &count) == 2; fflush(stdout)) {
        int w = verb[0] == 'l' ? 0 : verb[0] == 'f' ? 1 : verb[0] == 'k' ? 2 : 3;
        if (w == 2 && !statements[w]) MUST(!sqlite3_exec(dbs[0], fill_many, NULL, NULL, NULL));
        if (!statements[w]) MUST(!sqlite3_prepare_v2(dbs[work[w].file], work[w].sql, -1, &statements[w], NULL));
        for (int i = 0; i < count; i++) {
            double start = now_ns();
            for (int j = 0; j < work[w].at_once; j++) {
                MUST(!sqlite3_bind_int(statements[w], 1, 1 + (i * 61703u + j * 9973u) % work[w].keys));
                for (int row = 0; row < work[w].rows; row++) MUST(sqlite3_step(statements[w]) == SQLITE_ROW);
                MUST(sqlite3_step(statements[w]) == SQLITE_DONE && sqlite3_reset(statements[w]) == SQLITE_OK);
            }
            printf("%.1f\n", (now_ns() - start) / work[w].at_once);
        }
    }
    return 0;
}
