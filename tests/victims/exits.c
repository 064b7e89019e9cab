// The ways out of a process, by name, with a session open and an atexit handler that uses it.
#include "session.h"
#include <signal.h>

static struct session s;
static void last_words(void) { query(s); }

int main(int count, char **words) {
    const char *way = count > 1 ? words[1] : "return";
    s = open_session();
    query(s);
    atexit(last_words);
    at_quick_exit(last_words);
    ends_well();
    if (!strcmp(way, "exit")) exit(41);
    if (!strcmp(way, "_exit")) _exit(42);
    if (!strcmp(way, "quick_exit")) quick_exit(43);
    if (!strcmp(way, "abort")) abort();
    if (!strcmp(way, "kill")) raise(SIGKILL);
    if (!strcmp(way, "term")) raise(SIGTERM);
    return 44;
}
