/* SPDX-License-Identifier: Apache-2.0
 * The drive lock and the event loop.
 *
 * Happy path. A thread that waits takes the lock, finds nobody driving, and drives: it dispatches
 * ready descriptors and runs progress() until what it waits for is there. No other thread is
 * involved, so a message costs no hand-off. The lock is held while it works and free while it
 * sleeps, so others send, release and reply meanwhile.
 *
 * Others who wait sleep on a descriptor of their own; after each pass the driver tells those whose
 * wait is over, and when it leaves it wakes one of the rest, who drives on. When nobody waits, the
 * progress thread takes over after GRACE_NS; a waiter that comes takes the turn from it at once.
 *
 * A turn that was taken over ends at its next look at `driver`; it drops the events it has in hand,
 * which is safe because watches are level-triggered, or their providers look for themselves in
 * every pass (ofi).
 *
 * Failure modes. A signal ends a sleep: HAUL_INTERRUPTED. fork: the child never touches the lock
 * again (core checks before); haul_drive_forked() closes what it inherited. */
#include "drive.h"

#include "error.h"
#include "log.h"
#include "thread.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum { EVENTS_PER_PASS = 64, QUICK_PASSES = 8, AGAIN = 1 };
/* How often a thread that waits asks whether it is interrupted. */
#define ASK_NS (100 * (uint64_t)HAUL_NS_PER_MS)
/* Nobody drove for this long: the progress thread does. */
#define GRACE_NS (2 * (uint64_t)HAUL_NS_PER_MS)
#define PAUSE_MAX_NS (8 * GRACE_NS)

struct haul_watch {
    struct haul_drive *drive;
    struct haul_list node;
    int fd;
    bool dead;
    void (*ready)(void *arg, uint32_t events);
    void *arg;
};

/* A thread that sleeps while another drives. */
struct waiter {
    struct haul_list node;
    int fd; /* eventfd: a poll on it, unlike a condition variable, is ended by a signal */
    bool told;
    bool (*ready)(void *arg);
    void *arg;
};

/* ---- Lock ------------------------------------------------------------------------------------ */

void haul_drive_enter(struct haul_drive *drive)
{
    atomic_fetch_add(&drive->entering, 1);
    pthread_mutex_lock(&drive->lock);
    atomic_fetch_sub(&drive->entering, 1);
}

static void tell(struct waiter *waiter)
{
    if (waiter->told)
        return;
    waiter->told = true;
    uint64_t one = 1;
    (void)!write(waiter->fd, &one, sizeof one);
}

static void tell_waiters(struct haul_drive *drive)
{
    drive->changed = false;
    HAUL_LIST_EACH(&drive->waiters, node)
    {
        struct waiter *waiter = HAUL_CONTAINER_OF(node, struct waiter, node);
        if (drive->closed || waiter->ready(waiter->arg))
            tell(waiter);
    }
}

void haul_drive_leave(struct haul_drive *drive)
{
    if (drive->changed) {
        drive->work.settled(drive->work.arg);
        tell_waiters(drive);
        if (drive->asleep)
            haul_drive_wake(drive); /* what it waits for may be there */
    }
    pthread_mutex_unlock(&drive->lock);
}

/* Between two steps of a pass: threads that want the lock get it. Mutexes are not fair, so without
 * the yield a busy driver would take it again at once. */
static void let_others_in(struct haul_drive *drive)
{
    for (int tries = 0; tries < 64 && atomic_load(&drive->entering); tries++) {
        pthread_mutex_unlock(&drive->lock);
        sched_yield();
        pthread_mutex_lock(&drive->lock);
    }
}

void haul_drive_wake(struct haul_drive *drive)
{
    uint64_t one = 1;
    (void)!write(drive->wake_fd, &one, sizeof one);
}

/* ---- Watches --------------------------------------------------------------------------------- */

int haul_drive_watch(struct haul_drive *drive, int fd, uint32_t events,
                     void (*ready)(void *arg, uint32_t events), void *arg,
                     struct haul_watch **watch)
{
    struct haul_watch *made = calloc(1, sizeof *made);
    if (!made)
        return haul_fail(HAUL_NO_MEMORY, "no memory to watch a descriptor");
    *made = (struct haul_watch){.drive = drive, .fd = fd, .ready = ready, .arg = arg};
    struct epoll_event event = {.events = events, .data.ptr = made};
    if (epoll_ctl(drive->epoll_fd, EPOLL_CTL_ADD, fd, &event)) {
        free(made);
        return haul_fail(HAUL_SYSTEM, "epoll_ctl: %s", strerror(errno));
    }
    haul_list_append(&drive->watches, &made->node);
    *watch = made;
    return 0;
}

