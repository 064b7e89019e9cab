/* A plugin that loses memory, for MariaDB (INSTALL SONAME 'leaky_plugin') and for host.c beside it.
 *
 * Build:  gcc -g -O1 -shared -fPIC -o leaky_plugin.so leaky_plugin.c
 *
 * It loses LOST_BLOCKS blocks of LOST_BYTES bytes when it is initialised, and frees what its destructor owns. After the
 * server has unloaded it, valgrind and LeakSanitizer know the addresses of leaky_plugin_remember, but no name for them;
 * under `perquery pin -- valgrind mariadbd …` they name it with file and line.
 */
#include <stdlib.h>
#include <string.h>

enum { LOST_BLOCKS = 3, LOST_BYTES = 1000 };

static void *owned;

__attribute__((noinline)) static void leaky_plugin_remember(int value)
{
    char *forgotten = malloc(LOST_BYTES);
    memset(forgotten, value, LOST_BYTES);
    /* The compiler must not see that nobody reads it; and no register may keep the address alive. */
    __asm__ volatile("" : : "r"(forgotten) : "memory");
}

/* What host.c calls. */
int leaky_plugin_start(void)
{
    for (int block = 0; block < LOST_BLOCKS; block++)
        leaky_plugin_remember(block);
    return 0;
}

__attribute__((constructor)) static void loaded(void)
{
    owned = malloc(64);
}

__attribute__((destructor)) static void unloaded(void)
{
    free(owned);
}

/* The rest is what MariaDB looks for in a plugin: a declaration of a full-text parser, the kind that does nothing until
 * somebody creates an index with it. Field by field as in the server's public header plugin.h. */

static int initialise(void *unused)
{
    (void)unused;
    return leaky_plugin_start();
}

static int nothing_to_do(void *unused)
{
    (void)unused;
    return 0;
}

struct parser {
    int interface_version;
    int (*parse)(void *);
    int (*initialise)(void *);
    int (*end)(void *);
};

struct plugin {
    int type;
    void *about;
    const char *name, *author, *description;
    int licence;
    int (*initialise)(void *);
    int (*end)(void *);
    unsigned version;
    void *status_variables, *system_variables;
    const char *version_text;
    unsigned maturity;
};

enum { FULL_TEXT_PARSER = 2, PARSER_INTERFACE = 0x0100, GPL = 1, STABLE = 4 };

static struct parser parser = {PARSER_INTERFACE, nothing_to_do, nothing_to_do, nothing_to_do};

int _maria_plugin_interface_version_ = 0x0101;
int _maria_sizeof_struct_st_plugin_ = sizeof(struct plugin);
struct plugin _maria_plugin_declarations_[] = {
    {FULL_TEXT_PARSER, &parser, "leaky_plugin", "perquery", "loses memory", GPL, initialise, nothing_to_do, 0x0100, NULL,
     NULL, "1.0", STABLE},
    {0},
};
