// A signal handler jumps out of a blocking recv; the session is used on.
#include "session.h"
#include <setjmp.h>
#include <signal.h>
#include <sys/time.h>

static sigjmp_buf back;
static void handler(int signal) { siglongjmp(back, signal); }

int main(void) {
    struct session s = open_session();
    signal(SIGALRM, handler);
    volatile int jumps = 0;
    while (jumps < 40) {
        if (sigsetjmp(back, 1) == 0) {
            char byte;
            MUST(setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 700}}, NULL) == 0);
            recv(s.server, &byte, 1, 0);
            MUST(!"nothing was sent");
        }
        jumps++;
        query(s);
    }
    printf("%d jumps\n", jumps);
    return ends_well();
}
