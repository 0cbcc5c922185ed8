/* SPDX-License-Identifier: Apache-2.0
 *
 * quorumctl create: makes a node, as one entry of the log.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/limits.h"
#include "common/parse.h"
#include "common/path.h"
#include "fs/ctl/ctl.h"

/* What is made, apart from where. */
struct node {
    Wire__Kind kind;
    uint32_t mode;
    bool ephemeral;
    bool sequential;
    struct buffer data;
};

static uint32_t mask_of_process(void)
{
    mode_t mask = umask(0);
    (void)umask(mask);
    return (uint32_t)mask;
}

static enum err create_node(struct ctl *ctl, const void *path, size_t path_len,
                            const struct node *node, Wire__Answer **out)
{
    Wire__Address at = WIRE__ADDRESS__INIT;
    Wire__CreateOp create = WIRE__CREATE_OP__INIT;
    Wire__Op op = WIRE__OP__INIT;
    char host[65] = "";
    char holder[160];

    (void)gethostname(host, sizeof host - 1);
    (void)snprintf(holder, sizeof holder, "%s %ld quorumctl", host, (long)getpid());
    at.path = wire_bytes(path, path_len);
    create.at = &at;
    create.kind = node->kind;
    create.mode = node->mode;
    create.uid = geteuid();
    create.gid = getegid();
    create.data = wire_bytes(node->data.data, node->data.len);
    create.ephemeral = node->ephemeral;
    create.sequential = node->sequential;
    create.holder = wire_bytes(holder, strlen(holder));
    op.body_case = WIRE__OP__BODY_CREATE;
    op.create = &create;
    return ctl_write(ctl, &op, out);
}

/* Makes the directories above; those that are there are fine. */
static enum err create_parents(struct ctl *ctl, const struct buffer *path, uint32_t mask)
{
    const struct node parent = {.kind = WIRE__KIND__KIND_DIR, .mode = 0777 & ~mask};
    const char *text = (const char *)path->data;
    const char *name = NULL;
    size_t name_len = 0;

    for (size_t offset = 0; path_next(text, path->len, &offset, &name, &name_len);) {
        size_t len = (size_t)(name - text) + name_len;
        Wire__Answer *answer = NULL;
        if (len == path->len) {
            break;
        }
        enum err err = create_node(ctl, text, len, &parent, &answer);
        if (answer != NULL) {
            wire_free(&answer->base);
        }
        if (err != ERR_OK && err != ERR_EXISTS) {
            return err;
        }
    }
    return ERR_OK;
}

/* The path of what was made: with -s its name is another than asked for. */
static void print_made(const struct ctl *ctl, const struct buffer *path, const Wire__Answer *answer)
{
    struct buffer made = {0};
    const char *name = NULL;
    size_t name_len = 0;
    size_t parent_len = 0;

    path_split((const char *)path->data, path->len, &parent_len, &name, &name_len);
    if (answer->name.len > 0) {
        (void)buffer_append(&made, path->data, (size_t)(name - (const char *)path->data));
        (void)buffer_append(&made, answer->name.data, answer->name.len);
    } else {
        (void)buffer_append(&made, path->data, path->len);
    }
    if (ctl->json) {
        json_t *object = json_object();
        ctl_json_bytes(object, "path", made.data, made.len);
        ctl_json_number(object, "zxid", answer->zxid);
        if (answer->attr != NULL) {
            (void)json_object_set_new(object, "stat", ctl_json_attr(answer->attr));
        }
        ctl_json_print(object);
    } else {
        ctl_print_name(made.data, made.len);
        (void)putchar('\n');
    }
    (void)fflush(stdout);
    buffer_done(&made);
}

/* ---- an ephemeral node lives as long as we do ---- */

static void on_signal(uv_signal_t *handle, int number)
{
    bool *stop = handle->data;
    (void)number;
    *stop = true;
}

