/* The program: all of it is in connectors/cli. */
#include "connectors/cli/commands.h"

int main(int argc, char **argv) { return imv_commands_run(argc, argv); }
