// A session that runs as many queries as its first argument says, then ends. The second argument is "session"; or "wait" to
// print the pid and begin after SIGUSR1; or "strangers" to exchange as much over a socket that is no session.
#include "session.h"
#include <pthread.h>
#include <signal.h>

// A server has more threads than the one that is looked at.
static void *another(void *unused) { for (;;) pause(); return unused; }

// What query() sends and receives, between two ends that nobody accepted.
static void exchange(int ends[2]) {
    char buffer[64] = "";
    MUST(send(ends[0], buffer, 22, 0) == 22);
    MUST(recv(ends[1], buffer, 4, MSG_WAITALL) == 4 && recv(ends[1], buffer, 18, MSG_WAITALL) == 18);
    MUST(send(ends[1], buffer, 11, 0) == 11);
    MUST(recv(ends[0], buffer, 11, MSG_WAITALL) == 11);
}

int main(int argc, char **argv) {
    MUST(argc == 3);
    int signal, ends[2], queries = atoi(argv[1]), strangers = !strcmp(argv[2], "strangers");
    sigset_t set;
    pthread_t thread;
    MUST(sigemptyset(&set) == 0 && sigaddset(&set, SIGUSR1) == 0 && sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    MUST(pthread_create(&thread, NULL, another, NULL) == 0);
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    struct session s = open_session();
    if (!strcmp(argv[2], "wait")) {
        printf("%d\n", getpid());
        fflush(stdout);
        MUST(sigwait(&set, &signal) == 0);
    }
    for (int i = 0; i < queries; i++) {
        if (strangers) exchange(ends);
        else query(s);
    }
    close(s.client);
    close(s.server);
    return ends_well();
}
