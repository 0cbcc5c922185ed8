/* SPDX-License-Identifier: Apache-2.0
 *
 * quorumctl members: who belongs to the ensemble, as the replica that answers sees it.
 */
#include <stdio.h>

#include "fs/ctl/ctl.h"

static void print_text(const Wire__Answer *answer)
{
    (void)printf("%-4s %-8s %-10s %12s  %s\n", "ID", "ROLE", "CONNECTED", "MATCH", "ADDRESS");
    for (size_t i = 0; i < answer->n_members; i++) {
        const Wire__Member *member = answer->members[i];
        (void)printf("%-4llu %-8s %-10s %12llu  ", (unsigned long long)member->id,
                     member->voter ? "voter" : "learner", member->connected ? "yes" : "no",
                     (unsigned long long)member->match_index);
        ctl_print_name(member->address.data, member->address.len);
        (void)putchar('\n');
    }
}

static void print_json(const Wire__Answer *answer)
{
    json_t *list = json_array();

    for (size_t i = 0; i < answer->n_members; i++) {
        const Wire__Member *member = answer->members[i];
        json_t *object = json_object();
        ctl_json_number(object, "id", member->id);
        ctl_json_bytes(object, "address", member->address.data, member->address.len);
        (void)json_object_set_new(object, "voter", json_boolean(member->voter));
        (void)json_object_set_new(object, "connected", json_boolean(member->connected));
        ctl_json_number(object, "match_index", member->match_index);
        ctl_json_number(object, "incarnation", member->incarnation);
        (void)json_array_append_new(list, object);
    }
    ctl_json_print(list);
}

static enum ctl_exit run(struct ctl *ctl, int argc, char **argv)
{
    Wire__MembersRead read = WIRE__MEMBERS_READ__INIT;
    Wire__Request request = WIRE__REQUEST__INIT;
    Wire__Answer *answer = NULL;
    (void)argc;
    (void)argv;

    if (!ctl_connect(ctl, /* session */ false)) {
        return CTL_FAILED;
    }
    request.body_case = WIRE__REQUEST__BODY_MEMBERS;
    request.members = &read;
    enum err err = ctl_ask(ctl, &request, &answer);
    if (err != ERR_OK) {
        return ctl_fail(ctl, NULL, err);
    }
    if (ctl->json) {
        print_json(answer);
    } else {
        print_text(answer);
    }
    wire_free(&answer->base);
    return CTL_OK;
}

const struct command command_members = {
    .name = "members",
    .arguments = "",
    .summary = "show the members of the ensemble",
    .help = "Show the members of the ensemble: number, whether it votes, whether the replica\n"
            "that answers is connected to it, up to where its log is known to agree with the\n"
            "leader's, and its address.\n",
    .run = run,
};
