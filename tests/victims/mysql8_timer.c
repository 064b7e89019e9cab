// Times a wait as MySQL 8.0's client does: two times(), one sysconf(), and "%.2f sec" into a buffer whose size the
// printing function does not know. Argument: seconds to pretend beside the real wait.
#include <stdio.h>
#include <stdlib.h>
#include <sys/times.h>
#include <time.h>
#include <unistd.h>

__attribute__((noinline)) static void say_time(double seconds, char *to)
{
    if (seconds >= 60.0) {
        double minutes = (long)(seconds / 60.0);
        seconds -= 60.0 * minutes;
        to += sprintf(to, "%d min ", (int)minutes);
    }
    sprintf(to, "%.2f sec", seconds);
}

int main(int argc, char **argv)
{
    char text[57];
    struct tms unused;
    struct timespec wait = {0, 123456000};
    unsigned long start = times(&unused);
    nanosleep(&wait, NULL);
    double ticks = times(&unused) - start;
    say_time(ticks / sysconf(_SC_CLK_TCK) + (argc > 1 ? atof(argv[1]) : 0), text);
    printf("1 row in set (%s)\nvictim ends well\n", text);
    return 0;
}
