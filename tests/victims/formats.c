// Prints through every function that a client could print seconds with, into too little and enough room.
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

int __sprintf_chk(char *, int, size_t, const char *, ...);
int __snprintf_chk(char *, size_t, int, size_t, const char *, ...);
int __vsprintf_chk(char *, int, size_t, const char *, va_list);
int __vsnprintf_chk(char *, size_t, int, size_t, const char *, va_list);

static char text[80];
#define SHOW(name, call) (memset(text, '#', 79), printf("%s %d ", name, call), printf("%.40s\n", text))

static void lists(const char *format, ...)
{
    va_list list;
    va_start(list, format), SHOW("vsprintf", vsprintf(text, format, list)), va_end(list);
    va_start(list, format), SHOW("vsnprintf", vsnprintf(text, 32, format, list)), va_end(list);
    va_start(list, format), SHOW("vsnprintf of 31", vsnprintf(text, 31, format, list)), va_end(list);
    va_start(list, format), SHOW("vsprintf_chk", __vsprintf_chk(text, 1, 80, format, list)), va_end(list);
    va_start(list, format), SHOW("vsnprintf_chk", __vsnprintf_chk(text, 40, 1, 80, format, list)), va_end(list);
}

int main(void)
{
    const char *formats[] = {"%.2f sec", "%.3f sec", "%.2f secs", "%.4f sec", " %.2f sec", "%.2f se", "%.2f", "%", ""};
    char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (unsigned at = 0; mprotect(page + 4096, 4096, PROT_NONE) == 0 && at < sizeof formats / sizeof *formats; at++) {
        const char *format = strcpy(page + 4096 - strlen(formats[at]) - 1, formats[at]);
        SHOW("sprintf", sprintf(text, format, 0.123456789876));
        SHOW("snprintf", snprintf(text, 32, format, 0.123456789876)), SHOW("snprintf of 9", snprintf(text, 9, format, 0.12));
        SHOW("sprintf_chk", __sprintf_chk(text, 1, 32, format, 0.123456789876));
        SHOW("sprintf_chk of 12", __sprintf_chk(text, 1, 12, format, 0.123456789876));
        SHOW("snprintf_chk", __snprintf_chk(text, 60, 1, 80, format, 0.123456789876)), lists(format, 0.123456789876);
    }
    return puts("victim ends well") < 0;
}
