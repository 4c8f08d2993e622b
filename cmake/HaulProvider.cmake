# SPDX-License-Identifier: Apache-2.0
# How providers are built: the same sources as a plugin of their own or as part of the library.

# haul_add_plugin(<name> [LIBRARIES <targets>...])
# Builds the folder's *.c as the plugin haul_<name>.so. A plugin may not need any symbol of core, so
# it is linked without it and with undefined symbols forbidden.
function(haul_add_plugin name)
    cmake_parse_arguments(arg "" "" "LIBRARIES" ${ARGN})
    file(GLOB sources CONFIGURE_DEPENDS *.c)
    if(NOT sources)
        message(STATUS "provider ${name}: no sources")
        return()
    endif()
    add_library(haul_${name}_objects OBJECT ${sources})
    set_target_properties(haul_${name}_objects PROPERTIES POSITION_INDEPENDENT_CODE ON)
    target_include_directories(haul_${name}_objects PRIVATE ${PROJECT_SOURCE_DIR}/include)
    target_link_libraries(haul_${name}_objects PRIVATE haul_flags PUBLIC ${arg_LIBRARIES})

    add_library(haul_${name} MODULE)
    target_link_libraries(haul_${name} PRIVATE haul_${name}_objects)
    set_target_properties(haul_${name} PROPERTIES PREFIX "" LINKER_LANGUAGE C
        LIBRARY_OUTPUT_DIRECTORY ${HAUL_PROVIDER_OUTPUT_DIRECTORY})
    if(HAUL_SANITIZE STREQUAL "none" AND NOT BUILD_FUZZ)
        # (Sanitizers resolve their runtime's symbols in the program.)
        target_link_options(haul_${name} PRIVATE -Wl,-z,defs)
    endif()
    install(TARGETS haul_${name} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/haul)
    set_property(GLOBAL APPEND PROPERTY HAUL_PLUGINS ${name})
endfunction()

# haul_add_optional_plugin(<name> <option> <module> <package>)
# The plugin of a library that pkg-config knows as <module>. <option> is AUTO (built if it is found),
# ON (it must be) or OFF. Left out, it says so.
function(haul_add_optional_plugin name option module package)
    if(NOT option)
        message(STATUS "provider ${name}: not built (it is OFF)")
        return()
    endif()
    string(TOUPPER ${name} prefix)
    if(option STREQUAL "AUTO")
        pkg_check_modules(${prefix} IMPORTED_TARGET GLOBAL ${module})
    else()
        pkg_check_modules(${prefix} REQUIRED IMPORTED_TARGET GLOBAL ${module})
    endif()
    if(NOT ${prefix}_FOUND)
        message(STATUS "provider ${name}: not built: ${module} was not found (Debian: ${package})")
        return()
    endif()
    haul_add_plugin(${name} LIBRARIES PkgConfig::${prefix} Threads::Threads)
endfunction()

# haul_add_builtin(<name>)
# Builds the folder's *.c into the library itself; its entry is haul_<name>_entry.
function(haul_add_builtin name)
    file(GLOB sources CONFIGURE_DEPENDS *.c)
    if(NOT sources)
        message(STATUS "provider ${name}: no sources")
        return()
    endif()
    add_library(haul_${name}_objects OBJECT ${sources})
    set_target_properties(haul_${name}_objects PROPERTIES POSITION_INDEPENDENT_CODE ON)
    target_include_directories(haul_${name}_objects PRIVATE ${PROJECT_SOURCE_DIR}/include)
    target_compile_definitions(haul_${name}_objects PRIVATE
        HAUL_PROVIDER_ENTRY_NAME=haul_${name}_entry)
    target_link_libraries(haul_${name}_objects PRIVATE haul_flags)
    set_property(GLOBAL APPEND PROPERTY HAUL_BUILTINS ${name})
endfunction()
