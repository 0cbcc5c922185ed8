/* SPDX-License-Identifier: Apache-2.0
 *
 * What watch.c (the command, and printing) and reload.c (--exec) share.
 */
#ifndef QUORUMFS_CTL_WATCH_H
#define QUORUMFS_CTL_WATCH_H

#include <signal.h>

#include "fs/client/watch.h"
#include "fs/ctl/ctl.h"

/* One run of the command. */
struct watching {
    struct ctl *ctl;
    const struct buffer *path; /* of the tree */
    struct client_watch *watch;
    bool once;
    bool started; /* a replica has said where the stream begins */
    bool stopped; /* by a signal */
    enum err err; /* not OK: the watch has ended */
    uv_signal_t signal[2];
    uv_timer_t timer;

    /* Printing: lines that are not yet written. */
    FILE *lines;
    char *text; /* of `lines` */
    size_t text_len;

    /* --exec */
    bool pending;          /* something has changed and has not been carried over */
    uint64_t changed_zxid; /* of the newest change */
    uint64_t first_ms;     /* of the loop's clock: when `pending` was set, */
    uint64_t last_ms;      /* and when it changed last */
};

/* True: something ends it (signal, error). */
bool watching_is_over(const struct watching *watching);

/* Runs the loop until something happens, or until `until_ms` of the loop's clock. */
void watching_wait(struct watching *watching, uint64_t until_ms);

/* ---- reload.c ---- */

struct reload_options {
    const char *exec;
    const char *check; /* NULL: none */
    uint64_t debounce_ms;
};

/* The callbacks of client_watch for it. */
void reload_changes(void *arg, Wire__Change *const *changes, size_t count);
void reload_gap(void *arg, uint64_t from, uint64_t to);

/* Until it is over, or has done it --once. */
enum ctl_exit reload_run(struct watching *watching, const struct reload_options *options);

#endif
