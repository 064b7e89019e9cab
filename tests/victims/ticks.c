// What sysconf() says of everything but the length of a tick, and times() with no buffer.
#include <errno.h>
#include <stdio.h>
#include <sys/times.h>
#include <unistd.h>

int main(void)
{
    for (int name = -1; name < 260; name++) {
        if (name == _SC_CLK_TCK || name == _SC_AVPHYS_PAGES)
            continue;
        errno = 77;
        long value = sysconf(name);
        printf("%d %ld %d\n", name, value, errno);
    }
    errno = 77;
    clock_t first = times(NULL), second = times(NULL);
    printf("times without a buffer: %d %d\n", first > 0 && second >= first, errno);
    puts("victim ends well");
    return 0;
}
