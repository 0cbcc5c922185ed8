/* SPDX-License-Identifier: Apache-2.0
 *
 * quorumctl ls: the names below a node, in the order of their bytes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/ctl/ctl.h"
#include "fs/ctl/list.h"

static int compare_names(const void *a, const void *b)
{
    const struct list_entry *left = a;
    const struct list_entry *right = b;
    size_t shorter = left->name_len < right->name_len ? left->name_len : right->name_len;
    int order = memcmp(left->name, right->name, shorter);

    if (order != 0) {
        return order;
    }
    return (left->name_len > right->name_len) - (left->name_len < right->name_len);
}

static void print_entry(const struct ctl *ctl, const struct list_entry *entry)
{
    char mode[11];
    char changed[40];

    if (ctl->given['l']) {
        ctl_mode_text(entry->attr, mode);
        ctl_time_text(entry->attr->mtime_ns, changed);
        changed[19] = '\0'; /* to the second */
        (void)printf("%s %6u %6u %9llu %s %6u ", mode, entry->attr->uid, entry->attr->gid,
                     (unsigned long long)entry->attr->data_bytes, changed, entry->attr->version);
    }
    ctl_print_name(entry->name, entry->name_len);
    (void)putchar('\n');
}

static void print_list(const struct ctl *ctl, const struct list *list)
{
    if (!ctl->json) {
        for (size_t i = 0; i < list->count; i++) {
            print_entry(ctl, &list->entries[i]);
        }
        return;
    }
    json_t *array = json_array();
    for (size_t i = 0; i < list->count; i++) {
        const struct list_entry *entry = &list->entries[i];
        json_t *object = ctl->given['l'] ? ctl_json_attr(entry->attr) : json_object();
        ctl_json_bytes(object, "name", entry->name, entry->name_len);
        if (!ctl->given['l']) {
            (void)json_object_set_new(object, "kind",
                                      json_string(ctl_kind_name(entry->attr->kind)));
        }
        (void)json_array_append_new(array, object);
    }
    ctl_json_print(array);
}

static enum ctl_exit run(struct ctl *ctl, int argc, char **argv)
{
    struct buffer path = {0};
    struct list list = {0};
    enum ctl_exit code = CTL_FAILED;
    const char *argument = argc > 0 ? argv[0] : "/";
    enum err err = ctl_path(ctl, argument, &path);

    if (err != ERR_OK) {
        code = ctl_fail(ctl, argument, err);
        goto out;
    }
    if (!ctl_connect(ctl, /* session */ false)) {
        goto out;
    }
    err = list_read(ctl, &path, &list);
    if (err == ERR_NOT_DIR) {
        err = list_self(ctl, &path, &list);
    }
    if (err != ERR_OK) {
        code = ctl_fail(ctl, argument, err);
        goto out;
    }
    if (list.count > 0) {
        qsort(list.entries, list.count, sizeof *list.entries, compare_names);
    }
    print_list(ctl, &list);
    code = CTL_OK;

out:
    list_done(&list);
    buffer_done(&path);
    return code;
}

const struct command command_ls = {
    .name = "ls",
    .arguments = "[PATH]",
    .summary = "list the names below a node",
    .help = "List the names below a node (default /), one a line; the path of a node that can\n"
            "have none. Unprintable bytes are shown as \\xNN.\n"
            "\n"
            "  -l, --long             also kind and mode, user, group, bytes of data, time of\n"
            "                         the last change of the data (UTC), version\n",
    .options = {{'l', "long", false}},
    .arguments_max = 1,
    .run = run,
};
