/* SPDX-License-Identifier: Apache-2.0
 * See pages.h. */
#include "pages.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

bool is_present(const void *base, size_t bytes)
{
    size_t pages = bytes / (size_t)sysconf(_SC_PAGESIZE);
    unsigned char *resident = malloc(pages);
    bool all = resident && mincore((void *)(uintptr_t)base, bytes, resident) == 0;
    for (size_t i = 0; all && i < pages; i++)
        all = resident[i] & 1;
    free(resident);
    return all;
}

/* From now on madvise(..., 23), MADV_POPULATE_WRITE, is unknown to the kernel. */
static bool forbid_populate(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_madvise, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 23, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

void run_without_populate(int (*run)(void))
{
    enum { NO_SECCOMP = 77 };
    int status;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(forbid_populate() ? run() : NO_SECCOMP);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == NO_SECCOMP) {
        print_message("the kernel has no seccomp filters\n");
        skip();
    }
    assert_int_equal(WEXITSTATUS(status), 0);
}
