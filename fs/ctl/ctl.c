/* SPDX-License-Identifier: Apache-2.0
 *
 * From argv to one command: options, help, the table of commands, what is said when it fails.
 * Called by main.c; hands on to the file of the command.
 */
#include "fs/ctl/ctl.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "common/logging.h"
#include "common/parse.h"
#include "common/version.h"
#include "fs/client/servers.h"

#define SERVERS_DEFAULT   "unix:/run/quorumfs/quorumd.sock,127.0.0.1:2181"
#define TIMEOUT_S_DEFAULT 10u
#define TIMEOUT_S_MAX     86400u

/* Options that each command knows; beyond the letters. */
enum global_option {
    OPTION_SERVER = 256,
    OPTION_MOUNT,
    OPTION_JSON,
    OPTION_TIMEOUT,
    OPTION_HELP,
    OPTION_VERSION,
};
#define GLOBAL_OPTIONS 6u

static const struct option global_options[GLOBAL_OPTIONS] = {
    {"server", required_argument, NULL, OPTION_SERVER},
    {"mount", required_argument, NULL, OPTION_MOUNT},
    {"json", no_argument, NULL, OPTION_JSON},
    {"timeout", required_argument, NULL, OPTION_TIMEOUT},
    {"help", no_argument, NULL, OPTION_HELP},
    {"version", no_argument, NULL, OPTION_VERSION},
};

static const struct command *const commands[] = {
    &command_status, &command_members, &command_ls, &command_stat, &command_get,   &command_set,
    &command_create, &command_rm,      &command_mv, &command_sync, &command_watch,
};
#define COMMANDS (sizeof commands / sizeof commands[0])

static const char global_help[] =
    "Options of every command:\n"
    "  --server ADDR[,ADDR]   ask these replicas, tried in order: HOST[:PORT] or\n"
    "                         unix:PATH (default unix:/run/quorumfs/quorumd.sock,\n"
    "                         then 127.0.0.1:2181)\n"
    "  --mount PATH           ask the ensemble that is mounted at PATH\n"
    "  --json                 print JSON\n"
    "  --timeout S            give up after S seconds (default 10)\n"
    "  --help                 show this help\n";

static const char general_help[] = "Usage: quorumctl [OPTION]... COMMAND [ARGUMENT]...\n"
                                   "Look at the tree of a quorumfs ensemble and change it.\n"
                                   "\n"
                                   "Commands:\n";

static const char general_tail[] =
    "  --version              show the version\n"
    "\n"
    "A PATH is one of the tree, like /app/conf. Without --server and --mount it may\n"
    "also be the path of a file in a mounted tree. 'quorumctl COMMAND --help' tells\n"
    "more.\n"
    "\n"
    "Exit status: 0 done, 1 failed, 2 wrong usage.\n";

/* ---- what is said ---- */

enum ctl_exit ctl_usage(const struct ctl *ctl, const char *format, ...)
{
    const char *name = ctl->command != NULL ? ctl->command->name : "";
    const char *blank = ctl->command != NULL ? " " : "";
    va_list arguments;

    (void)fputs("quorumctl: ", stderr);
    if (ctl->command != NULL) {
        (void)fprintf(stderr, "%s: ", name);
    }
    va_start(arguments, format);
    (void)vfprintf(stderr, format, arguments);
    va_end(arguments);
    (void)fprintf(stderr, "\nTry 'quorumctl%s%s --help'\n", blank, name);
    return CTL_USAGE;
}

/* The text of an error; more to the point when no replica could be asked at all. */
static enum err failure_text(const struct ctl *ctl, enum err err, struct buffer *out)
{
    struct client_status status = {.server = "?"};

    if (ctl->client != NULL) {
        client_status(ctl->client, &status);
    }
    if (status.server[0] == '\0' && err == ERR_TIMEOUT) {
        return buffer_printf(out, "no replica answers at %s", ctl->servers);
    }
    if (status.server[0] == '\0' && err == ERR_NO_LEADER) {
        return buffer_printf(out, "no replica answers at %s; nothing was changed", ctl->servers);
    }
    return buffer_printf(out, "%s", err_text(err));
}

