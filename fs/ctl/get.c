/* SPDX-License-Identifier: Apache-2.0
 *
 * quorumctl get: the data of a node, byte for byte.
 */
#include <stdio.h>

#include "common/limits.h"
#include "fs/ctl/ctl.h"

#define TRIES_MAX 100u /* each time the node changed between two parts of its data */

/* One part. ERR_BAD_VERSION: another version than the parts before. */
static enum err read_part(struct ctl *ctl, const struct buffer *path, struct buffer *data,
                          Wire__Answer **attr_answer)
{
    Wire__Address at = WIRE__ADDRESS__INIT;
    Wire__DataRead read = WIRE__DATA_READ__INIT;
    Wire__Request request = WIRE__REQUEST__INIT;
    Wire__Answer *answer = NULL;

    at.path = wire_bytes(path->data, path->len);
    read.at = &at;
    read.offset = data->len;
    read.bytes_max = FILE_BYTES_MAX;
    request.body_case = WIRE__REQUEST__BODY_DATA;
    request.data = &read;
    enum err err = ctl_ask(ctl, &request, &answer);
    if (err != ERR_OK) {
        return err;
    }
    if (answer->attr == NULL) {
        err = ERR_MALFORMED;
    } else if (*attr_answer != NULL && (*attr_answer)->attr->mzxid != answer->attr->mzxid) {
        err = ERR_BAD_VERSION;
    } else {
        err = buffer_append(data, answer->data.data, answer->data.len);
    }
    if (err == ERR_OK && answer->data.len == 0 && data->len < answer->attr->data_bytes) {
        err = ERR_MALFORMED; /* It would never end. */
    }
    if (*attr_answer != NULL) {
        wire_free(&(*attr_answer)->base);
    }
    *attr_answer = answer;
    return err;
}

enum err ctl_read_data(struct ctl *ctl, const struct buffer *path, struct buffer *data,
                       Wire__Answer **out)
{
    for (unsigned tries = 0; tries < TRIES_MAX;) {
        enum err err = read_part(ctl, path, data, out);

        if (err == ERR_BAD_VERSION) {
            wire_free(&(*out)->base);
            *out = NULL;
            buffer_clear(data);
            tries++;
        } else if (err != ERR_OK || data->len >= (*out)->attr->data_bytes) {
            return err;
        }
    }
    return ERR_BAD_VERSION;
}

static enum ctl_exit run(struct ctl *ctl, int argc, char **argv)
{
    struct buffer path = {0};
    struct buffer data = {0};
    Wire__Answer *answer = NULL;
    enum ctl_exit code = CTL_FAILED;
    enum err err = ctl_path(ctl, argv[0], &path);
    (void)argc;

    if (err != ERR_OK) {
        code = ctl_fail(ctl, argv[0], err);
        goto out;
    }
    if (!ctl_connect(ctl, /* session */ false)) {
        goto out;
    }
    err = ctl_read_data(ctl, &path, &data, &answer);
    if (err != ERR_OK) {
        code = ctl_fail(ctl, argv[0], err);
        goto out;
    }
    if (ctl->json) {
        json_t *object = json_object();
        ctl_json_bytes(object, "path", path.data, path.len);
        ctl_json_bytes(object, "data", data.data, data.len);
        (void)json_object_set_new(object, "stat", ctl_json_attr(answer->attr));
        ctl_json_print(object);
    } else {
        (void)fwrite(data.len > 0 ? data.data : path.data, 1, data.len, stdout);
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

const struct command command_get = {
    .name = "get",
    .arguments = "PATH",
    .summary = "print the data of a node",
    .help = "Print the data of a node to standard output, byte for byte, nothing added.\n"
            "With --json: the data as text if it is UTF-8, else in hex as data_hex.\n",
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run,
};