int haul_drive_watch_change(struct haul_watch *watch, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = watch};
    if (epoll_ctl(watch->drive->epoll_fd, EPOLL_CTL_MOD, watch->fd, &event))
        return haul_fail(HAUL_SYSTEM, "epoll_ctl: %s", strerror(errno));
    return 0;
}

void haul_drive_unwatch(struct haul_watch *watch)
{
    epoll_ctl(watch->drive->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
    watch->dead = true;
    haul_list_remove(&watch->node);
    haul_list_append(&watch->drive->dead_watches, &watch->node);
}

static void free_watches(struct haul_list *list)
{
    while (!haul_list_empty(list))
        free(HAUL_CONTAINER_OF(haul_list_pop(list), struct haul_watch, node));
}

static void woken(void *arg, uint32_t events)
{
    struct haul_drive *drive = arg;
    uint64_t count;
    (void)events;
    /* The last wake-up is for all: whoever took it could leave the progress thread asleep for ever.
     */
    if (!drive->thread_stop)
        (void)!read(drive->wake_fd, &count, sizeof count);
}

/* ---- One pass -------------------------------------------------------------------------------- */

/* epoll_pwait2 takes nanoseconds; where the kernel lacks it, milliseconds rounded up. */
static int poll_events(int epoll_fd, struct epoll_event *events, uint64_t timeout_ns)
{
    static atomic_bool has_pwait2 = true;
    if (timeout_ns == 0)
        return epoll_wait(epoll_fd, events, EVENTS_PER_PASS, 0);
    if (atomic_load_explicit(&has_pwait2, memory_order_relaxed)) {
        struct timespec limit = {.tv_sec = (time_t)(timeout_ns / HAUL_NS_PER_S),
                                 .tv_nsec = (long)(timeout_ns % HAUL_NS_PER_S)};
        bool forever = timeout_ns == UINT64_MAX;
        int count = epoll_pwait2(epoll_fd, events, EVENTS_PER_PASS, forever ? NULL : &limit, NULL);
        if (count >= 0 || errno == EINTR)
            return count; /* (Of the kernel's ENOSYS older sandboxes make EPERM.) */
        atomic_store_explicit(&has_pwait2, false, memory_order_relaxed);
    }
    uint64_t ms = timeout_ns / HAUL_NS_PER_MS + (timeout_ns % HAUL_NS_PER_MS != 0);
    return epoll_wait(epoll_fd, events, EVENTS_PER_PASS,
                      timeout_ns == UINT64_MAX ? -1 : (int)HAUL_MIN(ms, (uint64_t)INT32_MAX));
}

uint64_t haul_drive_idle_ns(const struct haul_drive *drive)
{
    return drive->idle_ns + (drive->idle_since_ns ? drive->now_ns - drive->idle_since_ns : 0);
}

static void note_idle(struct haul_drive *drive, bool idle)
{
    if (idle == (drive->idle_since_ns != 0))
        return;
    drive->idle_ns = haul_drive_idle_ns(drive);
    drive->idle_since_ns = idle ? drive->now_ns : 0;
}

/* What no descriptor announces, and what follows from all that the pass has done. */
static bool finish_pass(struct haul_drive *drive)
{
    bool worked = drive->work.progress(drive->work.arg);
    free_watches(&drive->dead_watches);
    drive->work.settled(drive->work.arg);
    if (drive->changed)
        tell_waiters(drive);
    return worked;
}

/* Sleeps up to timeout_ns for events and works on them. Returns whether anything was done, or
 * HAUL_INTERRUPTED, or HAUL_CLOSED when another thread has taken the turn. */
static int pass(struct haul_drive *drive, uint64_t turn, uint64_t timeout_ns)
{
    struct epoll_event events[EVENTS_PER_PASS];
    bool sleeps = timeout_ns > 0, is_thread = drive->driver_is_thread;
    if (sleeps) {
        drive->asleep = true;
        drive->thread_parked |= is_thread;
        pthread_mutex_unlock(&drive->lock);
    }
    int count = poll_events(drive->epoll_fd, events, timeout_ns);
    bool interrupted = count < 0 && errno == EINTR;
    if (sleeps) {
        pthread_mutex_lock(&drive->lock);
        drive->thread_parked &= !is_thread;
        if (drive->driver != turn)
            return HAUL_CLOSED;
        drive->asleep = false;
    }
    drive->now_ns = haul_now_ns();
    drive->crowd = count;
    drive->quick_passes = 0;
    note_idle(drive, count <= 0);
    for (int i = 0; i < count; i++) {
        struct haul_watch *watch = events[i].data.ptr;
        if (!watch->dead)
            watch->ready(watch->arg, events[i].events);
        let_others_in(drive);
        if (drive->driver != turn)
            return HAUL_CLOSED;
    }
    bool worked = finish_pass(drive);
    if (worked)
        note_idle(drive, false);
    if (interrupted)
        return HAUL_INTERRUPTED;
    return count > 0 || worked;
}

/* A pass without sleep. While one descriptor at most is ready at a time, it asks for events only
 * now and then: in between progress() looks where the next one is likely, which costs less. */
static int look(struct haul_drive *drive, uint64_t turn)
{
    if (!drive->looks || drive->crowd > 1 || ++drive->quick_passes >= QUICK_PASSES)
        return pass(drive, turn, 0);
    drive->now_ns = haul_now_ns();
    bool worked = finish_pass(drive);
    if (worked)
        note_idle(drive, false);
    return worked;
}

static uint64_t sleep_ns(struct haul_drive *drive, uint64_t deadline_ns)
{
    uint64_t until = HAUL_MIN(deadline_ns, drive->work.deadline_ns(drive->work.arg));
    if (until == UINT64_MAX)
        return UINT64_MAX;
    uint64_t now_ns = haul_now_ns();
    return until > now_ns ? until - now_ns : 0;
}

/* ---- Spinning -------------------------------------------------------------------------------- */

/* Polling without sleep saves the wake-up, the largest cost of a small message, when the next event
 * is near. It is tried only while it pays: spin_score remembers how often it did; and when spins
 * are preempted again and again others need the CPU, so none is tried for a while. */
enum { SPIN_SCORE_MAX = 64, SPIN_SCORE_MIN = 8 };
/* A turn of the spinning loop takes a microsecond; one that took so long was preempted. */
#define PREEMPTED_NS (200 * (uint64_t)HAUL_NS_PER_US)

/* Whether so many of the last spins were preempted that others need the CPU. One now and then is
 * somebody's timer. */
static bool is_crowded(struct haul_drive *drive, bool preempted)
{
    if (!preempted) {
        drive->spin_crowding -= drive->spin_crowding > 0;
        return false;
    }
    drive->spin_crowding = HAUL_MIN(drive->spin_crowding + 8u, 32u);
    return drive->spin_crowding > 16;
}

static bool spin_pays(struct haul_drive *drive)
{
    if (drive->spin_max_ns == 0)
        return false;
    if (drive->spin_score >= SPIN_SCORE_MIN)
        return drive->now_ns >= drive->spin_not_before_ns;
    drive->spin_score++; /* after some sleeps without, one more try */
    return false;
}

static int spin(struct haul_drive *drive, uint64_t turn, uint64_t deadline_ns)
{
    uint64_t last_ns = drive->now_ns, gap_ns = 0;
    uint64_t end_ns = HAUL_MIN(drive->now_ns + drive->spin_max_ns, deadline_ns);
    int result;
    do {
        result = look(drive, turn);
        if (result == 0) {
            gap_ns = HAUL_MAX(gap_ns, drive->now_ns - last_ns);
            let_others_in(drive);
        }
        last_ns = drive->now_ns;
        if (drive->driver != turn)
            return HAUL_CLOSED;
    } while (result == 0 && drive->now_ns < end_ns);
    if (result != 0)
        drive->spin_score = HAUL_MIN(drive->spin_score + 8u, (unsigned)SPIN_SCORE_MAX);
    else
        drive->spin_score -= HAUL_MIN(drive->spin_score, 8u);
    if (is_crowded(drive, gap_ns > PREEMPTED_NS)) {
        drive->spin_backoff_ns =
            HAUL_MIN(HAUL_MAX(drive->spin_backoff_ns * 2, (uint64_t)HAUL_NS_PER_MS),
                     (uint64_t)100 * HAUL_NS_PER_MS);
        drive->spin_not_before_ns = drive->now_ns + drive->spin_backoff_ns;
    } else if (result != 0) {
        drive->spin_backoff_ns = 0;
    }
    return result;
}

/* ---- Turns ----------------------------------------------------------------------------------- */

static uint64_t begin_turn(struct haul_drive *drive, bool is_thread)
{
    bool takes_over = drive->driver != 0;
    drive->driver = ++drive->turns;
    drive->driver_is_thread = is_thread;
    drive->asleep = false;
    if (takes_over)
        haul_drive_wake(drive); /* the progress thread is asleep in our epoll set: out of it */
    return drive->driver;
}

static void wake_thread_in(struct haul_drive *drive, uint64_t ns)
{
    const struct itimerspec once = {.it_value.tv_nsec = (long)ns};
    timerfd_settime(drive->thread_fd, 0, &once, NULL);
}

/* Nobody drives: who waits must, or the progress thread. The waiter that is told may be one that
 * was told before, because its wait is over: it hands over in its turn. The thread may still sleep
 * in a turn that was taken from it, until a deadline of then: the wake-up at that time may have
 * been seen by who took it, and not by the thread. */
static void hand_over(struct haul_drive *drive)
{
    if (!haul_list_empty(&drive->waiters)) {
        tell(HAUL_LIST_FIRST(&drive->waiters, struct waiter, node));
    } else if (drive->thread_asleep) {
        drive->thread_asleep = false;
        wake_thread_in(drive, GRACE_NS);
    } else if (drive->thread_parked) {
        haul_drive_wake(drive);
    }
}

static void end_turn(struct haul_drive *drive, uint64_t turn)
{
    if (drive->driver != turn)
        return;
    drive->driver = 0;
    drive->left_ns = haul_now_ns();
    note_idle(drive, false);
    hand_over(drive);
}

static int next_pass(struct haul_drive *drive, uint64_t turn, bool idle, uint64_t deadline_ns)
{
    if (!idle)
        return look(drive, turn);
    if (spin_pays(drive)) {
        int result = spin(drive, turn, deadline_ns);
        if (result != 0)
            return result;
    }
    return pass(drive, turn, drive->changed ? 0 : sleep_ns(drive, deadline_ns));
}

/* Drives until ready(arg), the deadline, a signal, or the loss of the turn (AGAIN). */
static int drive_until(struct haul_drive *drive, bool (*ready)(void *arg), void *arg,
                       uint64_t deadline_ns)
{
    uint64_t turn = begin_turn(drive, false);
    int result = look(drive, turn);
    for (;;) {
        if (drive->driver != turn)
            return AGAIN;
        int end = AGAIN;
        if (ready(arg))
            end = 0;
        else if (drive->closed)
            end = HAUL_CLOSED;
        else if (result == HAUL_INTERRUPTED)
            end = HAUL_INTERRUPTED;
        else if (drive->now_ns >= deadline_ns && drive->quick_passes == 0)
            end = HAUL_TIMEOUT;
        if (end != AGAIN) {
            end_turn(drive, turn);
            return end;
        }
        result = drive->now_ns < deadline_ns
                     ? next_pass(drive, turn, result == 0, deadline_ns)
                     : pass(drive, turn, 0); /* in time's last moment all descriptors are asked */
    }
}

static struct waiter *take_waiter(struct haul_drive *drive)
{
    if (!haul_list_empty(&drive->idle_waiters))
        return HAUL_CONTAINER_OF(haul_list_pop(&drive->idle_waiters), struct waiter, node);
    struct waiter *made = calloc(1, sizeof *made);
    if (!made)
        return NULL;
    haul_list_init(&made->node);
    made->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (made->fd < 0) {
        free(made);
        return NULL;
    }
    return made;
}

/* Sleeps while another thread drives. AGAIN: look again. */
static int sleep_until_told(struct haul_drive *drive, bool (*ready)(void *arg), void *arg,
                            uint64_t deadline_ns)
{
    struct waiter *waiter = take_waiter(drive);
    if (!waiter)
        return haul_fail(HAUL_SYSTEM, "no descriptor to wait with: raise the limit of open files");
    waiter->ready = ready;
    waiter->arg = arg;
    waiter->told = false;
    haul_list_append(&drive->waiters, &waiter->node);
    uint64_t now = haul_now_ns();
    uint64_t left = deadline_ns > now ? deadline_ns - now : 0;
    struct timespec limit = {.tv_sec = (time_t)(left / HAUL_NS_PER_S),
                             .tv_nsec = (long)(left % HAUL_NS_PER_S)};
    pthread_mutex_unlock(&drive->lock);
    struct pollfd poll_fd = {.fd = waiter->fd, .events = POLLIN};
    int count = ppoll(&poll_fd, 1, deadline_ns == UINT64_MAX ? NULL : &limit, NULL);
    bool interrupted = count < 0 && errno == EINTR;
    pthread_mutex_lock(&drive->lock);
    uint64_t value;
    (void)!read(waiter->fd, &value, sizeof value);
    haul_list_remove(&waiter->node);
    haul_list_append(&drive->idle_waiters, &waiter->node);
    bool is_ready = ready(arg);
    if (!is_ready && !interrupted && haul_now_ns() < deadline_ns)
        return AGAIN;
    if (drive->driver == 0) /* told to drive on, maybe, but leaving */
        hand_over(drive);
    if (is_ready)
        return 0;
    return interrupted ? HAUL_INTERRUPTED : HAUL_TIMEOUT;
}

/* Without the lock, and not driving: the answer may take as long as it likes. */
static bool is_interrupted(struct haul_drive *drive)
{
    bool (*interrupted)(void *arg) = drive->interrupted;
    void *arg = drive->interrupted_arg;
    haul_drive_leave(drive);
    bool answer = interrupted(arg);
    haul_drive_enter(drive);
    return answer;
}

int haul_drive_wait(struct haul_drive *drive, bool (*ready)(void *arg), void *arg,
                    uint64_t deadline_ns)
{
    uint64_t ask_ns = drive->interrupted ? haul_now_ns() + ASK_NS : UINT64_MAX;
    for (;;) {
        if (ready(arg))
            return 0;
        if (drive->closed)
            return HAUL_CLOSED;
        bool driven = drive->driver != 0 && !drive->driver_is_thread;
        uint64_t until_ns = HAUL_MIN(deadline_ns, ask_ns);
        int result = driven ? sleep_until_told(drive, ready, arg, until_ns)
                            : drive_until(drive, ready, arg, until_ns);
        bool asks = result == HAUL_INTERRUPTED || (result == HAUL_TIMEOUT && ask_ns < deadline_ns);
        if (asks && drive->interrupted) {
            result = is_interrupted(drive) ? HAUL_INTERRUPTED : AGAIN;
            ask_ns = haul_now_ns() + ASK_NS;
        } else if (asks && result == HAUL_TIMEOUT) { /* there is nobody to ask any more */
            result = AGAIN;
            ask_ns = UINT64_MAX;
        }
        if (result != AGAIN)
            return result;
    }
}

void haul_drive_wait_through(struct haul_drive *drive, bool (*ready)(void *arg), void *arg,
                             uint64_t deadline_ns)
{
    while (haul_drive_wait(drive, ready, arg, deadline_ns) == HAUL_INTERRUPTED &&
           haul_now_ns() < deadline_ns)
        ;
}

void haul_drive_wait_always(struct haul_drive *drive, bool (*ready)(void *arg), void *arg)
{
    const struct timespec pause = {.tv_nsec = HAUL_NS_PER_MS};
    while (haul_drive_wait(drive, ready, arg, UINT64_MAX) != 0) {
        haul_drive_leave(drive); /* without a descriptor to wait with: who drives must go on */
        nanosleep(&pause, NULL);
        haul_drive_enter(drive);
    }
}

void haul_drive_interrupt(struct haul_drive *drive, bool (*interrupted)(void *arg), void *arg)
{
    drive->interrupted = interrupted;
    drive->interrupted_arg = arg;
}

/* ---- The progress thread --------------------------------------------------------------------- */

static bool nobody_drives(struct haul_drive *drive)
{
    return drive->driver == 0 && haul_now_ns() >= drive->left_ns + GRACE_NS;
}

static void thread_drives(struct haul_drive *drive)
{
    haul_drive_enter(drive);
    if (nobody_drives(drive) && !drive->thread_stop) {
        uint64_t turn = begin_turn(drive, true);
        while (drive->driver == turn && !drive->thread_stop)
            pass(drive, turn, sleep_ns(drive, UINT64_MAX));
        end_turn(drive, turn);
    }
    haul_drive_leave(drive);
}

/* A turn that has lasted this long goes on for a while: whoever drives, nobody has left lately. */
static bool turn_lasts(const struct haul_drive *drive)
{
    return drive->driver != 0 && haul_now_ns() >= drive->left_ns + GRACE_NS;
}

/* Whether it may sleep until this turn has ended, whose driver will see to that. */
static bool sleeps_through(struct haul_drive *drive)
{
    haul_drive_enter(drive);
    drive->thread_asleep = turn_lasts(drive) && !drive->thread_stop;
    bool asleep = drive->thread_asleep;
    haul_drive_leave(drive);
    return asleep;
}

/* Looks now and then whether somebody drives, and sleeps through a turn that lasts. It looks
 * without the lock, and less often while turns follow each other: each look may take the CPU from
 * who drives. */
static void thread_watches(struct haul_drive *drive, uint64_t *pause_ns)
{
    uint64_t expirations;
    bool asleep = turn_lasts(drive) && sleeps_through(drive);
    *pause_ns = asleep ? GRACE_NS : HAUL_MIN(*pause_ns * 2, PAUSE_MAX_NS);
    struct timespec pause = {.tv_nsec = (long)*pause_ns};
    struct pollfd poll_fd = {.fd = drive->thread_fd, .events = POLLIN};
    if (ppoll(&poll_fd, 1, asleep ? NULL : &pause, NULL) > 0)
        (void)!read(drive->thread_fd, &expirations, sizeof expirations);
}

static void thread_main(void *arg)
{
    struct haul_drive *drive = arg;
    uint64_t pause_ns = GRACE_NS;
    while (!drive->thread_stop) {
        if (nobody_drives(drive))
            thread_drives(drive);
        else
            thread_watches(drive, &pause_ns);
    }
}

/* ---- Life ------------------------------------------------------------------------------------ */

int haul_drive_init(struct haul_drive *drive, const struct haul_drive_work *work,
                    uint64_t spin_max_ns)
{
    struct haul_watch *watch;
    *drive = (struct haul_drive){.work = *work,
                                 .spin_max_ns = spin_max_ns,
                                 .spin_score = SPIN_SCORE_MAX / 2,
                                 .epoll_fd = epoll_create1(EPOLL_CLOEXEC),
                                 .wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
                                 .thread_fd =
                                     timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)};
    pthread_mutex_init(&drive->lock, NULL);
    haul_list_init(&drive->waiters);
    haul_list_init(&drive->idle_waiters);
    haul_list_init(&drive->watches);
    haul_list_init(&drive->dead_watches);
    int err = 0;
    if (drive->epoll_fd < 0 || drive->wake_fd < 0 || drive->thread_fd < 0)
        err =
            haul_fail(HAUL_SYSTEM, "cannot make the event loop's descriptors: %s", strerror(errno));
    if (!err)
        err = haul_drive_watch(drive, drive->wake_fd, EPOLLIN, woken, drive, &watch);
    if (!err)
        err = haul_thread_start(thread_main, drive, &drive->thread);
    if (err)
        haul_drive_destroy(drive);
    return err;
}

