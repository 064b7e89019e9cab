// A plugin that needs a function of the program, which does not export it.
int function_of_the_host(void);

int leaky_plugin_start(void)
{
    return function_of_the_host();
}
