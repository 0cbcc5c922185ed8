/* SPDX-License-Identifier: Apache-2.0
 *
 * A second connection that asks another server for a leader while our replica knows none
 * (CONSENSUS 26). Handed messages and time by attach.c; hands it a link that knows a leader.
 * Until then, and if nobody knows one, reads go on at our replica.
 *
 * Invariant: there is a probe only while our link is welcomed and its replica knows no leader.
 */
#include "fs/client/client_internal.h"

void probe_close(struct client *client)
{
    if (client->probe == NULL) {
        return;
    }
    link_close(client->probe);
    client->probe = NULL;
    client->probe_next_ms = uv_now(client->loop) + client->timers.probe_ms;
}

void probe_message(struct client *client, const Wire__ToClient *message)
{
    struct link *probe = client->probe;

    if (message->body_case == WIRE__TO_CLIENT__BODY_WELCOME &&
        message->welcome->version == PROTOCOL_VERSION && message->welcome->leader != 0 &&
        attach_is_ours(client, client->probe_server, message->welcome)) {
        client->probe = NULL;
        attach_adopt(client, probe, client->probe_server, message->welcome);
    } else {
        probe_close(client);
    }
}

bool probe_is_wanted(const struct client *client)
{
    return client->options.session && client->servers.count > 1 &&
           client->phase >= PHASE_WELCOMED && client->leader == 0 && !client->closing;
}

void probe_tick(struct client *client, uint64_t now_ms)
{
    if (!probe_is_wanted(client) || now_ms < client->probe_next_ms) {
        return;
    }
    if (client->probe != NULL) {
        probe_close(client); /* It did not answer in time. */
        return;
    }
    client->probe_server = (client->probe_server + 1) % client->servers.count;
    if (client->probe_server == client->server) {
        client->probe_server = (client->probe_server + 1) % client->servers.count;
    }
    client->probe = link_open(client->loop, &client->servers.list[client->probe_server],
                              client->failures, &attach_link_events, client);
    if (client->probe != NULL) {
        client->handles++;
    }
    client->probe_next_ms = now_ms + client->timers.connect_ms;
}
