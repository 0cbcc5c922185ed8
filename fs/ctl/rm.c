/* SPDX-License-Identifier: Apache-2.0
 *
 * quorumctl rm: removes a node, with -r all below it, children first.
 *
 * The removes of one directory are in flight together: one after the other, each would wait for a
 * disk.
 */
#include <stdio.h>

#include "common/limits.h"
#include "fs/ctl/ctl.h"
#include "fs/ctl/list.h"

#define IN_FLIGHT_MAX 1024u
#define DEPTH_MAX     (PATH_BYTES_MAX / 2) /* names in a path */

struct removal {
    struct ctl *ctl;
    size_t in_flight;
    uint64_t removed;
    enum err err;        /* the first that failed */
    struct buffer where; /* and its directory, as a C string */
};

/* One remove has ended. Which one it was is not kept: its directory is named in the message. */
static void on_removed(void *arg, enum err err, const Wire__Answer *answer)
{
    struct removal *removal = arg;
    (void)answer;

    removal->in_flight--;
    if (err == ERR_OK) {
        removal->removed++;
    } else if (err != ERR_NO_NODE && removal->err == ERR_OK) {
        removal->err = err; /* Somebody else may have removed it: that is fine. */
    }
}

static void wait_below(struct removal *removal, size_t limit)
{
    while (removal->in_flight > limit) {
        (void)uv_run(&removal->ctl->loop, UV_RUN_ONCE);
    }
}

static enum err start_remove(struct removal *removal, const struct buffer *path)
{
    Wire__Address at = WIRE__ADDRESS__INIT;
    Wire__RemoveOp remove = WIRE__REMOVE_OP__INIT;
    Wire__Op op = WIRE__OP__INIT;
    Wire__Request request = WIRE__REQUEST__INIT;
    struct call_options options = {
        .timeout_ms = removal->ctl->timeout_ms, .done = on_removed, .arg = removal};
    enum err err = ERR_OK;

    at.path = wire_bytes(path->data, path->len);
    remove.at = &at;
    op.body_case = WIRE__OP__BODY_REMOVE;
    op.remove = &remove;
    request.body_case = WIRE__REQUEST__BODY_OP;
    request.op = &op;
    wait_below(removal, IN_FLIGHT_MAX - 1);
    if (client_call(removal->ctl->client, &request, &options, &err) == NULL) {
        return err;
    }
    removal->in_flight++;
    return ERR_OK;
}

static enum err remove_children(struct removal *removal, struct buffer *path, unsigned depth);

/* A child that has children itself goes after them. */
static enum err remove_child(struct removal *removal, struct buffer *path,
                             const struct list_entry *child, unsigned depth)
{
    size_t len = path->len;
    enum err err = len == 1 ? ERR_OK : buffer_append_u8(path, '/');

    err = err == ERR_OK ? buffer_append(path, child->name, child->name_len) : err;
    if (err == ERR_OK && child->attr->children > 0) {
        err = depth < DEPTH_MAX ? remove_children(removal, path, depth + 1) : ERR_LOOP;
    }
    err = err == ERR_OK ? start_remove(removal, path) : err;
    if (err != ERR_OK && removal->where.len == 0) {
        (void)buffer_printf(&removal->where, "%.*s", (int)path->len, (const char *)path->data);
    }
    path->len = len;
    return err;
}

/* Returns when all children are gone, or one stays. `path` is as it was afterwards. */
static enum err remove_children(struct removal *removal, struct buffer *path, unsigned depth)
{
    struct list list = {0};
    enum err err = list_read(removal->ctl, path, &list);

    for (size_t i = 0; err == ERR_OK && removal->err == ERR_OK && i < list.count; i++) {
        err = remove_child(removal, path, &list.entries[i], depth);
    }
    wait_below(removal, 0);
    list_done(&list);
    if (removal->err != ERR_OK && removal->where.len == 0) {
        (void)buffer_printf(&removal->where, "%.*s", (int)path->len, (const char *)path->data);
    }
    return err != ERR_OK ? err : removal->err;
}

static enum err remove_node(struct ctl *ctl, const struct buffer *path)
{
    Wire__Address at = WIRE__ADDRESS__INIT;
    Wire__RemoveOp remove = WIRE__REMOVE_OP__INIT;
    Wire__Op op = WIRE__OP__INIT;
    Wire__Answer *answer = NULL;
    bool if_version = false;

    if (!ctl_version(ctl, &if_version, &remove.version)) {
        return ERR_INVALID;
    }
    at.path = wire_bytes(path->data, path->len);
    remove.at = &at;
    remove.if_version = if_version;
    op.body_case = WIRE__OP__BODY_REMOVE;
    op.remove = &remove;
    enum err err = ctl_write(ctl, &op, &answer);
    if (answer != NULL) {
        wire_free(&answer->base);
    }
    return err;
}

static enum ctl_exit remove_all(struct ctl *ctl, const char *argument, struct buffer *path)
{
    struct removal removal = {.ctl = ctl};
    bool is_root = path->len == 1;
    enum err err = ctl->given['r'] ? remove_children(&removal, path, 0) : ERR_OK;

    if (err == ERR_NOT_DIR) {
        err = ERR_OK; /* It has no children. */
    }
    if (err == ERR_OK && !(is_root && ctl->given['r'])) { /* The root itself stays. */
        err = remove_node(ctl, path);
        removal.removed += err == ERR_OK ? 1 : 0;
    }
    if (err != ERR_OK) {
        const char *where = removal.where.len > 0 ? (const char *)removal.where.data : argument;
        (void)ctl_fail(ctl, where, err);
    } else if (ctl->json) {
        json_t *object = json_object();
        ctl_json_bytes(object, "path", path->data, path->len);
        ctl_json_number(object, "removed", removal.removed);
        ctl_json_print(object);
    }
    buffer_done(&removal.where);
    return err == ERR_OK ? CTL_OK : CTL_FAILED;
}

static enum ctl_exit run(struct ctl *ctl, int argc, char **argv)
{
    struct buffer path = {0};
    enum ctl_exit code = CTL_FAILED;
    bool if_version = false;
    uint32_t version = 0;
    (void)argc;

    if (!ctl_version(ctl, &if_version, &version)) {
        return CTL_USAGE;
    }
    if (if_version && ctl->given['r']) {
        return ctl_usage(ctl, "-r and -v do not go together");
    }
    enum err err = ctl_path(ctl, argv[0], &path);
    if (err != ERR_OK) {
        code = ctl_fail(ctl, argv[0], err);
    } else if (ctl_connect(ctl, /* session */ true)) {
        code = remove_all(ctl, argv[0], &path);
    }
    buffer_done(&path);
    return code;
}

const struct command command_rm = {
    .name = "rm",
    .arguments = "PATH",
    .summary = "remove a node",
    .help = "Remove a node without children. Each remove is an entry of its own: a failed\n"
            "'rm -r' leaves what it had not come to.\n"
            "\n"
            "  -r, --recursive        first all that is below it; of / all but / itself\n"
            "  -v, --if-version N     only if the version of the data is N (BAD_VERSION)\n",
    .options = {{'r', "recursive", false}, {'v', "if-version", true}},
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run,
};
