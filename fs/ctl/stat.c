/* SPDX-License-Identifier: Apache-2.0
 *
 * quorumctl stat: all about a node but its data.
 */
#include <stdio.h>

#include "fs/ctl/ctl.h"

struct row {
    const char *key;
    uint64_t value;
};

static void print_rows(const struct row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        (void)printf("%-14s %llu\n", rows[i].key, (unsigned long long)rows[i].value);
    }
}

static void print_text(const struct buffer *path, const Wire__Answer *answer)
{
    const Wire__Attr *attr = answer->attr;
    const struct row numbers[] = {
        {"version", attr->version}, {"cversion", attr->cversion}, {"aversion", attr->aversion},
        {"czxid", attr->czxid},     {"mzxid", attr->mzxid},       {"pzxid", attr->pzxid},
        {"azxid", attr->azxid},     {"children", attr->children}, {"subdirs", attr->subdirs},
        {"ino", attr->ino},
    };
    const struct {
        const char *key;
        int64_t value;
    } times[] = {{"born", attr->birth_ns},
                 {"data changed", attr->mtime_ns},
                 {"names changed", attr->children_mtime_ns},
                 {"node changed", attr->ctime_ns},
                 {"read", attr->atime_ns}};
    char text[40];

    (void)printf("%-14s ", "path");
    ctl_print_name(path->data, path->len);
    if (attr->kind == WIRE__KIND__KIND_SYMLINK) {
        (void)printf(" -> ");
        ctl_print_name(answer->data.data, answer->data.len);
    }
    (void)printf("\n%-14s %s\n", "kind", ctl_kind_name(attr->kind));
    ctl_mode_text(attr, text);
    (void)printf("%-14s %04o (%s)\n", "mode", attr->mode, text);
    (void)printf("%-14s %u:%u\n", "owner", attr->uid, attr->gid);
    (void)printf("%-14s %llu\n", "bytes", (unsigned long long)attr->data_bytes);
    print_rows(numbers, sizeof numbers / sizeof numbers[0]);
    if (attr->has_xattrs) {
        (void)printf("%-14s %s\n", "attributes", "yes");
    }
    if (attr->owner != 0) {
        (void)printf("%-14s %llu\n", "session", (unsigned long long)attr->owner);
    }
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        ctl_time_text(times[i].value, text);
        (void)printf("%-14s %s\n", times[i].key, text);
    }
}

static void print_json(const struct buffer *path, const Wire__Answer *answer)
{
    json_t *object = ctl_json_attr(answer->attr);

    ctl_json_bytes(object, "path", path->data, path->len);
    if (answer->attr->kind == WIRE__KIND__KIND_SYMLINK) {
        ctl_json_bytes(object, "target", answer->data.data, answer->data.len);
    }
    ctl_json_print(object);
}

/* The paths of a request must outlive it only until it is packed. */
static enum err ask(struct ctl *ctl, const struct buffer *path, Wire__Answer **out)
{
    Wire__Address at = WIRE__ADDRESS__INIT;
    Wire__LookupRead lookup = WIRE__LOOKUP_READ__INIT;
    Wire__Request request = WIRE__REQUEST__INIT;

    at.path = wire_bytes(path->data, path->len);
    lookup.at = &at;
    request.body_case = WIRE__REQUEST__BODY_LOOKUP;
    request.lookup = &lookup;
    enum err err = ctl_ask(ctl, &request, out);
    return err == ERR_OK && (*out)->attr == NULL ? ERR_MALFORMED : err;
}

static enum ctl_exit run(struct ctl *ctl, int argc, char **argv)
{
    struct buffer path = {0};
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
    err = ask(ctl, &path, &answer);
    if (err != ERR_OK) {
        code = ctl_fail(ctl, argv[0], err);
        goto out;
    }
    if (ctl->json) {
        print_json(&path, answer);
    } else {
        print_text(&path, answer);
    }
    code = CTL_OK;

out:
    if (answer != NULL) {
        wire_free(&answer->base);
    }
    buffer_done(&path);
    return code;
}

const struct command command_stat = {
    .name = "stat",
    .arguments = "PATH",
    .summary = "show all about a node but its data",
    .help = "Show all about a node but its data: kind, mode, versions, zxids, times.\n",
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run,
};
