/* SPDX-License-Identifier: Apache-2.0
 *
 * quorumctl mv: gives a node another name or another parent, as one entry of the log.
 */
#include <stdio.h>

#include "fs/ctl/ctl.h"

static enum err rename_node(struct ctl *ctl, const struct buffer *from, const struct buffer *to,
                            Wire__Answer **out)
{
    Wire__Address at = WIRE__ADDRESS__INIT;
    Wire__Address at_to = WIRE__ADDRESS__INIT;
    Wire__RenameOp rename = WIRE__RENAME_OP__INIT;
    Wire__Op op = WIRE__OP__INIT;

    at.path = wire_bytes(from->data, from->len);
    at_to.path = wire_bytes(to->data, to->len);
    rename.from = &at;
    rename.to = &at_to;
    rename.no_replace = ctl->given['n'];
    op.body_case = WIRE__OP__BODY_RENAME;
    op.rename = &rename;
    return ctl_write(ctl, &op, out);
}

static enum ctl_exit run(struct ctl *ctl, int argc, char **argv)
{
    struct buffer from = {0};
    struct buffer to = {0};
    Wire__Answer *answer = NULL;
    enum ctl_exit code = CTL_FAILED;
    const char *blamed = argv[0];
    enum err err = ctl_path(ctl, argv[0], &from);
    (void)argc;

    if (err == ERR_OK) {
        blamed = argv[1];
        err = ctl_path(ctl, argv[1], &to);
    }
    if (err != ERR_OK) {
        code = ctl_fail(ctl, blamed, err);
        goto out;
    }
    if (!ctl_connect(ctl, /* session */ true)) {
        goto out;
    }
    err = rename_node(ctl, &from, &to, &answer);
    if (err != ERR_OK) {
        /* What is there already, or is a directory with children, is the other one. */
        code = ctl_fail(ctl, err == ERR_EXISTS || err == ERR_NOT_EMPTY ? argv[1] : argv[0], err);
        goto out;
    }
    if (ctl->json) {
        json_t *object = json_object();
        ctl_json_bytes(object, "from", from.data, from.len);
        ctl_json_bytes(object, "path", to.data, to.len);
        ctl_json_number(object, "zxid", answer->zxid);
        ctl_json_print(object);
    }
    code = CTL_OK;

out:
    if (answer != NULL) {
        wire_free(&answer->base);
    }
    buffer_done(&to);
    buffer_done(&from);
    return code;
}

const struct command command_mv = {
    .name = "mv",
    .arguments = "FROM TO",
    .summary = "rename a node, with all below it",
    .help = "Give a node another name or another parent, with all that is below it. TO is its\n"
            "full new path, also when a directory of that name is there. A file that is there\n"
            "is replaced.\n"
            "\n"
            "  -n, --no-replace       fail if TO is there (EXISTS)\n",
    .options = {{'n', "no-replace", false}},
    .arguments_min = 2,
    .arguments_max = 2,
    .run = run,
};
