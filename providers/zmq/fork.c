/* SPDX-License-Identifier: Apache-2.0
 * What a child of fork() must not keep: libzmq's network descriptors. Open ones would hide the end
 * of its parent from all peers. libzmq's other ones (event loops, wake-ups) do no harm.
 *
 * Core holds the drive locks during a fork, so that sockets and connections are in order; only the
 * list of channels may be changing, and is in order at each moment. */
#include "router.h"

#include <sys/stat.h>
#include <unistd.h>

static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER; /* for those who change it */
static _Atomic(struct haul_zmq_channel *) channels;

/* ---- Descriptors --------------------------------------------------------------------------------
 */

struct haul_zmq_descriptor haul_zmq_descriptor_note(int fd)
{
    struct stat status;
    if (fstat(fd, &status) || !S_ISSOCK(status.st_mode))
        return (struct haul_zmq_descriptor){-1, 0};
    return (struct haul_zmq_descriptor){fd, status.st_ino};
}

bool haul_zmq_descriptor_is(const struct haul_zmq_descriptor *descriptor, int fd)
{
    struct stat status;
    return descriptor->inode != 0 && fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode) &&
           status.st_ino == descriptor->inode;
}

/* libzmq may have closed it, and somebody else have got the same number. */
void haul_zmq_descriptor_drop(const struct haul_zmq_descriptor *descriptor)
{
    if (haul_zmq_descriptor_is(descriptor, descriptor->fd))
        close(descriptor->fd);
}

/* ---- Channels -----------------------------------------------------------------------------------
 */

static void drop_in_child(void)
{
    for (struct haul_zmq_channel *channel = channels; channel; channel = channel->next_open) {
        haul_zmq_servers_drop(channel);
        haul_zmq_dealers_drop(channel);
    }
    channels = NULL;
    pthread_mutex_init(&list_lock, NULL);
}

static void install(void)
{
    pthread_atfork(NULL, NULL, drop_in_child);
}

void haul_zmq_fork_register(struct haul_zmq_channel *channel)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, install);
    pthread_mutex_lock(&list_lock);
    channel->next_open = channels;
    channels = channel;
    pthread_mutex_unlock(&list_lock);
}

void haul_zmq_fork_unregister(struct haul_zmq_channel *channel)
{
    pthread_mutex_lock(&list_lock);
    _Atomic(struct haul_zmq_channel *) *place = &channels;
    while (*place != channel)
        place = &(*place)->next_open;
    *place = channel->next_open;
    pthread_mutex_unlock(&list_lock);
}
