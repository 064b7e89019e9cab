// A signal every 200 us whose handler sends and receives on a socket, while the program does the same on a session.
#include "session.h"
#include <signal.h>
#include <sys/time.h>

static int pair[2];
static volatile int alarms;

static void handler(int signal) {
    char byte = 0x47;
    (void)signal;
    errno = 4711;
    if (send(pair[0], &byte, 1, MSG_DONTWAIT) != 1 || recv(pair[1], &byte, 1, MSG_DONTWAIT) != 1 || byte != 0x47) _exit(96);
    if (errno != 4711) _exit(95); // a successful call leaves errno alone
    alarms++;
}

int main(void) {
    struct itimerval every = {{0, 200}, {0, 200}};
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    struct session s = open_session();
    MUST(sigaction(SIGALRM, &action, NULL) == 0 && setitimer(ITIMER_REAL, &every, NULL) == 0);
    for (int i = 0; i < 20000 || alarms < 50; i++) {
        errno = 0;
        query(s);
    }
    MUST(setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL) == 0);
    query(s);
    return ends_well();
}
