// A library that calls hooked functions in its constructor and destructor, before and after everybody else's.
#include "session.h"
#include <poll.h>

static void use(const char *when) {
    char byte = 0;
    int pipes[2];
    MUST(pipe(pipes) == 0 && write(pipes[1], "x", 1) == 1 && read(pipes[0], &byte, 1) == 1 && byte == 'x');
    MUST(recv(pipes[0], &byte, 1, 0) == -1 && errno == ENOTSOCK);
    MUST(poll(&(struct pollfd){.fd = pipes[0]}, 1, 0) == 0 && close(pipes[0]) == 0 && close(pipes[1]) == 0);
    struct session s = open_session();
    query(s);
    MUST(shutdown(s.server, SHUT_RDWR) == 0 && close(s.server) == 0 && close(s.client) == 0);
    (void)!write(1, when, strlen(when));
}

__attribute__((constructor)) static void first(void) { use("constructor\n"); }
__attribute__((destructor)) static void last(void) { use("destructor\nvictim ends well\n"); }
