/* SPDX-License-Identifier: Apache-2.0
 * A server: a ROUTER socket and the clients behind it. For router.c and client.c.
 *
 * ROUTER knows clients by routing id, its monitor knows connections by descriptor, and a message
 * carries both. Descriptors are used again: the events of one are counted, so that an open one
 * (accepted once more than ended) is told from a closed one in whatever order the events come. */
#ifndef HAUL_ZMQ_ROUTER_H
#define HAUL_ZMQ_ROUTER_H

#include "channel.h"

/* A descriptor of libzmq's. */
struct haul_zmq_slot {
    uint32_t accepted, ended;
    struct haul_zmq_descriptor descriptor; /* while it is open */
    struct haul_zmq_client *client;        /* whose messages came from it, not ended */
};

struct haul_zmq_server {
    struct haul_zmq_channel *channel;
    struct haul_zmq_list node; /* in channel->servers */
    const struct haul_zmq_route *route;
    struct haul_listener *listener; /* NULL: no new clients */
    struct haul_zmq_source socket;
    struct haul_zmq_monitor monitor;
    size_t references; /* core's handle, each client, and whoever works on it */
    char bound[HAUL_ZMQ_ENDPOINTS_MAX][HAUL_ZMQ_ENDPOINT_BYTES]; /* with real ports */
    struct haul_zmq_descriptor listening[HAUL_ZMQ_ENDPOINTS_MAX];
    size_t bound_count, listening_count, closed_count;
    char unix_path[108]; /* of the socket's file, or "" */
    dev_t file_device;
    ino_t file_inode;

    struct haul_zmq_slot *slots; /* by descriptor */
    size_t slot_count;
    struct haul_zmq_client **buckets; /* by routing id; a power of two */
    size_t bucket_count, client_count;
    struct haul_zmq_list clients; /* all */
    struct haul_zmq_list ended;   /* those whose last messages may still be in the socket */
};

enum haul_zmq_client_state {
    /* Its message is here, the news of its connection is not: either it is on its way, or the
     * connection has ended already. */
    HAUL_ZMQ_UNCONFIRMED,
    HAUL_ZMQ_LIVE,
    HAUL_ZMQ_ENDED,
};

/* A connection of a server. It stays known until it has ended and the socket has been read to the
 * end after that, so that its late messages are not taken for those of a new one. */
struct haul_zmq_client {
    struct haul_zmq_conn conn;
    struct haul_zmq_server *server;
    struct haul_zmq_list node;       /* in server->clients */
    struct haul_zmq_list ended_node; /* in server->ended */
    struct haul_zmq_client *next;    /* in its bucket */
    struct haul_zmq_timer timer;     /* the next step of its state */
    enum haul_zmq_client_state state;
    bool settled; /* ended, and nothing of it is left in the socket */
    int fd;
    const char *why;
    size_t id_bytes;
    uint8_t id[];
};

/* Whose message this is: a client known or, with conn.link NULL, a new one. `opens`: it begins a
 * session. NULL: nobody's any more, or there is no memory. */
struct haul_zmq_client *haul_zmq_client_of(struct haul_zmq_server *server, zmq_msg_t *id, int fd,
                                           bool opens);
void haul_zmq_client_disconnect(struct haul_zmq_conn *conn, bool flush);
/* Events of the monitor. They only change the state: core is told later. */
void haul_zmq_client_accepted(struct haul_zmq_server *server, int fd);
void haul_zmq_client_closed(struct haul_zmq_server *server, int fd);
/* The socket has been read to its end: tells core about the clients that have ended. */
void haul_zmq_clients_settle(struct haul_zmq_server *server);
/* libzmq has closed the connections of all of them. */
void haul_zmq_clients_end(struct haul_zmq_server *server);
/* At the end of the channel. */
void haul_zmq_clients_free(struct haul_zmq_server *server);

/* Errors: HAUL_ADDRESS. */
int haul_zmq_server_bind(struct haul_zmq_server *server);
/* Ends its clients too. */
void haul_zmq_server_unbind(struct haul_zmq_server *server);
/* Returns whether that was the last one and the server is gone. */
bool haul_zmq_server_release(struct haul_zmq_server *server);

#endif
