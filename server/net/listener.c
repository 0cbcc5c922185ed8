/* SPDX-License-Identifier: Apache-2.0
 *
 * Listening sockets. Opened by net.c; connections go to clients.c and peers.c.
 */
#include "server/net/listener.h"

#include <errno.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 512

struct listener {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_pipe_t pipe;
        uv_tcp_t tcp;
    } uv;
    void (*ready)(void *arg, uv_stream_t *server);
    void *arg;
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)]; /* "": TCP */
};

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

void listener_close(struct listener *listener)
{
    if (listener == NULL) {
        return;
    }
    if (listener->path[0] != '\0') {
        (void)unlink(listener->path);
    }
    uv_close(&listener->uv.handle, on_closed);
}

/* ---- starting ---- */

static void on_connection(uv_stream_t *server, int status)
{
    struct listener *listener = server->data;

    if (status == 0) {
        listener->ready(listener->arg, server);
    }
}

enum err listener_start(struct listener *listener, void (*ready)(void *arg, uv_stream_t *server),
                        void *arg)
{
    int status = 0;

    listener->ready = ready;
    listener->arg = arg;
    /* The kernel listens since the opening; this makes the loop look at it. */
    status = uv_listen(&listener->uv.stream, BACKLOG, on_connection);
    return status == 0 ? ERR_OK : err_from_errno(-status);
}

static enum err failed(struct buffer *error, const char *what, int errno_value)
{
    (void)buffer_printf(error, "cannot listen on %s: %s", what, strerror(errno_value));
    return errno_value == EADDRINUSE ? ERR_BUSY : err_from_errno(errno_value);
}

/* ---- TCP ---- */

static int bind_tcp(const struct addrinfo *address)
{
    const int on = 1;
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0) {
        return -1;
    }
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        bind(fd, address->ai_addr, address->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0) {
        int saved = errno;

        (void)close(fd);
        errno = saved;
        return -1;
    }
    return fd;
}

enum err listener_open_tcp(uv_loop_t *loop, const char *host, uint16_t port, struct listener **out,
                           struct buffer *error)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_NUMERICSERV | AI_PASSIVE};
    struct addrinfo *list = NULL;
    struct listener *listener = NULL;
    char port_text[8];
    char what[300];
    int fd = -1;
    int status = 0;

    (void)snprintf(port_text, sizeof(port_text), "%u", (unsigned)port);
    (void)snprintf(what, sizeof(what), "%s:%u", host, (unsigned)port);
    status = getaddrinfo(host, port_text, &hints, &list);
    if (status != 0) {
        (void)buffer_printf(error, "cannot listen on %s: %s", what, gai_strerror(status));
        return ERR_IO;
    }
    fd = bind_tcp(list);
    freeaddrinfo(list);
    if (fd < 0) {
        return failed(error, what, errno);
    }
    listener = calloc(1, sizeof(*listener));
    if (listener == NULL || uv_tcp_init(loop, &listener->uv.tcp) != 0) {
        free(listener);
        (void)close(fd);
        return failed(error, what, ENOMEM);
    }
    listener->uv.handle.data = listener;
    status = uv_tcp_open(&listener->uv.tcp, fd);
    if (status != 0) {
        (void)close(fd);
        listener_close(listener);
        return failed(error, what, -status);
    }
    *out = listener;
    return ERR_OK;
}

/* ---- unix ---- */

/* A socket file is there: 0 if nobody answers, so that it may be replaced. */
static int is_taken(const struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int result = 0;

    if (fd < 0) {
        return errno;
    }
    if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0) {
        result = EADDRINUSE;
    } else if (errno != ECONNREFUSED && errno != ENOENT) {
        result = errno;
    }
    (void)close(fd);
    return result;
}

static void make_folder_of(const char *path)
{
    char folder[sizeof(((struct sockaddr_un *)0)->sun_path)];
    char *slash = NULL;

    (void)snprintf(folder, sizeof(folder), "%s", path);
    slash = strrchr(folder, '/');
    if (slash != NULL && slash != folder) {
        *slash = '\0';
        (void)mkdir(folder, 0755); /* the bind tells what is wrong */
    }
}

/* A bound and listening descriptor, or -1 with errno. */
static int bind_unix(const struct sockaddr_un *address)
{
    struct stat attr = {0};
    int fd = -1;
    int taken = 0;

    make_folder_of(address->sun_path);
    if (lstat(address->sun_path, &attr) == 0) {
        taken = S_ISSOCK(attr.st_mode) ? is_taken(address) : EEXIST;
        if (taken != 0) {
            errno = taken;
            return -1;
        }
        (void)unlink(address->sun_path);
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -1;
    }
    if (bind(fd, (const struct sockaddr *)address, sizeof(*address)) != 0 ||
        chmod(address->sun_path, 0666) != 0 || listen(fd, BACKLOG) != 0) {
        int saved = errno;

        (void)close(fd);
        errno = saved;
        return -1;
    }
    return fd;
}

enum err listener_open_unix(uv_loop_t *loop, const char *path, struct listener **out,
                            struct buffer *error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct listener *listener = NULL;
    int fd = -1;
    int status = 0;

    if (strlen(path) >= sizeof(address.sun_path)) {
        (void)buffer_printf(error, "cannot listen on %s: longer than %zu bytes", path,
                            sizeof(address.sun_path) - 1);
        return ERR_CONFIG;
    }
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    fd = bind_unix(&address);
    if (fd < 0) {
        return failed(error, path, errno);
    }
    listener = calloc(1, sizeof(*listener));
    if (listener == NULL || uv_pipe_init(loop, &listener->uv.pipe, 0) != 0) {
        free(listener);
        (void)close(fd);
        return failed(error, path, ENOMEM);
    }
    listener->uv.handle.data = listener;
    (void)snprintf(listener->path, sizeof(listener->path), "%s", path);
    status = uv_pipe_open(&listener->uv.pipe, fd);
    if (status != 0) {
        (void)close(fd);
        listener_close(listener);
        return failed(error, path, -status);
    }
    *out = listener;
    return ERR_OK;
}
