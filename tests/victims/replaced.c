// dup2 over every descriptor that the program does not know: whoever owned it must not write to the new file.
#include "session.h"
#include <dirent.h>
#include <fcntl.h>

int main(void) {
    char path[] = "/tmp/perquery-victim-XXXXXX";
    int file = mkstemp(path), known = file;
    MUST(file >= 0 && unlink(path) == 0);
    struct session s = open_session();
    query(s);
    DIR *fds = opendir("/proc/self/fd");
    for (struct dirent *entry; (entry = readdir(fds));) {
        int fd = atoi(entry->d_name);
        if (fd > 2 && fd != known && fd != s.server && fd != s.client && fd != dirfd(fds)) MUST(dup2(file, fd) == fd);
    }
    closedir(fds);
    for (int i = 0; i < 1000; i++) query(s);
    struct session other = open_session();
    for (int i = 0; i < 1000; i++) query(other);
    printf("%ld foreign bytes\n", (long)lseek(file, 0, SEEK_END));
    return ends_well();
}
