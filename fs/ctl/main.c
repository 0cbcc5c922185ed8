/* SPDX-License-Identifier: Apache-2.0
 *
 * quorumctl, the command line of an ensemble. All but this function is linkable by tests.
 */
#include "fs/ctl/ctl.h"

int main(int argc, char **argv)
{
    return ctl_main(argc, argv);
}
