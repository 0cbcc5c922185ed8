/* SPDX-License-Identifier: Apache-2.0
 *
 * From the text that a user gave to addresses. Called by client.c; the list is used by attach.c
 * and link.c.
 *
 * Invariant: a list that was parsed has 1..SERVERS_MAX servers.
 */
#include "fs/client/servers.h"

#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "common/parse.h"

static const char unix_prefix[] = "unix:";

static enum err parse_one(const char *text, size_t len, struct server *out, struct buffer *error)
{
    if (len == 0) {
        (void)buffer_printf(error, "an address in the list of servers is empty");
        return ERR_INVALID;
    }
    if (len >= sizeof out->text) {
        (void)buffer_printf(error, "the address of a server is longer than %zu bytes",
                            sizeof out->text - 1);
        return ERR_INVALID;
    }
    memcpy(out->text, text, len);
    out->text[len] = '\0';
    out->is_unix = strncmp(out->text, unix_prefix, strlen(unix_prefix)) == 0;
    if (parse_address(out->text, SERVER_PORT_DEFAULT, out->host, sizeof out->host, &out->port) !=
        ERR_OK) {
        (void)buffer_printf(error, "'%s' is not an address (HOST, HOST:PORT or unix:/PATH)",
                            out->text);
        return ERR_INVALID;
    }
    /* libuv cuts a longer path in silence and would connect to another socket. */
    if (out->is_unix && strlen(out->host) >= sizeof((struct sockaddr_un *)NULL)->sun_path) {
        (void)buffer_printf(error, "the path of the socket '%s' is too long", out->host);
        return ERR_INVALID;
    }
    return ERR_OK;
}

enum err servers_parse(const char *text, struct servers *out, struct buffer *error)
{
    struct servers servers = {.list = calloc(SERVERS_MAX, sizeof *servers.list)};
    enum err err = ERR_OK;

    if (servers.list == NULL) {
        return ERR_MEMORY;
    }
    for (const char *at = text; err == ERR_OK;) {
        size_t len = strcspn(at, ",");

        if (servers.count == SERVERS_MAX) {
            (void)buffer_printf(error, "more than %u servers", SERVERS_MAX);
            err = ERR_INVALID;
            break;
        }
        err = parse_one(at, len, &servers.list[servers.count], error);
        servers.count++;
        if (at[len] == '\0') {
            break;
        }
        at += len + 1;
    }
    if (err != ERR_OK) {
        servers_done(&servers);
        return err;
    }
    *out = servers;
    return ERR_OK;
}

void servers_done(struct servers *servers)
{
    free(servers->list);
    *servers = (struct servers){0};
}