enum ctl_exit ctl_fail(const struct ctl *ctl, const char *path, enum err err)
{
    struct buffer text = {0};

    if (failure_text(ctl, err, &text) != ERR_OK) {
        (void)fprintf(stderr, "quorumctl: %s\n", err_text(ERR_MEMORY));
        return CTL_FAILED;
    }
    if (ctl->json) {
        json_t *object = json_object();
        (void)json_object_set_new(object, "error", json_string(err_name(err)));
        (void)json_object_set_new(object, "text", json_string((const char *)text.data));
        if (path != NULL) {
            ctl_json_bytes(object, "path", path, strlen(path));
        }
        ctl_json_print(object);
    }
    (void)fprintf(stderr, "quorumctl: %s%s%s: %s (%s)\n", ctl->command->name,
                  path != NULL ? " " : "", path != NULL ? path : "", (const char *)text.data,
                  err_name(err));
    buffer_done(&text);
    return CTL_FAILED;
}

static void print_help(const struct command *command)
{
    if (command != NULL) {
        (void)printf("Usage: quorumctl %s [OPTION]...%s%s\n%s\n%s", command->name,
                     command->arguments[0] != '\0' ? " " : "", command->arguments, command->help,
                     global_help);
        return;
    }
    (void)fputs(general_help, stdout);
    for (size_t i = 0; i < COMMANDS; i++) {
        (void)printf("  %-9s %s\n", commands[i]->name, commands[i]->summary);
    }
    (void)printf("\n%s%s", global_help, general_tail);
}

/* ---- options ---- */

bool ctl_version(const struct ctl *ctl, bool *out_given, uint32_t *out_version)
{
    uint64_t version = 0;

    *out_given = ctl->given['v'];
    if (ctl->given['v'] && parse_u64(ctl->value['v'], 0, UINT32_MAX, &version) != ERR_OK) {
        (void)ctl_usage(ctl, "'%s' is not a version", ctl->value['v']);
        return false;
    }
    *out_version = (uint32_t)version;
    return true;
}

static enum ctl_exit take_servers(struct ctl *ctl)
{
    struct servers servers = {0};
    struct buffer error = {0};
    enum ctl_exit code = CTL_OK;

    if (servers_parse(optarg, &servers, &error) != ERR_OK) {
        code = ctl_usage(ctl, "%s", error.len > 0 ? (const char *)error.data : "out of memory");
    }
    servers_done(&servers);
    buffer_done(&error);
    ctl->servers = optarg;
    ctl->places_known = true;
    return code;
}

/* What to do with an option. CTL_OK with *out_done: help or version was printed. */
static enum ctl_exit take_global(struct ctl *ctl, int option, bool *out_done)
{
    uint64_t seconds = 0;

    switch ((enum global_option)option) {
    case OPTION_SERVER:
        return take_servers(ctl);
    case OPTION_MOUNT:
        if (!ctl_use_mount(ctl, optarg)) {
            return CTL_FAILED;
        }
        break;
    case OPTION_JSON:
        ctl->json = true;
        break;
    case OPTION_TIMEOUT:
        if (parse_u64(optarg, 1, TIMEOUT_S_MAX, &seconds) != ERR_OK) {
            return ctl_usage(ctl, "'%s' is not a number of seconds from 1 to %u", optarg,
                             TIMEOUT_S_MAX);
        }
        ctl->timeout_ms = (uint32_t)seconds * 1000u;
        break;
    case OPTION_HELP:
        print_help(ctl->command);
        *out_done = true;
        break;
    case OPTION_VERSION:
        (void)puts("quorumctl " QUORUMFS_VERSION);
        *out_done = true;
        break;
    }
    return CTL_OK;
}

/* The options of a command as getopt_long wants them. */
struct getopt_tables {
    char letters[2 * CTL_OPTIONS_MAX + 3];
    struct option longs[GLOBAL_OPTIONS + CTL_OPTIONS_MAX + 1];
};

