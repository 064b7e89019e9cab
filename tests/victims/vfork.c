// A vfork child closes and replaces descriptors before exec: the parent's session must not notice.
#include "session.h"
#include <sys/wait.h>

int main(void) {
    struct session s = open_session();
    for (int i = 0; i < 30; i++) {
        query(s);
        pid_t pid = vfork();
        if (pid == 0) {
            dup2(2, s.server); // in the child's table only
            close(s.client);
            execl("/bin/sh", "sh", "-c", "exit 61", NULL);
            _exit(99);
        }
        int status;
        MUST(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 61);
    }
    query(s);
    return ends_well();
}
