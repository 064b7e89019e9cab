// An application that runs each line of its standard input as a statement, prepared and finalized for this line alone, and
// answers with the statement's address.
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define MUST(what) do { if (!(what)) { printf("failed: %s\n", #what); exit(97); } } while (0)

int main(void) {
    char line[512];
    sqlite3 *db;
    MUST(sqlite3_open(":memory:", &db) == SQLITE_OK);
    for (puts("ready"), fflush(stdout); fgets(line, sizeof line, stdin); fflush(stdout)) {
        sqlite3_stmt *statement;
        MUST(sqlite3_prepare_v2(db, line, (int)strcspn(line, "\n"), &statement, NULL) == SQLITE_OK);
        while (sqlite3_step(statement) == SQLITE_ROW) {}
        printf("%p\n", (void *)statement);
        MUST(sqlite3_finalize(statement) == SQLITE_OK);
    }
    MUST(sqlite3_close(db) == SQLITE_OK);
    return 0;
}
