/* The smallest program with plugins: loads one, starts it, unloads it, ends.
 *
 * Build:  gcc -g -O1 -o host host.c
 * Use:    ./host ./leaky_plugin.so
 */
#include <dlfcn.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    for (int at = 1; at < argc; at++) {
        void *plugin = dlopen(argv[at], RTLD_NOW | RTLD_LOCAL);
        if (!plugin) {
            fprintf(stderr, "%s\n", dlerror());
            return 1;
        }
        int (*start)(void) = (int (*)(void))dlsym(plugin, "leaky_plugin_start");
        if (!start || start() != 0 || dlclose(plugin) != 0)
            return 1;
    }
    puts("host ends well");
    return 0;
}
