// The program closes every descriptor it did not open, then reuses all numbers: its files must hold its own bytes only.
#include "session.h"
#include <fcntl.h>
#include <sys/resource.h>

int main(int count, char **words) {
    struct rlimit limit;
    char byte[2];
    query(open_session());
    if (count > 1 && !strcmp(words[1], "closefrom")) closefrom(3);
    else if (count > 1) for (int fd = 3; fd < 4096; fd++) close(fd);
    else MUST(close_range(3, ~0U, 0) == 0);
    MUST(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    int last = limit.rlim_cur < 4096 ? limit.rlim_cur : 4096;
    char path[] = "/tmp/perquery-victim-XXXXXX";
    int file = mkstemp(path);
    MUST(file >= 0 && unlink(path) == 0 && write(file, "v", 1) == 1);
    for (int fd = 3; fd < last - 8; fd++)
        if (fd != file) MUST(dup2(file, fd) == fd);
    for (int fd = 3; fd < 20; fd++) close(fd == file ? 20 : fd);
    struct session s = open_session();
    for (int i = 0; i < 100; i++) query(s);
    MUST(lseek(file, 0, SEEK_END) == 1 && pread(file, byte, 2, 0) == 1 && byte[0] == 'v');
    return ends_well();
}
