/* SPDX-License-Identifier: Apache-2.0
 * Servers: listening and receiving. */
#include "handles.h"
#include "inbox.h"
#include "link.h"
#include "receiving.h"

#include "address.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- Life ------------------------------------------------------------------------------------ */

static void warn_if_open_to_all(const struct haul_address *address)
{
    static atomic_bool warned;
    bool all = !*address->unix_path && (!*address->host || !strcmp(address->host, "*"));
    if (all && !atomic_exchange(&warned, true))
        haul_log(HAUL_LOG_WARNING,
                 "%s listens on all interfaces, and whoever reaches it may send: on an "
                 "untrusted network bind 127.0.0.1 or one inner address",
                 address->text);
}

void haul_server_retain(struct haul_server *server)
{
    server->references++;
}

static void free_server(struct haul_server *server)
{
    haul_level_close(&server->inbox.level);
    if (server->route)
        server->transport->provider->channel->route_free(server->route);
    free(server->listener);
    free(server);
}

static int listen_on(struct haul_engine *engine, const char *address, struct haul_server **server)
{
    struct haul_address parsed;
    int err = haul_address_parse(address, &parsed);
    if (err)
        return err;
    struct haul_server *made = calloc(1, sizeof *made);
    struct haul_listener *listener = calloc(1, sizeof *listener);
    if (!made || !listener) {
        free(made);
        free(listener);
        return haul_fail(HAUL_NO_MEMORY, "no memory for a server");
    }
    made->references = 1;
    made->engine = engine;
    made->listener = listener;
    made->transport = &engine->transports[0];
    listener->server = made;
    haul_inbox_init(engine, &made->inbox);
    const struct haul_channel_ops *channel = made->transport->provider->channel;
    err = channel->resolve(made->transport->channel, &parsed, true, &made->route);
    if (!err)
        err = haul_engine_enter_open(engine);
    if (err) {
        free_server(made);
        return err;
    }
    err = channel->listen(made->transport->channel, made->route, listener, &made->handle,
                          made->address, sizeof made->address);
    if (!err) {
        haul_list_append(&engine->servers, &made->node);
        haul_engine_retain(engine);
        warn_if_open_to_all(&parsed);
        *server = made;
    }
    haul_engine_leave(engine);
    if (err)
        free_server(made);
    return err;
}

int haul_listen(struct haul_context *context, const char *address, struct haul_server **server)
{
    struct haul_engine *engine = haul_context_engine(context);
    if (engine->inherited)
        return haul_engine_enter(engine);
    haul_engine_retain(engine); /* the context may be closed meanwhile */
    int err = listen_on(engine, address, server);
    haul_engine_release(engine);
    return err;
}

const char *haul_server_address(const struct haul_server *server)
{
    return server->address;
}

/* The first link of the server in the engine's list, or NULL. */
static struct haul_link *first_link(struct haul_server *server)
{
    HAUL_LIST_EACH(&server->engine->links, node)
    {
        struct haul_link *link = HAUL_CONTAINER_OF(node, struct haul_link, node);
        if (link->server == server)
            return link;
    }
    return NULL;
}

void haul_server_shut(struct haul_server *server)
{
    struct haul_link *link;
    if (!server->handle)
        return;
    server->transport->provider->channel->unlisten(server->handle);
    server->handle = NULL;
    server->listener->server = NULL;
    haul_inbox_close(&server->inbox);
    while ((link = first_link(server)))
        haul_link_bye(link, HAUL_CLOSED, "the server was closed");
    haul_list_remove(&server->node);
}

void haul_server_release(struct haul_server *server)
{
    struct haul_engine *engine = server->engine;
    if (--server->references > 0)
        return;
    haul_inbox_close(&server->inbox); /* what the end of the links has delivered */
    free_server(server);
    haul_engine_release(engine);
}

void haul_server_shutdown(struct haul_server *server)
{
    struct haul_engine *engine = server->engine;
    if (haul_engine_enter(engine))
        return;
    haul_server_shut(server);
    haul_links_reap(engine);
    haul_engine_leave(engine);
}

