/* SPDX-License-Identifier: Apache-2.0
 *
 * quorumctl sync: a read barrier.
 */
#include <stdio.h>

#include "fs/ctl/ctl.h"

static enum ctl_exit run(struct ctl *ctl, int argc, char **argv)
{
    Wire__SyncRead read = WIRE__SYNC_READ__INIT;
    Wire__Request request = WIRE__REQUEST__INIT;
    Wire__Answer *answer = NULL;
    (void)argc;
    (void)argv;

    if (!ctl_connect(ctl, /* session */ false)) {
        return CTL_FAILED;
    }
    request.body_case = WIRE__REQUEST__BODY_SYNC;
    request.sync = &read;
    enum err err = ctl_ask(ctl, &request, &answer);
    if (err != ERR_OK) {
        return ctl_fail(ctl, NULL, err);
    }
    if (ctl->json) {
        json_t *object = json_object();
        ctl_json_number(object, "zxid", answer->zxid);
        ctl_json_print(object);
    } else {
        (void)printf("%llu\n", (unsigned long long)answer->zxid);
    }
    wire_free(&answer->base);
    return CTL_OK;
}

const struct command command_sync = {
    .name = "sync",
    .arguments = "",
    .summary = "wait until a replica has all that was committed",
    .help = "Wait until the replica that answers has applied all that the ensemble had\n"
            "committed when it was asked. Prints the zxid of its state then.\n",
    .run = run,
};
