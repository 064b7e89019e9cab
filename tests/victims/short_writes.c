// N queries whose answers of a megabyte the kernel takes in pieces, from one buffer. With a second argument: after SIGUSR1.
#include "session.h"
#include <pthread.h>
#include <signal.h>
#define HEAD "\1\0\0\1\1" "\5\0\0\2\3def\0" "\5\0\0\3\xfe\0\0\2\0" "\4\0\x10\4\xfd\0\0\x10"
#define END "\5\0\0\5\xfe\0\0\2\0"
static char answer[sizeof HEAD - 1 + (1 << 20) + sizeof END - 1], got[sizeof answer];
static struct session s;
static size_t take(size_t have, int flags) {
    for (ssize_t n; have < sizeof got && (n = recv(s.client, got + have, sizeof got - have, flags)) > 0;) have += n;
    return have;
}
static void *take_all(void *none) { MUST(take(0, 0) == sizeof answer); return none; }
static void ask(void) {
    char command[64] = "\x12\0\0\0\x03" "SELECT 4711 AS n1", buffer[64];
    MUST(send(s.client, command, 22, 0) == 22 && recv(s.server, buffer, 4, 0) == 4 && recv(s.server, buffer, 18, 0) == 18);
}

int main(int argc, char **argv) {
    int number, pieces = 0, refused = 0, little = 1 << 14, queries = atoi(argv[1]); sigset_t set; pthread_t thread;
    MUST(sigemptyset(&set) == 0 && sigaddset(&set, SIGUSR1) == 0 && sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    s = open_session();
    MUST(setsockopt(s.client, SOL_SOCKET, SO_RCVBUF, &little, sizeof little) + setsockopt(s.server, SOL_SOCKET, SO_SNDBUF, &little, sizeof little) == 0);
    memcpy(answer, HEAD, sizeof HEAD - 1); memcpy(answer + sizeof answer - (sizeof END - 1), END, sizeof END - 1);
    if (argc > 2) MUST(printf("%d\n", getpid()) > 0 && fflush(stdout) == 0 && sigwait(&set, &number) == 0);
    ask();  // The first one is taken whole.
    MUST(pthread_create(&thread, NULL, take_all, NULL) == 0 && send(s.server, answer, sizeof answer, 0) == sizeof answer && pthread_join(thread, NULL) == 0);
    for (int n = 1; n < queries; n++) {
        ask();
        for (size_t sent = 0, have = 0; have < sizeof answer; ) {
            for (int twice = 0; twice < 2 && sent < sizeof answer; twice++) {
                ssize_t taken = send(s.server, answer + sent, sizeof answer - sent, MSG_DONTWAIT);
                if (taken < 0) refused++; else sent += taken, pieces++;
            }
            have = take(have, sent < sizeof answer ? MSG_DONTWAIT : 0);
        }
    }
    MUST(pieces > 2 * (queries - 1) && refused > 0 && !memcmp(got, answer, sizeof answer));
    return query(s), close(s.client), close(s.server), ends_well();
}
