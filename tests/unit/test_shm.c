/* SPDX-License-Identifier: Apache-2.0
 * The provider `shm` and what a peer may do to it: a real instance, and a Unix socket of this test
 * that offers it files, good and bad. */
#include "shm_host.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

static const struct haul_rma_ops *ops;

/* ---- The stage: an instance, and an attacker that it attaches to ----------------------------- */

struct stage {
    struct haul_engine engine, other_engine;
    struct haul_link link, other_link;
    void *rma, *other, *peer;
    uint8_t blob[HAUL_RMA_ADDRESS_MAX];
    size_t blob_bytes;
    int listener, attacker;
    int files_before;
};

static int count_files(void)
{
    DIR *folder = opendir("/proc/self/fd");
    int count = 0;
    while (readdir(folder))
        count++;
    closedir(folder);
    return count;
}

static int listen_as_attacker(char name[NAME_BYTES])
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path + 1, "haul-", 5);
    snprintf(name, NAME_BYTES, "test-of-attackers-%d", (int)getpid());
    memset(name + strlen(name), '-', NAME_BYTES - strlen(name));
    memcpy(address.sun_path + 6, name, NAME_BYTES);
    int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    socklen_t size = offsetof(struct sockaddr_un, sun_path) + 6 + NAME_BYTES;
    assert_int_equal(bind(listener, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(listener, 8), 0);
    return listener;
}

/* Two instances, and a blob of the second that leads to the attacker. */
static void set_up(struct stage *stage)
{
    char name[NAME_BYTES];
    *stage = (struct stage){.engine = {.shm = "on", .threads = "1"},
                            .other_engine = {.shm = "on", .threads = "1"},
                            .attacker = -1};
    ops = shm_load();
    host_detail[0] = host_logged[0] = '\0';
    stage->files_before = count_files();
    assert_int_equal(ops->open(&stage->engine, "", &stage->rma), 0);
    assert_int_equal(ops->open(&stage->other_engine, "", &stage->other), 0);
    stage->listener = listen_as_attacker(name);
    stage->blob_bytes = sizeof stage->blob;
    assert_int_equal(
        ops->address(stage->other, &stage->other_link, stage->blob, &stage->blob_bytes), 0);
    memcpy(stage->blob + BLOB_NAME, name, NAME_BYTES);
}

static void attach(struct stage *stage)
{
    const struct shm_record welcome = {.type = WELCOME};
    struct shm_record ticket;
    assert_int_equal(
        ops->attach(stage->rma, stage->blob, stage->blob_bytes, &stage->link, &stage->peer), 0);
    stage->attacker = accept4(stage->listener, NULL, NULL, SOCK_CLOEXEC);
    assert_true(stage->attacker >= 0);
    assert_int_equal(recv(stage->attacker, &ticket, sizeof ticket, 0), sizeof ticket);
    assert_int_equal(ticket.type, TICKET);
    assert_int_equal(ticket.copies, 1);
    assert_int_equal(send(stage->attacker, &welcome, sizeof welcome, 0), sizeof welcome);
    shm_settle(&stage->engine, stage->rma);
}

static void tear_down(struct stage *stage)
{
    ops->lost(stage->rma, &stage->link);
    ops->lost(stage->other, &stage->other_link);
    if (stage->peer)
        ops->detach(stage->peer);
    ops->close(stage->rma);
    ops->close(stage->other);
    close(stage->listener);
    if (stage->attacker >= 0)
        close(stage->attacker);
    assert_int_equal(count_files(), stage->files_before);
}

static void assert_refused(struct stage *stage, const char *why)
{
    assert_int_equal(
        ops->attach(stage->rma, stage->blob, stage->blob_bytes, &stage->link, &stage->peer),
        HAUL_UNSUPPORTED);
    if (!strstr(host_detail, why))
        fail_msg("\"%s\" does not say \"%s\"", host_detail, why);
}

enum { BYTES = 2 << 20 };

enum kind { GOOD, UNSEALED, PARTLY_SEALED, SPARSE, PUNCHED, BEHIND_ITS_END };