void haul_drive_close(struct haul_drive *drive)
{
    drive->closed = true;
    drive->changed = true;
}

void haul_drive_stop(struct haul_drive *drive)
{
    if (!drive->thread)
        return;
    haul_drive_enter(drive);
    drive->thread_stop = true;
    wake_thread_in(drive, 1);
    haul_drive_leave(drive);
    haul_drive_wake(drive);
    haul_thread_join(drive->thread);
    drive->thread = NULL;
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void haul_drive_destroy(struct haul_drive *drive)
{
    free_watches(&drive->watches);
    free_watches(&drive->dead_watches);
    while (!haul_list_empty(&drive->idle_waiters)) {
        struct waiter *waiter =
            HAUL_CONTAINER_OF(haul_list_pop(&drive->idle_waiters), struct waiter, node);
        close(waiter->fd);
        free(waiter);
    }
    close_fd(&drive->epoll_fd);
    close_fd(&drive->wake_fd);
    close_fd(&drive->thread_fd);
    pthread_mutex_destroy(&drive->lock);
}

void haul_drive_forked(struct haul_drive *drive)
{
    HAUL_LIST_EACH(&drive->watches, node)
    close(HAUL_CONTAINER_OF(node, struct haul_watch, node)->fd);
    HAUL_LIST_EACH(&drive->waiters, waiting)
    close(HAUL_CONTAINER_OF(waiting, struct waiter, node)->fd);
    HAUL_LIST_EACH(&drive->idle_waiters, idle)
    close(HAUL_CONTAINER_OF(idle, struct waiter, node)->fd);
    drive->wake_fd = -1; /* was watched */
    close_fd(&drive->epoll_fd);
    close_fd(&drive->thread_fd);
}
