// A library whose constructor prints and asks, with arguments in every register, before anybody else is ready.
#include <stdarg.h>
#include <stdio.h>
#include <sys/times.h>
#include <unistd.h>

static int list(char *to, size_t room, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(to, room, format, arguments);
    va_end(arguments);
    return n;
}

__attribute__((constructor)) static void first(void)
{
    char text[200];
    struct tms spent;
    int n = snprintf(text, sizeof text, "%d %s %c %ld %f %g %.1f %f %f %f %f %f %d %d", 1, "two", '3', 4L, 5.5, 6.5, 7.5,
                     8.5, 9.5, 10.5, 11.5, 12.5, 13, 14);
    printf("%d %s\n", n, text);
    n = list(text, sizeof text, "%f %d %f %s", 1.25, 2, 3.25, "four");
    printf("%d %s\n", n, text);
    printf("%d %d\n", times(&spent) != -1, sysconf(_SC_PAGESIZE) == getpagesize());
}
