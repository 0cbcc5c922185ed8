/* SPDX-License-Identifier: Apache-2.0
 *
 * What the commands of quorumctl share: one process runs one command, once.
 */
#ifndef QUORUMFS_CTL_H
#define QUORUMFS_CTL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <jansson.h>
#include <uv.h>

#include "common/buffer.h"
#include "common/err.h"
#include "common/wire.h"
#include "fs/client/client.h"

/* Exit codes. */
enum ctl_exit {
    CTL_OK = 0,
    CTL_FAILED = 1, /* said on stderr */
    CTL_USAGE = 2,
};

#define CTL_OPTIONS_MAX 8u

/* An option of one command. */
struct ctl_option {
    char letter;           /* 0 ends the list; how ctl_given and ctl_value find it */
    const char *long_name; /* NULL: none */
    bool has_value;
};

struct ctl {
    const struct command *command;
    const char *servers; /* "" until it is known */
    bool json;
    uint32_t timeout_ms;
    bool given[128];             /* options of the command, by letter */
    const char *value[128];      /* and their values */
    struct buffer servers_found; /* of the mount that was named */
    struct buffer mountpoint;    /* paths below it are paths of the tree; empty: none */
    struct buffer subtree;       /* which directory of the tree it shows */
    bool places_known;           /* --server or --mount said whom to ask */
    uv_loop_t loop;
    bool loop_open;
    struct client *client;
};

/* A command; each file of a command ends in one. */
struct command {
    const char *name;
    const char *arguments; /* for the usage line */
    const char *summary;   /* one line for the list of commands */
    const char *help;      /* what it does, then its options; 80 columns */
    struct ctl_option options[CTL_OPTIONS_MAX];
    int arguments_min;
    int arguments_max;
    enum ctl_exit (*run)(struct ctl *ctl, int argc, char **argv); /* the arguments only */
};

extern const struct command command_status;
extern const struct command command_members;
extern const struct command command_ls;
extern const struct command command_stat;
extern const struct command command_get;
extern const struct command command_set;
extern const struct command command_create;
extern const struct command command_rm;
extern const struct command command_mv;
extern const struct command command_sync;
extern const struct command command_watch;

/* ---- ctl.c ---- */

/* The whole program. */
int ctl_main(int argc, char **argv);

/* One line on stderr and "Try ... --help". Returns CTL_USAGE. */
enum ctl_exit ctl_usage(const struct ctl *ctl, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* "quorumctl: create /a: the node exists (EXISTS)", with --json also as an object on stdout.
 * `path` may be NULL. Returns CTL_FAILED. */
enum ctl_exit ctl_fail(const struct ctl *ctl, const char *path, enum err err);

/* The value of -v VERSION. False: said on stderr, CTL_USAGE. */
bool ctl_version(const struct ctl *ctl, bool *out_given, uint32_t *out_version);

/* ---- ask.c ---- */

/* Connects; `session`: for writes. False: said on stderr. Once. */
bool ctl_connect(struct ctl *ctl, bool session);

/* Asks and waits. With ERR_OK *out is a copy of the answer, for wire_free; NULL else. */
enum err ctl_ask(struct ctl *ctl, Wire__Request *request, Wire__Answer **out);

/* The same for a write. */
enum err ctl_write(struct ctl *ctl, Wire__Op *op, Wire__Answer **out);

/* All of standard input, or the text itself if it is not "-". ERR_FILE_TOO_BIG above bytes_max. */
enum err ctl_data(const char *text, size_t bytes_max, struct buffer *out);

/* The whole data of one version of a node, in `data`. *out: an answer with its attr, for wire_free;
 * NULL or set also with an error. (get.c) */
enum err ctl_read_data(struct ctl *ctl, const struct buffer *path, struct buffer *data,
                       Wire__Answer **out);

/* Ends the session and the loop. */
void ctl_close(struct ctl *ctl);

/* ---- place.c ---- */

/* --mount PATH: which ensemble that mount shows. False: said on stderr. */
bool ctl_use_mount(struct ctl *ctl, const char *path);

/* From an argument to a path of the tree, in `out` (a C string). ERR_BAD_NAME, ERR_NAME_TOO_LONG.
 * Without --server and --mount, a path in a mount of ours means that ensemble. Before
 * ctl_connect. */
enum err ctl_path(struct ctl *ctl, const char *argument, struct buffer *out);

/* ---- print.c ---- */

/* Unprintable bytes and backslashes as \xNN, so that a name is one line; UTF-8 stays. */
void ctl_print_name(const void *bytes, size_t len);

/* Puts the bytes under `key` as text if they are UTF-8, else under `key`_hex. */
void ctl_json_bytes(json_t *object, const char *key, const void *bytes, size_t len);
json_t *ctl_json_attr(const Wire__Attr *attr);
void ctl_json_number(json_t *object, const char *key, uint64_t value);

/* Prints and frees. */
void ctl_json_print(json_t *value);

const char *ctl_kind_name(Wire__Kind kind);

/* "drwxr-xr-x" into 11 bytes. */
void ctl_mode_text(const Wire__Attr *attr, char out[11]);

/* "2026-01-31 12:00:00.123456789 UTC" into 40 bytes. */
void ctl_time_text(int64_t time_ns, char out[40]);

#endif
