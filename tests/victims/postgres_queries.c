// A PostgreSQL session, the server with the calls of a backend: N simple|prepared session|wait (for SIGUSR1, pid printed).
#include "session.h"
#include <signal.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

#define ROW "T\0\0\0\x21\0\1" "abalance\0" "\0\0\x40\x0f\0\4\0\0\0\x17\0\4\xff\xff\xff\xff\0\0" "D\0\0\0\x0b\0\1\0\0\0\1\x30"
#define DONE "C\0\0\0\x0dSELECT 1\0" "Z\0\0\0\5I"
#define BIND "B\0\0\0\x18\0P_0\0\0\0\0\1\0\0\0\5" "12345\0\0" "D\0\0\0\6P\0E\0\0\0\x09\0\0\0\0\0S\0\0\0\4"
#define PARSE "P\0\0\0\x40P_0\0SELECT abalance FROM pgbench_accounts WHERE aid = $1;\0\0\0S\0\0\0\4"
#define QUERY "Q\0\0\0\x3dSELECT abalance FROM pgbench_accounts WHERE aid = 12345;\0"
#define WELCOME "R\0\0\0\x08\0\0\0\0" "S\0\0\0\x18server_version\0" "15.3\0" "Z\0\0\0\5I"
#define SAYS(text) text, sizeof text - 1

// The client's side by system calls that nobody overrides, the server's as a backend makes them.
static void exchange(struct session s, int poller, const char *request, ssize_t length, const char *answer, ssize_t answered) {
    char buffer[8192];
    struct epoll_event event = {.events = EPOLLIN};
    MUST(recv(s.server, buffer, sizeof buffer, 0) == -1 && errno == EAGAIN);
    MUST(syscall(SYS_write, s.client, request, length) == length && epoll_wait(poller, &event, 1, -1) == 1);
    MUST(recv(s.server, buffer, sizeof buffer, 0) == length && !memcmp(buffer, request, length));
    MUST(send(s.server, answer, answered, 0) == answered);
    MUST(syscall(SYS_read, s.client, buffer, sizeof buffer) == answered && !memcmp(buffer, answer, answered));
}

int main(int argc, char **argv) {
    int poller = epoll_create1(EPOLL_CLOEXEC), number; sigset_t set;
    struct epoll_event event = {.events = EPOLLIN};
    struct session s = connected(SOCK_NONBLOCK);
    MUST(argc == 4 && sigemptyset(&set) == 0 && sigaddset(&set, SIGUSR1) == 0 && sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    MUST(epoll_ctl(poller, EPOLL_CTL_ADD, s.server, &event) == 0);
    exchange(s, poller, SAYS("\0\0\0\x15\0\3\0\0user\0victim\0\0"), SAYS(WELCOME));
    exchange(s, poller, SAYS(PARSE), SAYS("1\0\0\0\4Z\0\0\0\5I"));
    if (!strcmp(argv[3], "wait")) MUST(printf("%d\n", getpid()) > 0 && fflush(stdout) == 0 && sigwait(&set, &number) == 0);
    for (int n = atoi(argv[1]); n > 0; n--) {
        if (!strcmp(argv[2], "prepared")) exchange(s, poller, SAYS(BIND), SAYS("2\0\0\0\4" ROW DONE));
        else exchange(s, poller, SAYS(QUERY), SAYS(ROW DONE));
    }
    return ends_well();
}
