// exec keeps what the program keeps open and nothing else: the second image counts what it got.
#include "session.h"
#include <dirent.h>
#include <fcntl.h>

static int files, foreign;

// Counts descriptors that pass an exec, apart from the standard ones; foreign ones are no files, sockets or pipes.
static void count_descriptors(void) {
    DIR *fds = opendir("/proc/self/fd");
    for (struct dirent *entry; (entry = readdir(fds));) {
        char path[64], text[64] = {0};
        int fd = atoi(entry->d_name);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        if (fd <= 2 || readlink(path, text, sizeof text - 1) < 0) continue;
        if (!strncmp(text, "/memfd:", 7) || !strncmp(text, "anon_inode:", 11)) foreign++;
        else if (!(fcntl(fd, F_GETFD) & FD_CLOEXEC)) files++;
    }
    closedir(fds);
}

int main(int count, char **words) {
    char number[16];
    struct session s = open_session();
    query(s);
    if (count == 1) {
        MUST(dup2(2, 77) == 77); // without CLOEXEC: must survive
        count_descriptors();
        snprintf(number, sizeof number, "%d", files);
        execl("/proc/self/exe", words[0], number, NULL);
    }
    count_descriptors();
    printf("fd 77 is open: %d\n", fcntl(77, F_GETFD) == 0);
    printf("files as before: %d, foreign ones beyond the own segment: %d\n", files == atoi(words[1]), foreign > 1);
    return ends_well();
}
