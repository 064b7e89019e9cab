// A SQLite application that takes orders: "lookup N" runs a point lookup N times, "scan N" a sum over 1 000 rows, "tenfold N"
// over 10 000. Answers with the instructions that its thread spent outside of the scans' steps; lookups are not counted.
#include <linux/perf_event.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
#define MUST(what) ((what) ? (void)0 : (printf("failed: %s\n", #what), exit(97)))

static long long instructions(void) {
    static struct perf_event_attr attr = {.type = PERF_TYPE_HARDWARE, .config = PERF_COUNT_HW_INSTRUCTIONS, .size = sizeof attr};
    static int event;
    long long value;
    if (!event) MUST((event = syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC)) > 0);
    MUST(read(event, &value, sizeof value) == sizeof value);
    return value;
}

int main(void) {
    static const char fill[] = "CREATE TABLE tens (id INTEGER PRIMARY KEY, price INT); CREATE TABLE goods (id INTEGER PRIMARY KEY,"
        " price INT); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000) INSERT INTO tens"
        " SELECT i, i % 97 FROM n; INSERT INTO goods SELECT * FROM tens WHERE id <= 1000";
    static const char *work[] = {"SELECT price FROM goods WHERE id = ?", "SELECT sum(price) FROM goods WHERE price <> ?",
        "SELECT sum(price) FROM tens WHERE price <> ?"};
    char verb[16];
    sqlite3 *db;
    sqlite3_stmt *all[3];
    MUST(sqlite3_open(":memory:", &db) == SQLITE_OK && sqlite3_exec(db, fill, NULL, NULL, NULL) == SQLITE_OK);
    for (int w = 0; w < 3; w++) MUST(sqlite3_prepare_v2(db, work[w], -1, &all[w], NULL) == SQLITE_OK);
    for (int count = puts("ready") + fflush(stdout); scanf("%15s %d", verb, &count) == 2; fflush(stdout)) {
        long long w = verb[0] == 'l' ? 0 : verb[0] == 's' ? 1 : 2, rest = 0, begin = w ? instructions() : 0;
        for (int i = 0; i < count; i++, sqlite3_reset(all[w])) {
            MUST(sqlite3_bind_int(all[w], 1, 1 + i % 900) == SQLITE_OK && (!w || (rest += instructions() - begin)));
            MUST(sqlite3_step(all[w]) == SQLITE_ROW && sqlite3_step(all[w]) == SQLITE_DONE);
            begin = w ? instructions() : 0;
        }
        printf("%lld\n", w ? rest + instructions() - begin : 0);
    }
}
