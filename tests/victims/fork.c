// fork and _Fork while a session is open: children use their own sessions, the parent's goes on.
#include "session.h"
#include <sys/wait.h>

int main(void) {
    struct session mine = open_session();
    query(mine);
    for (int child = 0; child < 8; child++) {
        pid_t pid = child % 2 ? _Fork() : fork();
        if (pid == 0) {
            query(mine); // inherited
            struct session own = open_session();
            for (int i = 0; i < 21; i++) query(own);
            _exit(40 + child);
        }
        int status;
        MUST(waitpid(pid, &status, 0) == pid);
        printf("child %d: status %x\n", child, status);
        query(mine);
    }
    return ends_well();
}