static enum ctl_exit hold(struct ctl *ctl, const char *argument)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    uv_signal_t handles[sizeof signals / sizeof signals[0]];
    struct client_status status;
    bool stop = false;

    client_status(ctl->client, &status);
    uint64_t session = status.session;
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) {
        (void)uv_signal_init(&ctl->loop, &handles[i]);
        handles[i].data = &stop;
        (void)uv_signal_start(&handles[i], on_signal, signals[i]);
    }
    while (!stop && status.session == session) {
        (void)uv_run(&ctl->loop, UV_RUN_ONCE);
        client_status(ctl->client, &status);
    }
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) {
        uv_close((uv_handle_t *)&handles[i], NULL);
    }
    (void)uv_run(&ctl->loop, UV_RUN_NOWAIT);
    return stop ? CTL_OK : ctl_fail(ctl, argument, ERR_SESSION_EXPIRED);
}

/* ---- the command ---- */

static enum ctl_exit take_node(struct ctl *ctl, int argc, char **argv, struct node *node)
{
    uint32_t mask = mask_of_process();
    const char *text = argc > 1 ? argv[1] : NULL;

    node->kind = ctl->given['d']   ? WIRE__KIND__KIND_DIR
                 : ctl->given['l'] ? WIRE__KIND__KIND_PLAIN
                                   : WIRE__KIND__KIND_FILE;
    node->mode = (ctl->given['d'] ? 0777u : 0666u) & ~mask;
    node->ephemeral = ctl->given['e'];
    node->sequential = ctl->given['s'];
    if (ctl->given['m'] && parse_mode(ctl->value['m'], &node->mode) != ERR_OK) {
        return ctl_usage(ctl, "'%s' is not a mode", ctl->value['m']);
    }
    if (ctl->given['d'] && ctl->given['l']) {
        return ctl_usage(ctl, "--dir and --plain exclude each other");
    }
    if (text != NULL && ctl->given['d']) {
        return ctl_usage(ctl, "a directory has no data");
    }
    enum err err = text != NULL ? ctl_data(text, FILE_BYTES_MAX, &node->data) : ERR_OK;
    return err == ERR_OK ? CTL_OK : ctl_fail(ctl, argv[0], err);
}

static enum ctl_exit run(struct ctl *ctl, int argc, char **argv)
{
    struct buffer path = {0};
    struct node node = {0};
    Wire__Answer *answer = NULL;
    enum ctl_exit code = take_node(ctl, argc, argv, &node);
    enum err err = ERR_OK;

    if (code != CTL_OK) {
        goto out;
    }
    code = CTL_FAILED;
    err = ctl_path(ctl, argv[0], &path);
    if (err == ERR_OK && path.len == 1) {
        err = ERR_EXISTS; /* the root */
    }
    if (err != ERR_OK) {
        code = ctl_fail(ctl, argv[0], err);
        goto out;
    }
    if (!ctl_connect(ctl, /* session */ true)) {
        goto out;
    }
    err = ctl->given['p'] ? create_parents(ctl, &path, mask_of_process()) : ERR_OK;
    err = err == ERR_OK ? create_node(ctl, path.data, path.len, &node, &answer) : err;
    if (err != ERR_OK) {
        code = ctl_fail(ctl, argv[0], err);
        goto out;
    }
    print_made(ctl, &path, answer);
    code = node.ephemeral ? hold(ctl, argv[0]) : CTL_OK;

out:
    if (answer != NULL) {
        wire_free(&answer->base);
    }
    buffer_done(&node.data);
    buffer_done(&path);
    return code;
}

const struct command command_create = {
    .name = "create",
    .arguments = "PATH [DATA|-]",
    .summary = "make a node",
    .help = "Make a node with this data; '-' takes it from standard input. Prints its path.\n"
            "Fails if it is there (EXISTS).\n"
            "\n"
            "  -e, --ephemeral        the node lives as long as this command: it waits for a\n"
            "                         signal (INT, TERM, HUP) then\n"
            "  -s, --sequential       append the next number of the parent to the name\n"
            "  -p, --parents          make the directories above, too\n"
            "  -m, --mode MODE        octal (default 666, a directory 777, less umask)\n"
            "      --dir              make a directory\n"
            "      --plain            a node as ZooKeeper's clients make it, with data and\n"
            "                         children: a mount shows it as a directory while it\n"
            "                         has children or no data, else as a file\n",
    .options = {{'e', "ephemeral", false},
                {'s', "sequential", false},
                {'p', "parents", false},
                {'m', "mode", true},
                {'d', "dir", false},
                {'l', "plain", false}},
    .arguments_min = 1,
    .arguments_max = 2,
    .run = run,
};
