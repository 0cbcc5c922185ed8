/* SPDX-License-Identifier: Apache-2.0
 *
 * quorumctl set: replaces the data of a node, as one entry of the log.
 */
#include <stdio.h>

#include "fs/ctl/ctl.h"

static enum err write_data(struct ctl *ctl, const struct buffer *path, const struct buffer *data,
                           Wire__Answer **out)
{
    Wire__Address at = WIRE__ADDRESS__INIT;
    Wire__WriteOp write = WIRE__WRITE_OP__INIT;
    Wire__Range range = WIRE__RANGE__INIT;
    Wire__Range *ranges[] = {&range};
    Wire__Op op = WIRE__OP__INIT;
    bool if_version = false;

    if (!ctl_version(ctl, &if_version, &write.version)) {
        return ERR_INVALID;
    }
    at.path = wire_bytes(path->data, path->len);
    write.at = &at;
    write.if_version = if_version;
    write.truncate = true;
    if (data->len > 0) {
        range.data = wire_bytes(data->data, data->len);
        write.ranges = ranges;
        write.n_ranges = 1;
    }
    op.body_case = WIRE__OP__BODY_WRITE;
    op.write = &write;
    return ctl_write(ctl, &op, out);
}

static void print_json(const struct buffer *path, const Wire__Answer *answer)
{
    json_t *object = json_object();

    ctl_json_bytes(object, "path", path->data, path->len);
    ctl_json_number(object, "zxid", answer->zxid);
    if (answer->attr != NULL) {
        (void)json_object_set_new(object, "stat", ctl_json_attr(answer->attr));
    }
    ctl_json_print(object);
}

static enum ctl_exit run(struct ctl *ctl, int argc, char **argv)
{
    struct buffer path = {0};
    struct buffer data = {0};
    Wire__Answer *answer = NULL;
    enum ctl_exit code = CTL_FAILED;
    bool if_version = false;
    uint32_t version = 0;
    (void)argc;

    if (!ctl_version(ctl, &if_version, &version)) {
        return CTL_USAGE;
    }
    enum err err = ctl_path(ctl, argv[0], &path);
    err = err == ERR_OK ? ctl_data(argv[1], &data) : err;
    if (err != ERR_OK) {
        code = ctl_fail(ctl, argv[0], err);
        goto out;
    }
    if (!ctl_connect(ctl, /* session */ true)) {
        goto out;
    }
    err = write_data(ctl, &path, &data, &answer);
    if (err != ERR_OK) {
        code = ctl_fail(ctl, argv[0], err);
        goto out;
    }
    if (ctl->json) {
        print_json(&path, answer);
    }
    code = CTL_OK;

out:
    if (answer != NULL) {
        wire_free(&answer->base);
    }
    buffer_done(&data);
    buffer_done(&path);
    return code;
}

const struct command command_set = {
    .name = "set",
    .arguments = "PATH DATA|-",
    .summary = "replace the data of a node",
    .help = "Replace the data of a node that is there; '-' takes it from standard input.\n"
            "Readers see the old data or the new, never a mixture.\n"
            "\n"
            "  -v, --if-version N     only if the version of the data is N (BAD_VERSION)\n",
    .options = {{'v', "if-version", true}},
    .arguments_min = 2,
    .arguments_max = 2,
    .run = run,
};
