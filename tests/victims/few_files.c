// With room for 64 descriptors the program may use nearly all of them, and gets the usual error at the end.
#include "session.h"
#include <fcntl.h>
#include <sys/resource.h>

int main(void) {
    struct rlimit limit;
    MUST(getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur == 64);
    struct session s = open_session();
    query(s);
    int files = 0;
    while (open("/dev/null", O_RDONLY) >= 0) files++;
    printf("at least 50: %d, errno %d\n", files >= 50, errno);
    for (int i = 0; i < 500; i++) query(s);
    return ends_well();
}
