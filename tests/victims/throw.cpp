// C++ exceptions out of a function that SQLite calls in a step: they pass through the hook, and work goes on after.
#include <cstdio>
#include <sqlite3.h>

struct surprise { int number; };
static void thrower(sqlite3_context *, int, sqlite3_value **) { throw surprise{4711}; }

static int count(sqlite3 *db) {
    sqlite3_stmt *statement;
    sqlite3_prepare_v2(db, "SELECT 815 + 1", -1, &statement, nullptr);
    int rows = 0;
    while (sqlite3_step(statement) == SQLITE_ROW) rows += sqlite3_column_int(statement, 0);
    sqlite3_finalize(statement);
    return rows;
}

int main() {
    sqlite3 *db;
    sqlite3_config(SQLITE_CONFIG_SINGLETHREAD); // else the exception leaves the connection's mutex locked
    sqlite3_open(":memory:", &db);
    sqlite3_create_function(db, "surprise", 0, SQLITE_UTF8, nullptr, thrower, nullptr, nullptr);
    for (int i = 0; i < 25; i++) {
        sqlite3_stmt *statement;
        sqlite3_prepare_v2(db, "SELECT surprise()", -1, &statement, nullptr);
        try {
            sqlite3_step(statement);
            std::puts("not thrown");
        } catch (const surprise &caught) {
            if (i == 0) std::printf("caught %d\n", caught.number);
        }
        if (count(db) != 816) std::puts("wrong answer");
    }
    std::puts("victim ends well");
    return 0;
}
