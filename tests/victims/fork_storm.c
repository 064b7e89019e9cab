// 16 threads fork while others are inside hooks; every child must come to its end.
#include "session.h"
#include <pthread.h>
#include <sys/wait.h>

static void *busy(void *unused) {
    struct session s = open_session();
    for (int i = 0; i < 12; i++) {
        query(s);
        pid_t pid = fork();
        if (pid == 0) {
            query(s);
            _exit(53);
        }
        int status;
        MUST(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 53);
        query(s);
    }
    return unused;
}

int main(void) {
    pthread_t threads[16];
    for (int i = 0; i < 16; i++) MUST(pthread_create(&threads[i], NULL, busy, NULL) == 0);
    for (int i = 0; i < 16; i++) MUST(pthread_join(threads[i], NULL) == 0);
    return ends_well();
}
