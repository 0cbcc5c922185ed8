/* SPDX-License-Identifier: Apache-2.0
 *
 * Who the callers are: processes behind the thread ids that the kernel gives. Any thread.
 */
#ifndef QUORUMFS_PROCESS_H
#define QUORUMFS_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* A process that is watched for its end. */
struct process {
    pid_t tgid; /* 0: unknown */
    int pidfd;  /* -1: none, the end cannot be seen */
};

/* The process of this thread. tgid 0: unknown (tid 0: another pid namespace; or gone). */
pid_t process_tgid(pid_t tid);

/* Begins to watch; release with process_close. */
struct process process_open(pid_t tid);
void process_close(struct process *process);

/* `host pid command` of the process of this thread, as a C string; host NULL: the host name. */
#define PROCESS_TEXT_BYTES 160u
void process_describe(pid_t tid, const char *host, char *text, size_t text_bytes);

/* Has surely exited. */
bool process_is_gone(const struct process *process);

#endif
