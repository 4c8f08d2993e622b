# SPDX-License-Identifier: Apache-2.0
# haul_flags: how every C file of haul is compiled. Never part of what is exported.
set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)

add_library(haul_flags INTERFACE)
target_compile_definitions(haul_flags INTERFACE _GNU_SOURCE)
target_compile_options(haul_flags INTERFACE
    -fvisibility=hidden -fno-strict-aliasing
    -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-compare
    $<$<COMPILE_LANGUAGE:C>:-Wstrict-prototypes -Wmissing-prototypes>
    $<$<BOOL:${WERROR}>:-Werror>)

if(HAUL_SANITIZE STREQUAL "address")
    set(sanitizer -fsanitize=address,undefined -fno-sanitize-recover=undefined)
elseif(HAUL_SANITIZE STREQUAL "thread")
    set(sanitizer -fsanitize=thread)
elseif(NOT HAUL_SANITIZE STREQUAL "none")
    message(FATAL_ERROR "HAUL_SANITIZE is \"${HAUL_SANITIZE}\"; it takes address, thread or none")
endif()
if(DEFINED sanitizer)
    add_compile_options(${sanitizer} -fno-omit-frame-pointer)
    add_link_options(${sanitizer})
endif()

if(BUILD_FUZZ)
    if(NOT CMAKE_C_COMPILER_ID STREQUAL "Clang")
        message(FATAL_ERROR "BUILD_FUZZ needs clang: configure with -DCMAKE_C_COMPILER=clang-14")
    endif()
    # The code under test is instrumented; only the fuzzers link libFuzzer's main().
    add_compile_options(-fsanitize=fuzzer-no-link)
endif()