void haul_server_close(struct haul_server *server)
{
    if (!server || server->engine->inherited)
        return;
    struct haul_engine *engine = server->engine;
    haul_engine_retain(engine);
    haul_drive_enter(&engine->drive);
    haul_server_shut(server);
    haul_links_reap(engine); /* links point to the server */
    haul_server_release(server);
    haul_drive_leave(&engine->drive);
    haul_engine_release(engine);
}

int haul_server_fd(struct haul_server *server)
{
    return haul_inbox_fd(&server->inbox);
}

size_t haul_server_peers(struct haul_server *server, struct haul_peer **peers, size_t max)
{
    size_t count = 0;
    if (haul_engine_enter(server->engine))
        return 0;
    HAUL_LIST_EACH(&server->engine->links, node)
    {
        struct haul_link *link = HAUL_CONTAINER_OF(node, struct haul_link, node);
        if (link->server != server || !haul_link_is_open(link))
            continue;
        if (count < max)
            peers[count] = haul_peer_retain(link->peer);
        count++;
    }
    haul_engine_leave(server->engine);
    return count;
}

/* ---- Receiving ------------------------------------------------------------------------------- */

int haul_recv(struct haul_server *server, struct haul_message **message, int64_t timeout_ns)
{
    int err = haul_engine_enter(server->engine);
    if (err)
        return err;
    struct haul_engine *engine = server->engine;
    haul_engine_retain(engine);
    haul_server_retain(server);
    haul_place_by(&server->inbox, HAUL_PLACE_POOL);
    err = haul_inbox_receive(&server->inbox, timeout_ns, message);
    if (!err)
        haul_inbound_acknowledge(*message);
    haul_server_release(server);
    haul_engine_leave(engine);
    haul_engine_release(engine);
    return err;
}

/* A destination dict as a destination of one row. */
struct one_row {
    struct haul_destination destination;
    struct haul_message *message;
};

static int make_row(const struct haul_inbox *inbox, const struct haul_dict *dict,
                    struct one_row *row)
{
    int err = haul_dict_check_destination(dict, inbox->engine);
    if (err)
        return err;
    *row = (struct one_row){.destination = {.row0 = dict, .rows = 1}};
    row->destination.message = &row->message;
    haul_list_init(&row->destination.node);
    return 0;
}

struct row_wait {
    struct haul_inbox *inbox;
    struct haul_destination *destination;
};

static bool row_is_filled(void *arg)
{
    struct row_wait *wait = arg;
    return wait->inbox->closed || wait->destination->whole == 1;
}

static int receive_row(struct haul_inbox *inbox, struct haul_destination *row, int64_t timeout_ns)
{
    struct row_wait wait = {inbox, row};
    haul_destination_post(inbox, row);
    int err =
        haul_drive_wait(&inbox->engine->drive, row_is_filled, &wait, haul_deadline_ns(timeout_ns));
    haul_destination_withdraw(row);
    if (row->whole == 1)
        return 0;
    if (!err)
        err = HAUL_CLOSED;
    return haul_fail_with(err, err == HAUL_TIMEOUT ? "no message came in time" : "");
}

static int receive_into(struct haul_inbox *inbox, struct haul_dict *dict,
                        struct haul_message **message, int64_t timeout_ns)
{
    struct one_row row;
    int err = make_row(inbox, dict, &row);
    if (err)
        return err;
    atomic_fetch_add(&dict->references, 1); /* it may be destroyed meanwhile */
    dict->receiving = true;
    err = receive_row(inbox, &row.destination, timeout_ns);
    dict->receiving = false;
    haul_dict_unreference(dict);
    if (err)
        return err;
    *message = row.message;
    row.message->destination = NULL; /* it is the user's from here on */
    return 0;
}

int haul_recv_into(struct haul_server *server, struct haul_dict *destination,
                   struct haul_message **message, int64_t timeout_ns)
{
    struct haul_engine *engine = server->engine;
    int err = haul_engine_enter(engine);
    if (err)
        return err;
    haul_engine_retain(engine);
    haul_server_retain(server);
    err = receive_into(&server->inbox, destination, message, timeout_ns);
    haul_server_release(server);
    haul_engine_leave(engine);
    haul_engine_release(engine);
    return err;
}
