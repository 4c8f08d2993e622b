# SPDX-License-Identifier: Apache-2.0
# How tests are declared: a folder's test_*.c, test_*.sh and test_*.py are its tests; programs/*.c are
# what its scripts run beside them.

# Generous: a hang must end, but no test may fail because a machine is slow.
set(HAUL_TEST_TIMEOUT_S 600)

# A malloc() of a size without sense fails, as it does without sanitizers.
set(sanitizers allocator_may_return_null=1)
find_program(HAUL_SYMBOLIZER NAMES llvm-symbolizer-14 llvm-symbolizer)
if(HAUL_SYMBOLIZER)
    string(APPEND sanitizers :external_symbolizer_path=${HAUL_SYMBOLIZER})
endif()

# What every test gets. The build tree's plugins and command are named here and nowhere in a binary.
set(leaks_of_net LSAN_OPTIONS=suppressions=${CMAKE_CURRENT_SOURCE_DIR}/lsan-net.supp:print_suppressions=0)
set(HAUL_TEST_ENVIRONMENT
    HAUL_PROVIDER_PATH=${HAUL_PROVIDER_OUTPUT_DIRECTORY}
    HAULTEST_COMMAND=${CMAKE_RUNTIME_OUTPUT_DIRECTORY}/haul
    HAULTEST_PYTHON=${HAUL_PYTHON}
    HAULTEST_SANITIZE=${HAUL_SANITIZE}
    PYTHONDONTWRITEBYTECODE=1
    ASAN_OPTIONS=detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1:${sanitizers}
    UBSAN_OPTIONS=print_stacktrace=1:${sanitizers}
    TSAN_OPTIONS=suppressions=${CMAKE_CURRENT_SOURCE_DIR}/tsan.supp:ignore_noninstrumented_modules=1:die_after_fork=0:${sanitizers})

# haul_register_test(<name> LABEL <label> COMMAND <command...> [ENVIRONMENT <NAME=value>...])
# Exit code 77 means: cannot run here.
function(haul_register_test name)
    cmake_parse_arguments(arg "" "LABEL" "COMMAND;ENVIRONMENT" ${ARGN})
    add_test(NAME ${name} COMMAND ${arg_COMMAND} WORKING_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR})
    if(name MATCHES "ofi:net$|^command_(bench|doctor)$")
        list(APPEND arg_ENVIRONMENT ${leaks_of_net})
    endif()
    set_tests_properties(${name} PROPERTIES LABELS ${arg_LABEL} TIMEOUT ${HAUL_TEST_TIMEOUT_S}
        SKIP_RETURN_CODE 77 ENVIRONMENT "${HAUL_TEST_ENVIRONMENT};${arg_ENVIRONMENT}")
endfunction()

# haul_register_railed_test(<name> LABEL <label> COMMAND <command...>)
# Once more, as <name>.rails.<provider>, on each provider that has rails without hardware.
function(haul_register_railed_test name)
    foreach(provider IN LISTS HAUL_RAILED_PROVIDERS)
        haul_register_test(${name}.rails.${provider} ${ARGN}
            ENVIRONMENT HAUL_PROVIDER=${provider} ${HAUL_RAILED_ENVIRONMENT})
    endforeach()
endfunction()

# haul_build_c_tests(<label> <result> LIBRARIES <targets>...)
# Builds each test_<x>.c of the folder as the program <label>_<x>; the folder's other *.c are linked into
# each. Sets <result> to the programs' targets.
function(haul_build_c_tests label result)
    cmake_parse_arguments(arg "" "" "LIBRARIES" ${ARGN})
    file(GLOB tests CONFIGURE_DEPENDS test_*.c)
    file(GLOB support CONFIGURE_DEPENDS *.c)
    if(tests)
        list(REMOVE_ITEM support ${tests})
    endif()
    if(support)
        add_library(${label}_support OBJECT ${support})
        target_include_directories(${label}_support PRIVATE . ${PROJECT_SOURCE_DIR})
        target_link_libraries(${label}_support PRIVATE haul_flags ${arg_LIBRARIES} PkgConfig::CMOCKA)
    endif()
    set(targets)
    foreach(test IN LISTS tests)
        string(REGEX REPLACE ".*/test_(.*)\\.c" "${label}_\\1" target ${test})
        add_executable(${target} ${test})
        set_target_properties(${target} PROPERTIES
            RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
        target_include_directories(${target} PRIVATE . ${PROJECT_SOURCE_DIR})
        target_link_libraries(${target} PRIVATE haul_flags ${arg_LIBRARIES} PkgConfig::CMOCKA
            Threads::Threads $<TARGET_NAME_IF_EXISTS:${label}_support>)
        list(APPEND targets ${target})
    endforeach()
    set(${result} ${targets} PARENT_SCOPE)
endfunction()

# haul_build_test_programs(LIBRARIES <targets>...)
# Builds each programs/<x>.c of the folder, which its scripts run, as tests/<x> of the build folder.
function(haul_build_test_programs)
    cmake_parse_arguments(arg "" "" "LIBRARIES" ${ARGN})
    file(GLOB programs CONFIGURE_DEPENDS programs/*.c)
    foreach(program IN LISTS programs)
        get_filename_component(target ${program} NAME_WE)
        add_executable(${target} ${program})
        set_target_properties(${target} PROPERTIES
            RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
        target_link_libraries(${target} PRIVATE haul_flags ${arg_LIBRARIES})
    endforeach()
endfunction()

# haul_add_script_tests(<label>)
# Registers the folder's test_*.sh and test_*.py.
function(haul_add_script_tests label)
    file(GLOB scripts CONFIGURE_DEPENDS test_*.sh test_*.py)
    foreach(script IN LISTS scripts)
        string(REGEX REPLACE ".*/test_(.*)\\.(sh|py)" "${label}_\\1" name ${script})
        if(script MATCHES "\\.sh$")
            haul_register_test(${name} LABEL ${label} COMMAND bash ${script})
        elseif(HAUL_PYTHON)
            haul_register_test(${name} LABEL ${label} COMMAND ${HAUL_PYTHON} ${script})
        endif()
    endforeach()
endfunction()
