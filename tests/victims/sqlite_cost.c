// An application with SQLite in it that times its own prepared statements: a point lookup and a scan of 1 000 rows.
// Reads "lookup N" or "scan N" from its standard input and answers with N times in nanoseconds, each on a line.
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LOOKUPS_AT_ONCE = 20 };  // A clock reading costs a fiftieth of a lookup: so they are timed together.

static double now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static sqlite3_stmt *prepare(sqlite3 *db, const char *sql) {
    sqlite3_stmt *statement;
    if (sqlite3_prepare_v2(db, sql, -1, &statement, NULL) != SQLITE_OK) exit(97);
    return statement;
}

static void run(sqlite3_stmt *statement, int rows) {
    for (int i = 0; i < rows; i++)
        if (sqlite3_step(statement) != SQLITE_ROW) exit(98);
    if (sqlite3_step(statement) != SQLITE_DONE) exit(99);
    sqlite3_reset(statement);
}

int main(void) {
    char verb[16];
    int count;
    sqlite3 *db;
    if (sqlite3_open(":memory:", &db) != SQLITE_OK) exit(96);
    sqlite3_exec(db, "CREATE TABLE goods (id INTEGER PRIMARY KEY, name TEXT); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1"
                     " FROM n WHERE i < 10000) INSERT INTO goods SELECT i, 'thing ' || i FROM n", NULL, NULL, NULL);
    sqlite3_stmt *lookup = prepare(db, "SELECT name FROM goods WHERE id = ?"), *scan = prepare(db, "SELECT id FROM goods LIMIT 1000");
    puts("ready");
    fflush(stdout);
    while (scanf("%15s %d", verb, &count) == 2) {
        int at_once = strcmp(verb, "scan") ? LOOKUPS_AT_ONCE : 1;
        double *times = malloc(count * sizeof *times);
        for (int i = 0; i < count; i++) {
            double start = now_ns();
            if (at_once == 1) run(scan, 1000);
            else for (int j = 0; j < at_once; j++) {
                sqlite3_bind_int(lookup, 1, 1 + (i * 617 + j * 97) % 10000);
                run(lookup, 1);
            }
            times[i] = (now_ns() - start) / at_once;
        }
        for (int i = 0; i < count; i++) printf("%.1f\n", times[i]);
        fflush(stdout);
        free(times);
    }
    return 0;
}
