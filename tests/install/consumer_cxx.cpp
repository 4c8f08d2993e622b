/* SPDX-License-Identifier: Apache-2.0
 * The same program, compiled as C++. */
#include "consumer.c"