static int make_file(enum kind kind, size_t bytes)
{
    int file = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL;
    assert_int_equal(ftruncate(file, (off_t)bytes), 0);
    for (size_t at = 0; kind != SPARSE && kind != BEHIND_ITS_END && at < bytes; at += 4096)
        assert_int_equal(pwrite(file, "", 1, (off_t)at), 1);
    if (kind == BEHIND_ITS_END) /* as many blocks as bytes, and none of them in the file */
        assert_int_equal(fallocate(file, FALLOC_FL_KEEP_SIZE, (off_t)bytes, (off_t)bytes), 0);
    if (kind == PUNCHED)
        assert_int_equal(fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 4096),
                         0);
    if (kind == GOOD)
        assert_int_equal(pwrite(file, "bytes", 5, 64), 5);
    if (kind == PARTLY_SEALED)
        seals = F_SEAL_SHRINK | F_SEAL_GROW;
    if (kind != UNSEALED)
        assert_int_equal(fcntl(file, F_ADD_SEALS, seals), 0);
    return file;
}

/* Sends a record with files, and lets the instance take it. */
static void send_record(struct stage *stage, const void *record, size_t bytes, const int *files,
                        size_t count)
{
    char control[CMSG_SPACE(4 * sizeof(int))] = {0};
    struct iovec part = {(void *)(uintptr_t)record, bytes};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (count > 0) {
        message.msg_control = control;
        message.msg_controllen = CMSG_SPACE(count * sizeof(int));
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        *header = (struct cmsghdr){CMSG_LEN(count * sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
        memcpy(CMSG_DATA(header), files, count * sizeof(int));
    }
    assert_int_equal(sendmsg(stage->attacker, &message, MSG_NOSIGNAL), (ssize_t)bytes);
    shm_settle(&stage->engine, stage->rma);
}

static void send_slab(struct stage *stage, uint64_t slab, uint64_t bytes, int file)
{
    const struct shm_record record = {.type = SLAB, .slab = slab, .bytes = bytes};
    send_record(stage, &record, sizeof record, &file, file >= 0);
    if (file >= 0)
        close(file);
}

enum { WAY_BYTES = 32 };

/* Of a slab; slab 0: of our own process. */
static void put_way(uint8_t way[WAY_BYTES], uint64_t slab, uint64_t place, uint64_t bytes)
{
    haul_put_u64(way, slab);
    haul_put_u64(way + 8, slab ? place : 0);
    haul_put_u64(way + 16, bytes);
    haul_put_u64(way + 24, slab ? 0 : place);
}

static int map(struct stage *stage, uint64_t slab, uint64_t offset, size_t bytes, const void **data,
               void **mapping)
{
    uint8_t way[WAY_BYTES];
    put_way(way, slab, offset, bytes);
    return ops->map(stage->peer, way, sizeof way, bytes, data, mapping);
}

static bool may_look(struct stage *stage, uint64_t slab, uint64_t offset, size_t bytes)
{
    const void *data;
    void *mapping;
    if (map(stage, slab, offset, bytes, &data, &mapping))
        return false;
    ops->unmap(mapping);
    return true;
}

/* ---- Files ----------------------------------------------------------------------------------- */

static void a_good_file_is_looked_at(void **state)
{
    (void)state;
    struct stage stage;
    const void *data;
    void *mapping;
    set_up(&stage);
    attach(&stage);
    send_slab(&stage, 5, BYTES, make_file(GOOD, BYTES));
    assert_int_equal(map(&stage, 5, 64, 5, &data, &mapping), 0);
    assert_memory_equal(data, "bytes", 5);
    assert_true(may_look(&stage, 5, BYTES - 64, 64));
    /* Its end, and the peer's: the view stays. */
    const struct shm_record gone = {.type = GONE, .slab = 5};
    send_record(&stage, &gone, sizeof gone, NULL, 0);
    assert_false(may_look(&stage, 5, 64, 5));
    close(stage.attacker);
    stage.attacker = -1;
    shm_settle(&stage.engine, stage.rma);
    ops->lost(stage.rma, &stage.link);
    ops->detach(stage.peer);
    stage.peer = NULL;
    assert_memory_equal(data, "bytes", 5);
    ops->unmap(mapping);
    tear_down(&stage);
}

static void ways_out_of_a_slab_are_refused(void **state)
{
    (void)state;
    static const uint64_t out[][2] = {
        {BYTES, 1},
        {BYTES - 64, 65},
        {1, 64}, /* (not aligned) */
        {UINT64_MAX - 63, 64},
        {0, BYTES + 1},
        {BYTES + 64, 0},
    };
    struct stage stage;
    set_up(&stage);
    attach(&stage);
    send_slab(&stage, 5, BYTES, make_file(GOOD, BYTES));
    for (size_t i = 0; i < sizeof out / sizeof *out; i++)
        assert_false(may_look(&stage, 5, out[i][0], (size_t)out[i][1]));
    assert_false(may_look(&stage, 4, 0, 64));
    assert_false(may_look(&stage, 0, 0, 64));
    assert_true(may_look(&stage, 5, 0, BYTES));
    tear_down(&stage);
}

/* Each ends the connection, with a sentence, and leaves no file open (tear_down() counts). */
static void assert_not_used(uint64_t slab, uint64_t bytes, int file, const char *why)
{
    struct stage stage;
    set_up(&stage);
    stage.files_before -= file >= 0;
    attach(&stage);
    send_slab(&stage, slab, bytes, file);
    if (!strstr(host_logged, why))
        fail_msg("\"%s\" does not say \"%s\"", host_logged, why);
    assert_false(may_look(&stage, slab, 0, 64));
    char byte;
    assert_int_equal(recv(stage.attacker, &byte, 1, 0), 0);
    tear_down(&stage);
}

static void bad_files_are_not_mapped(void **state)
{
    (void)state;
    int before = count_files();
    assert_not_used(5, BYTES, make_file(UNSEALED, BYTES), "not sealed");
    assert_not_used(5, BYTES, make_file(PARTLY_SEALED, BYTES), "not sealed");
    assert_not_used(5, BYTES, make_file(SPARSE, BYTES), "with holes");
    assert_not_used(5, BYTES, make_file(PUNCHED, BYTES), "with holes");
    assert_not_used(5, BYTES, make_file(BEHIND_ITS_END, BYTES), "with holes");
    assert_not_used(5, 2 * (uint64_t)BYTES, make_file(GOOD, BYTES), "another size");
    assert_not_used(5, 4096, make_file(GOOD, BYTES), "another size");
    assert_not_used(5, 0, make_file(GOOD, BYTES), "another size");
    assert_not_used(5, BYTES + 4096, make_file(GOOD, BYTES + 4096), "another size");
    assert_not_used(5, BYTES, open("/dev/zero", O_RDONLY | O_CLOEXEC), "not sealed");
    assert_not_used(5, BYTES, memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB),
                    "not sealed");
    assert_not_used(5, BYTES, -1, "cannot be one");
    assert_not_used(0, BYTES, make_file(GOOD, BYTES), "cannot be one");
    assert_int_equal(count_files(), before);
}

static void records_out_of_place_end_the_connection(void **state)
{
    (void)state;
    const struct shm_record unknown = {.type = GONE, .slab = 2};
    for (int i = 0; i < 5; i++) {
        struct stage stage;
        struct shm_record record = {.type = SLAB, .slab = 5, .bytes = BYTES};
        int files[] = {make_file(GOOD, BYTES), make_file(GOOD, BYTES)};
        size_t bytes = sizeof record, count = i == 0 ? 2 : 0;
        set_up(&stage);
        stage.files_before -= 2;
        attach(&stage);
        send_slab(&stage, 4, BYTES, make_file(GOOD, BYTES));
        if (i == 1)
            bytes = 7;
        if (i == 2)
            record.type = 77;
        if (i == 3) {
            record.slab = 4; /* again */
            count = 1;
        }
        if (i == 4) {
            send_slab(&stage, 5, BYTES, dup(files[0])); /* and its file once more */
            record.slab = 6;
            count = 1;
        }
        send_record(&stage, &unknown, sizeof unknown, NULL, 0); /* of which we were not told */
        assert_true(may_look(&stage, 4, 0, 64));
        assert_string_equal(host_logged, "");
        send_record(&stage, &record, bytes, files, count);
        assert_non_null(strstr(host_logged, "no more of its memory is looked at"));
        close(files[0]);
        close(files[1]);
        tear_down(&stage);
    }
}

/* ---- The handshake --------------------------------------------------------------------------- */

static void strange_places_are_refused(void **state)
{
    (void)state;
    static const struct {
        size_t at;
        const char *why;
    } cases[] = {{0, "another version"},         {8, "as another user"},
                 {12, "on another host"},        {28, "another PID namespace"},
                 {36, "another user namespace"}, {44, "another network namespace"},
                 {BLOB_PID, "another process"},  {BLOB_NAME, "cannot be reached"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct stage stage;
        set_up(&stage);
        stage.blob[cases[i].at] ^= 1;
        assert_refused(&stage, cases[i].why);
        tear_down(&stage);
    }
}

/* Each peer takes two descriptors, which are not to keep others from connecting. */
static void few_descriptors_are_left_to_connections(void **state)
{
    (void)state;
    struct stage stage;
    struct rlimit before, few;
    set_up(&stage);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    few = before;
    few.rlim_cur = 2 * (rlim_t)dup(0);
    close((int)(few.rlim_cur / 2));
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    assert_refused(&stage, "ulimit -n");
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    attach(&stage);
    tear_down(&stage);
}

static void fail_to_read(struct stage *stage, int err)
{
    const struct shm_record welcome = {.type = WELCOME};
    char from[64] = "secret", to[64] = "";
    uint8_t way[WAY_BYTES];
    int result = NOT_DONE;
    assert_int_equal(send(stage->attacker, &welcome, sizeof welcome, 0), sizeof welcome);
    put_way(way, 0, (uintptr_t)from, sizeof from);
    assert_int_equal(ops->read(stage->peer, way, sizeof way, 0, to, NULL, sizeof from, &result), 0);
    shm_settle(&stage->engine, stage->rma);
    assert_int_equal(result, NOT_DONE); /* that it has ended may be on its way */
    host_clock_ns += 1000000000;
    shm_settle(&stage->engine, stage->rma);
    assert_int_equal(result, err);
}

/* The number of our own process, and not its cookie: as if the number had been given anew, before
 * the handshake and after it. */
static void another_process_is_not_read(void **state)
{
    (void)state;
    struct stage stage;
    struct shm_record ticket;
    set_up(&stage);
    stage.blob[BLOB_COOKIE] ^= 1;
    assert_int_equal(ops->attach(stage.rma, stage.blob, stage.blob_bytes, &stage.link, &stage.peer),
                     0);
    stage.attacker = accept4(stage.listener, NULL, NULL, SOCK_CLOEXEC);
    assert_int_equal(recv(stage.attacker, &ticket, sizeof ticket, 0), sizeof ticket);
    assert_int_equal(ticket.copies, 0);
    fail_to_read(&stage, HAUL_UNSUPPORTED);
    tear_down(&stage);
    set_up(&stage);
    attach(&stage);
    *(uint8_t *)(uintptr_t)haul_get_u64(stage.blob + BLOB_COOKIE - 8) ^= 1;
    fail_to_read(&stage, HAUL_CLOSED);
    tear_down(&stage);
}

/* ---- Reads ----------------------------------------------------------------------------------- */

static void open_with_threads(struct stage *stage, const char *threads)
{
    ops->close(stage->rma);
    stage->engine = (struct haul_engine){.shm = "on", .threads = threads};
    assert_int_equal(ops->open(&stage->engine, "", &stage->rma), 0);
    attach(stage);
}

/* (Threads that help may have the last of it.) */
static int wait_for(struct stage *stage, const int *result)
{
    while (*result == NOT_DONE)
        shm_settle(&stage->engine, stage->rma);
    return *result;
}

static void copies_of_any_size_by_any_threads(void **state)
{
    (void)state;
    static const char *const threads[] = {"1", "2", "3", "5"};
    static const size_t sizes[] = {1, 4097, 1 << 20, (4 << 20) + 63, (9 << 20) + 1};
    for (size_t t = 0; t < 4; t++) {
        struct stage stage;
        set_up(&stage);
        open_with_threads(&stage, threads[t]);
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            uint8_t *from = malloc(sizes[s]), *to = calloc(1, sizes[s] + 1), way[WAY_BYTES];
            int result = NOT_DONE;
            for (size_t i = 0; i < sizes[s]; i++)
                from[i] = (uint8_t)(i * 7 + i / 4096);
            put_way(way, 0, (uintptr_t)from, sizes[s]);
            assert_int_equal(ops->read(stage.peer, way, sizeof way, 0, to, NULL, sizes[s], &result),
                             0);
            assert_int_equal(wait_for(&stage, &result), 0);
            assert_memory_equal(from, to, sizes[s]);
            assert_int_equal(to[sizes[s]], 0);
            free(from);
            free(to);
        }
        tear_down(&stage);
    }
}

enum { LARGE = 32 << 20, SLAB_OF_TEST = 4 };

/* A read of a large slab that has begun. */
static void begin_read(struct stage *stage, void *to, int *result)
{
    uint8_t way[WAY_BYTES];
    *result = NOT_DONE;
    put_way(way, SLAB_OF_TEST, 0, LARGE);
    assert_int_equal(ops->read(stage->peer, way, sizeof way, 0, to, NULL, LARGE, result), 0);
    ops->progress(stage->rma);
}

/* A fence ends a read soon, and not before its memory is left alone. */
static void nothing_is_copied_after_a_fence(void **state)
{
    (void)state;
    struct stage stage;
    int result;
    set_up(&stage);
    open_with_threads(&stage, "1");
    send_slab(&stage, SLAB_OF_TEST, LARGE, make_file(GOOD, LARGE));
    uint8_t *to = malloc(LARGE);
    memset(to, 1, LARGE);
    begin_read(&stage, to, &result);
    ops->fence(stage.peer);
    assert_int_equal(wait_for(&stage, &result), HAUL_CANCELLED);
    assert_int_equal(to[0], 0);
    assert_int_equal(to[LARGE - 1], 1); /* what nobody had begun */
    free(to);
    tear_down(&stage);
}

/* The same with threads that are in the middle of it. */
static void threads_copy_nothing_after_a_fence(void **state)
{
    (void)state;
    struct stage stage;
    set_up(&stage);
    open_with_threads(&stage, "4");
    send_slab(&stage, SLAB_OF_TEST, LARGE, make_file(GOOD, LARGE));
    for (int i = 0; i < 20; i++) {
        int result;
        void *to = mmap(NULL, LARGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        begin_read(&stage, to, &result);
        ops->fence(stage.peer);
        wait_for(&stage, &result);
        assert_true(result == HAUL_CANCELLED || result == 0); /* (threads may have been quick) */
        munmap(to, LARGE); /* a thread that still writes there ends this test */
    }
    tear_down(&stage);
}

/* A slab stays while it is being copied out of, also when its peer takes it back or is lost. */
static void a_slab_stays_while_it_is_read(void **state)
{
    (void)state;
    for (int lost = 0; lost < 2; lost++) {
        struct stage stage;
        const struct shm_record gone = {.type = GONE, .slab = SLAB_OF_TEST};
        uint8_t *to = calloc(1, LARGE);
        int result;
        set_up(&stage);
        open_with_threads(&stage, "2");
        send_slab(&stage, SLAB_OF_TEST, LARGE, make_file(GOOD, LARGE));
        begin_read(&stage, to, &result);
        if (lost)
            ops->lost(stage.rma, &stage.link);
        else
            send_record(&stage, &gone, sizeof gone, NULL, 0);
        assert_int_equal(wait_for(&stage, &result), 0);
        assert_memory_equal(to + 64, "bytes", 5);
        assert_false(may_look(&stage, SLAB_OF_TEST, 0, 64));
        tear_down(&stage);
        free(to);
    }
}

/* What is in a slab that could not be mapped here is read where it is in the peer's process. */
static void without_descriptors_slabs_are_copied(void **state)
{
    (void)state;
    struct stage stage;
    struct rlimit before, none;
    char from[64] = "bytes", to[64] = "";
    uint8_t way[WAY_BYTES];
    int result = NOT_DONE, file = make_file(GOOD, BYTES);
    set_up(&stage);
    stage.files_before--;
    attach(&stage);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    int next = dup(0);
    close(next);
    none = before;
    none.rlim_cur = (rlim_t)next;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    send_slab(&stage, SLAB_OF_TEST, BYTES, file);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_non_null(strstr(host_logged, "ulimit -n"));
    assert_false(may_look(&stage, SLAB_OF_TEST, 0, 64));
    put_way(way, SLAB_OF_TEST, 0, sizeof from);
    haul_put_u64(way + 24, (uintptr_t)from);
    assert_int_equal(ops->read(stage.peer, way, sizeof way, 0, to, NULL, sizeof to, &result), 0);
    assert_int_equal(wait_for(&stage, &result), 0);
    assert_memory_equal(from, to, sizeof from);
    send_slab(&stage, SLAB_OF_TEST + 1, BYTES, make_file(GOOD, BYTES)); /* as good as ever */
    assert_true(may_look(&stage, SLAB_OF_TEST + 1, 0, 64));
    tear_down(&stage);
}

/* Who does not know the ticket has named another process's socket as its own. */
static void nothing_is_read_without_a_welcome(void **state)
{
    (void)state;
    struct stage stage;
    char from[64] = "secret", to[64] = "";
    uint8_t way[WAY_BYTES];
    int result = NOT_DONE;
    set_up(&stage);
    assert_int_equal(ops->attach(stage.rma, stage.blob, stage.blob_bytes, &stage.link, &stage.peer),
                     0);
    put_way(way, 0, (uintptr_t)from, sizeof from);
    assert_int_equal(ops->read(stage.peer, way, sizeof way, 0, to, NULL, sizeof from, &result), 0);
    shm_settle(&stage.engine, stage.rma);
    assert_int_equal(result, NOT_DONE);
    close(accept4(stage.listener, NULL, NULL, SOCK_CLOEXEC));
    shm_settle(&stage.engine, stage.rma);
    host_clock_ns += 1000000000; /* that it has ended may be on its way */
    assert_int_equal(wait_for(&stage, &result), HAUL_PROTOCOL);
    assert_string_equal(to, "");
    tear_down(&stage);
}

static void memory_that_is_not_there(void **state)
{
    (void)state;
    struct stage stage;
    char to[64];
    uint8_t way[WAY_BYTES];
    int result = NOT_DONE;
    set_up(&stage);
    attach(&stage);
    put_way(way, 0, 4096, sizeof to);
    assert_int_equal(ops->read(stage.peer, way, sizeof way, 0, to, NULL, sizeof to, &result), 0);
    shm_settle(&stage.engine, stage.rma);
    ops->fence(stage.peer); /* the news that it was waiting for */
    shm_settle(&stage.engine, stage.rma);
    assert_int_equal(result, HAUL_CANCELLED);
    result = NOT_DONE;
    assert_int_equal(ops->read(stage.peer, way, sizeof way, 0, to, NULL, sizeof to, &result), 0);
    shm_settle(&stage.engine, stage.rma);
    host_clock_ns += 1000000000;
    shm_settle(&stage.engine, stage.rma);
    assert_int_equal(result, HAUL_PROTOCOL);
    assert_int_equal(ops->read(stage.peer, way, sizeof way, 1, to, NULL, sizeof to, &result),
                     HAUL_PROTOCOL);
    assert_int_equal(ops->read(stage.peer, way, 23, 0, to, NULL, 1, &result), HAUL_PROTOCOL);
    tear_down(&stage);
}

static void settings_are_checked(void **state)
{
    (void)state;
    static const struct {
        const char *shm, *threads, *why;
        int err;
    } cases[] = {{"off", "1", "HAUL_SHM is off", HAUL_UNSUPPORTED},
                 {"maybe", "1", "on or off", HAUL_CONFIG},
                 {"on", "0", "1 to 64", HAUL_CONFIG},
                 {"on", "65", "1 to 64", HAUL_CONFIG},
                 {"on", "2x", "1 to 64", HAUL_CONFIG},
                 {"on", "", "1 to 64", HAUL_CONFIG}};
    ops = shm_load();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct haul_engine engine = {.shm = cases[i].shm, .threads = cases[i].threads};
        void *rma;
        assert_int_equal(ops->open(&engine, "", &rma), cases[i].err);
        assert_non_null(strstr(host_detail, cases[i].why));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_file_is_looked_at),
        cmocka_unit_test(ways_out_of_a_slab_are_refused),
        cmocka_unit_test(bad_files_are_not_mapped),
        cmocka_unit_test(records_out_of_place_end_the_connection),
        cmocka_unit_test(strange_places_are_refused),
        cmocka_unit_test(few_descriptors_are_left_to_connections),
        cmocka_unit_test(another_process_is_not_read),
        cmocka_unit_test(copies_of_any_size_by_any_threads),
        cmocka_unit_test(nothing_is_copied_after_a_fence),
        cmocka_unit_test(threads_copy_nothing_after_a_fence),
        cmocka_unit_test(a_slab_stays_while_it_is_read),
        cmocka_unit_test(without_descriptors_slabs_are_copied),
        cmocka_unit_test(nothing_is_read_without_a_welcome),
        cmocka_unit_test(memory_that_is_not_there),
        cmocka_unit_test(settings_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
