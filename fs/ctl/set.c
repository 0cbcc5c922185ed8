/* SPDX-License-Identifier: Apache-2.0
 *
 * quorumctl set: replaces the data of a node, at once: large data is sent in parts, which
 * nobody sees, and then takes the place of the old.
 */
#include <stdio.h>

#include "common/limits.h"
#include "fs/ctl/ctl.h"

#define STAGE 1u /* the only one of our session, which ends with us and takes it along */

/* Sends the data in parts. */
static enum err stage_data(struct ctl *ctl, const struct buffer *data, Wire__WriteOp *write)
{
    enum err err = ERR_OK;

    write->stage = STAGE;
    for (size_t at = 0; at < data->len && err == ERR_OK; at += FILE_BYTES_MAX) {
        size_t left = data->len - at;
        Wire__StageOp stage = WIRE__STAGE_OP__INIT;
        Wire__Op op = WIRE__OP__INIT;
        Wire__Answer *answer = NULL;
        stage.stage = STAGE;
        stage.part = write->stage_parts++;
        stage.append = wire_bytes(data->data + at, left < FILE_BYTES_MAX ? left : FILE_BYTES_MAX);
        op.body_case = WIRE__OP__BODY_STAGE;
        op.stage = &stage;
        err = ctl_write(ctl, &op, &answer);
        if (answer != NULL) {
            wire_free(&answer->base);
        }
    }
    return err;
}

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
    if (data->len > FILE_BYTES_MAX) {
        enum err err = stage_data(ctl, data, &write);
        if (err != ERR_OK) {
            return err;
        }
    } else if (data->len > 0) {
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
    err = err == ERR_OK ? ctl_data(argv[1], FILE_BYTES_LIMIT, &data) : err;
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