static void fill_tables(const struct command *command, struct getopt_tables *out)
{
    size_t at = 0;
    size_t longs = GLOBAL_OPTIONS;

    *out = (struct getopt_tables){0};
    memcpy(out->longs, global_options, sizeof global_options);
    if (command == NULL) {
        out->letters[at++] = '+'; /* The first word that is no option is the command. */
    }
    out->letters[at++] = ':';
    for (size_t i = 0; command != NULL && command->options[i].letter != '\0'; i++) {
        const struct ctl_option *option = &command->options[i];
        CHECK(i + 1 < CTL_OPTIONS_MAX);
        out->letters[at++] = option->letter;
        if (option->has_value) {
            out->letters[at++] = ':';
        }
        if (option->long_name != NULL) {
            out->longs[longs++] = (struct option){
                option->long_name, option->has_value ? required_argument : no_argument, NULL,
                option->letter};
        }
    }
}

static enum ctl_exit bad_option(const struct ctl *ctl, int option, char **argv)
{
    const char *word = argv[optind - 1];

    if (option == ':') {
        return ctl_usage(ctl, "option '%s' needs an argument", word);
    }
    if (optopt > 0 && optopt < 128) {
        return ctl_usage(ctl, "unknown option '-%c'", optopt);
    }
    return ctl_usage(ctl, "unknown option '%s'", word);
}

/* Takes options up to the command, or all of the command's. *out_first: the first argument. */
static enum ctl_exit take_options(struct ctl *ctl, int argc, char **argv, int *out_first,
                                  bool *out_done)
{
    struct getopt_tables tables;
    int option = 0;
    enum ctl_exit code = CTL_OK;

    fill_tables(ctl->command, &tables);
    optind = 0; /* glibc: begin anew. */
    opterr = 0;
    while (code == CTL_OK && !*out_done &&
           (option = getopt_long(argc, argv, tables.letters, tables.longs, NULL)) != -1) {
        if (option == '?' || option == ':') {
            return bad_option(ctl, option, argv);
        }
        if (option >= OPTION_SERVER) {
            code = take_global(ctl, option, out_done);
        } else {
            ctl->given[option] = true;
            ctl->value[option] = optarg;
        }
    }
    *out_first = optind;
    return code;
}

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < COMMANDS; i++) {
        if (strcmp(commands[i]->name, name) == 0) {
            return commands[i];
        }
    }
    return NULL;
}

/* Both rounds of options, then the command. */
static enum ctl_exit run(struct ctl *ctl, int argc, char **argv)
{
    int first = 0;
    bool done = false;
    enum ctl_exit code = take_options(ctl, argc, argv, &first, &done);

    if (code != CTL_OK || done) {
        return code;
    }
    if (first == argc) {
        return ctl_usage(ctl, "a command is needed");
    }
    argc -= first;
    argv += first;
    const struct command *command = find_command(argv[0]);
    if (command == NULL) {
        return ctl_usage(ctl, "unknown command '%s'", argv[0]);
    }
    ctl->command = command;
    code = take_options(ctl, argc, argv, &first, &done);
    if (code != CTL_OK || done) {
        return code;
    }
    argc -= first;
    argv += first;
    if (argc < command->arguments_min) {
        return ctl_usage(ctl, "%s needed", command->arguments);
    }
    if (argc > command->arguments_max) {
        return ctl_usage(ctl, "too many arguments");
    }
    return command->run(ctl, argc, argv);
}

int ctl_main(int argc, char **argv)
{
    struct ctl ctl = {.servers = SERVERS_DEFAULT, .timeout_ms = TIMEOUT_S_DEFAULT * 1000u};

    logging_set_level(LOG_LEVEL_ERROR);
    enum ctl_exit code = run(&ctl, argc, argv);
    ctl_close(&ctl);
    /* A full disk or a closed pipe must not look like success. */
    if (fflush(stdout) != 0 || ferror(stdout)) {
        if (errno != EPIPE) {
            (void)fprintf(stderr, "quorumctl: standard output: %s\n", strerror(errno));
        }
        code = code == CTL_OK ? CTL_FAILED : code;
    }
    buffer_done(&ctl.servers_found);
    buffer_done(&ctl.mountpoint);
    buffer_done(&ctl.subtree);
    return (int)code;
}
