// A library in which a minute passes between two looks at the clock, for statements that take longer than a test may.
#define JUMP_SECONDS 61
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now)
{
    static int looks;
    int answer = syscall(SYS_clock_gettime, clock, now);
    if (answer == 0 && clock == CLOCK_MONOTONIC)
        now->tv_sec += JUMP_SECONDS * __atomic_add_fetch(&looks, 1, __ATOMIC_RELAXED);
    return answer;
}
