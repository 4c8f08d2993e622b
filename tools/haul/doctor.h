/* SPDX-License-Identifier: Apache-2.0
 * `haul doctor`: what its checks share. A check looks at one thing and reports what it finds; it
 * never fails, prints nothing itself and changes nothing on the machine.
 *
 *   doctor.c              arguments, the list of checks, the report
 *   doctor_system.c       limits of the process and settings of the kernel
 *   doctor_fabric.c       RDMA devices and network interfaces, from sysfs
 *   doctor_environment.c  variables that libfabric and libibverbs read
 *   doctor_path.c         the path that a connection takes, by making one */
#ifndef HAUL_TOOL_DOCTOR_H
#define HAUL_TOOL_DOCTOR_H

#include <haul/haul.h>
#include <jansson.h>

struct haul_doctor {
    const char *root;    /* before /sys, /proc and /dev: "", or a recorded machine's folder */
    const char *address; /* of a server; NULL: this machine alone */
    int64_t timeout_ns;
    struct haul_options *options;
    json_t *findings; /* array of {area, state, found, advice} */
    json_t *path;     /* {path, why} of the connection; NULL: none was made */
    unsigned count[HAUL_FINDING_BROKEN + 1];
};

/* ---- doctor.c ------------------------------------------------------------------------------- */

/* One finding. advice: what to do, one line; NULL: nothing. Text is copied. One thread at a time.
 */
void haul_doctor_find(struct haul_doctor *doctor, enum haul_finding_state state, const char *area,
                      const char *advice, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

/* A setting's value as it is in force, "" if there is none of that name. Returns value. */
enum { HAUL_DOCTOR_TEXT = 256 };
const char *haul_doctor_setting(const struct haul_doctor *doctor, const char *name,
                                char value[HAUL_DOCTOR_TEXT]);

/* The first line of a file below the root, without white space at its end. */
bool haul_doctor_line(const struct haul_doctor *doctor, char line[HAUL_DOCTOR_TEXT],
                      const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Of the file's first line that begins with key: what follows, without white space around it. */
bool haul_doctor_field(const struct haul_doctor *doctor, const char *path, const char *key,
                       char value[HAUL_DOCTOR_TEXT]);
/* Whether a path below the root may be accessed so (F_OK, R_OK, W_OK). */
bool haul_doctor_access(const struct haul_doctor *doctor, int mode, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* What a folder below the root has, sorted; to be freed. A folder that is absent has nothing. */
struct haul_doctor_names {
    struct dirent **entries;
    int count;
};
struct haul_doctor_names haul_doctor_names(const struct haul_doctor *doctor, const char *format,
                                           ...) __attribute__((format(printf, 2, 3)));
void haul_doctor_names_free(struct haul_doctor_names *names);

/* ---- The checks ----------------------------------------------------------------------------- */

/* doctor_system.c */
void haul_doctor_memlock(struct haul_doctor *doctor);
void haul_doctor_files(struct haul_doctor *doctor);
void haul_doctor_huge_pages(struct haul_doctor *doctor);
void haul_doctor_ptrace(struct haul_doctor *doctor);
void haul_doctor_cgroup(struct haul_doctor *doctor);
/* doctor_fabric.c */
void haul_doctor_rdma(struct haul_doctor *doctor);
void haul_doctor_interfaces(struct haul_doctor *doctor);
bool haul_doctor_has_rdma(const struct haul_doctor *doctor);
/* doctor_environment.c */
void haul_doctor_environment(struct haul_doctor *doctor);
/* doctor_path.c; returns 0, or the exit code of the signal that ended it */
int haul_doctor_path(struct haul_doctor *doctor);

#endif
